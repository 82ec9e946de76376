"""Each planted fault is found where it was planted, and a clean recording has no findings."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from crossroads import cli
from crossroads.data.audit import Audit, audit
from crossroads.data.findings import IMPACT, Kind
from crossroads.data.indicators import _saturation, folds, units
from crossroads.data.lerobot import Episode
from crossroads.data.readout import ridge_r2
from crossroads.data.writer import LeRobotWriter
from crossroads.space import ActionSpace

SPACE = ActionSpace(
    robot="dot",
    action_names=("dx", "dy", "grip"),
    action_units=("m", "m", "1"),
    low=(-5.0, -5.0, -1.0),
    high=(5.0, 5.0, 1.0),
    state_names=("x", "y", "opening"),
    control_hz=10.0,
)
FPS, NUM, LENGTH = 10, 16, 40


@dataclass(kw_only=True)
class Take:
    """One episode of a point that is pushed about; the picture shows where it is. Faults are planted by changing it."""

    frames: np.ndarray
    state: np.ndarray
    actions: np.ndarray
    text: str
    session: int
    action_free: bool = False


def _take(index: int, *, move: np.ndarray | None = None) -> Take:
    rng = np.random.default_rng(index)
    push = rng.normal(size=(LENGTH, 2)) * 0.02 if move is None else move
    grip = np.where(np.arange(LENGTH) % 20 < 10, 1.0, -1.0)
    actions = np.column_stack([push, grip])
    change = np.column_stack([push, grip * 0.01])
    start = np.array([[0.0, 0.0, 0.5]])
    state = np.concatenate([start, start + np.cumsum(change, axis=0)[:-1]])
    return Take(
        frames=_drawn(state),
        state=state,
        actions=actions,
        text=("push left", "push right")[index % 2],
        session=index // 4,
    )


def _drawn(state: np.ndarray) -> np.ndarray:
    """The left half is as bright as x is large, the right half as y: linear, so that a linear read-out can see it."""
    x, y = (128 + 300 * state[:, axis, None, None].clip(-0.4, 0.4) for axis in (0, 1))
    left = np.arange(48)[None, None, :] < 24
    grey = np.where(left, x, y) + np.zeros((1, 48, 1))
    return np.repeat(grey[..., None], 3, axis=-1).astype(np.uint8)


def _written(path: Path, takes: list[Take]) -> Path:
    with LeRobotWriter(path, fps=FPS, cameras={"front": (48, 48)}, space=SPACE) as writer:
        for take in takes:
            writer.add_episode(
                images={"front": take.frames},
                state=take.state.astype(np.float32),
                actions=take.actions.astype(np.float32),
                text=take.text,
                session=take.session,
                action_free=take.action_free,
            )
    return path


def _audited(path: Path, takes: list[Take]) -> Audit:
    return audit(_written(path, takes))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSROADS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def takes() -> list[Take]:
    return [_take(index) for index in range(NUM)]


def test_a_clean_recording_has_no_findings_and_its_future_tells_the_action(tmp_path: Path, takes: list[Take]) -> None:
    found = _audited(tmp_path / "clean", takes)
    assert found.findings == ()
    told = found.indicators
    assert told.held_out == "sessions"
    assert told.gap is not None
    assert told.gap.gap > 0.3, "the way is random now and visible afterwards"
    assert told.gap.low < told.gap.gap < told.gap.high
    assert told.saturation is not None
    assert [num for num, _, _ in told.saturation.curve] == [2, 4, 8, 12]
    assert told.leakage is not None
    assert told.leakage.num == NUM
    assert told.leakage.p_value > 0.01, "the first picture is the same for both instructions"


def _out_of_range(takes: list[Take]) -> None:
    takes[5].actions[7, 0] = 0.3


def _beyond_the_limits(takes: list[Take]) -> None:
    takes[5].actions[7, 2] = 1.1


def _gripper(takes: list[Take]) -> None:
    for take in takes[8:12]:
        take.actions[:, 2] *= -1


def _sign_flip(takes: list[Take]) -> None:
    for take in takes[3:5]:
        take.actions[:, 1] *= -1


def _change_point(takes: list[Take]) -> None:
    takes += [_take(index) for index in range(NUM, NUM + 8)]
    for take in takes[6:14]:
        take.actions[:, 1] += 0.03


def _wilder(takes: list[Take]) -> None:
    takes += [_take(index) for index in range(NUM, NUM + 8)]
    for take in takes[6:14]:
        take.actions[:, 0] *= 3


def _duplicate(takes: list[Take]) -> None:
    takes[13] = takes[2]


def _near_duplicate(takes: list[Take]) -> None:
    copy = _take(2)
    noise = 0.0005 * np.random.default_rng(0).normal(size=(LENGTH - 3, 3))
    takes[13].actions, takes[13].state = copy.actions[3:] + noise, copy.state[3:]
    takes[13].frames = copy.frames[3:]


def _film_twice(takes: list[Take]) -> None:
    for index in (13, 15):
        takes[index] = _take(2)
        takes[index].action_free = True


def _stuck_camera(takes: list[Take]) -> None:
    takes[6].frames[10:36] = takes[6].frames[10]


def _static(takes: list[Take]) -> None:
    still = _take(9, move=np.concatenate([np.full((10, 2), 0.01), np.zeros((LENGTH - 10, 2))]))
    still.actions[:, 2] = 1.0
    still.state[:, 2] = 0.5
    takes[9] = still


def _teleport(takes: list[Take]) -> None:
    takes[3].state[21:, 0] += 1.0


def _cut(takes: list[Take]) -> None:
    takes[7].frames[21:] = 255 - takes[7].frames[21:]


def _desynchronised(takes: list[Take]) -> None:
    for take in takes[11:15]:
        take.frames = np.concatenate([np.repeat(take.frames[:1], 3, axis=0), take.frames[:-3]])


def _leaking(takes: list[Take]) -> None:
    for take in takes:
        take.frames[..., :4, :4, :] = 255 if take.text == "push left" else 0


Frames = tuple[tuple[int, int], ...]


@pytest.mark.parametrize(
    ("kind", "plant", "episodes", "frames"),
    [
        ("out of range", _out_of_range, (5,), ((7, 7),)),
        ("out of range", _beyond_the_limits, (5,), ((7, 7),)),
        ("gripper polarity", _gripper, (8, 9, 10, 11), ()),
        ("sign flip", _sign_flip, (3, 4), ()),
        ("change point", _change_point, tuple(range(6, 14)), ()),
        ("change point", _wilder, tuple(range(6, 14)), ()),
        ("duplicate", _duplicate, (2, 13), ()),
        ("duplicate", _near_duplicate, (2, 13), ()),
        ("duplicate", _film_twice, (13, 15), ()),
        ("stuck camera", _stuck_camera, (6,), ((10, 35),)),
        ("static", _static, (9,), ((10, 39),)),
        ("teleport", _teleport, (3,), ((20, 21),)),
        ("teleport", _cut, (7,), ((20, 21),)),
        ("desynchronised", _desynchronised, (11, 12, 13, 14), ()),
        ("leakage", _leaking, tuple(range(NUM)), ((0, 0),) * NUM),
    ],
)
def test_a_planted_fault_and_nothing_else_is_found_exactly_where_it_is(
    tmp_path: Path,
    takes: list[Take],
    kind: Kind,
    plant: Callable[[list[Take]], None],
    episodes: tuple[int, ...],
    frames: Frames,
) -> None:
    plant(takes)
    found = _audited(tmp_path / "faulty", takes)
    assert [(it.kind, it.episodes, it.frames) for it in found.findings] == [(kind, episodes, frames)]
    assert all(told in str(found) for told in IMPACT[kind])


def test_two_faults_at_once_are_both_found(tmp_path: Path, takes: list[Take]) -> None:
    _gripper(takes)
    _stuck_camera(takes)
    found = _audited(tmp_path / "faulty", takes)
    assert {it.kind: it.episodes for it in found.findings} == {"gripper polarity": (8, 9, 10, 11), "stuck camera": (6,)}


def test_a_stretch_longer_than_another_episode_is_still_judged(tmp_path: Path, takes: list[Take]) -> None:
    _stuck_camera(takes)
    short = takes[3]
    short.frames, short.state, short.actions = short.frames[:12], short.state[:12], short.actions[:12]
    found = _audited(tmp_path / "faulty", takes)
    assert [(it.kind, it.episodes) for it in found.findings] == [("stuck camera", (6,))]


def test_numbers_that_never_change_leave_the_pictures_to_decide(tmp_path: Path, takes: list[Take]) -> None:
    for take in takes:
        take.state, take.actions = 0 * take.state, 0 * take.actions
    takes[13].frames = takes[2].frames
    found = _audited(tmp_path / "limp", takes)
    assert [(it.kind, it.episodes) for it in found.findings] == [("duplicate", (2, 13))]
    assert any("timing" in note for note in found.notes)


def test_a_recording_without_a_state_is_audited_by_its_actions_and_pictures(tmp_path: Path, takes: list[Take]) -> None:
    _cut(takes)
    info = _written(tmp_path / "stateless", takes) / "meta" / "info.json"
    plain = json.loads(info.read_text())
    del plain["features"]["observation.state"]
    info.write_text(json.dumps(plain))
    assert [(it.kind, it.episodes) for it in audit(tmp_path / "stateless").findings] == [("teleport", (7,))]


def test_a_wrong_sign_is_not_told_again_as_a_change_of_the_mean(tmp_path: Path, takes: list[Take]) -> None:
    takes += [_take(index) for index in range(NUM, NUM + 8)]
    for take in takes:
        grip = np.where(np.arange(LENGTH) % 20 < 15, 1.0, -1.0)
        take.actions[:, 2] = grip
        take.state[:, 2] = 0.5 + 0.01 * np.concatenate([[0.0], np.cumsum(grip)[:-1]])
    for take in takes[6:14]:
        take.actions[:, 2] *= -1
    found = _audited(tmp_path / "faulty", takes)
    assert [(it.kind, it.episodes) for it in found.findings] == [("gripper polarity", tuple(range(6, 14)))]


def test_a_camera_that_was_stuck_is_not_said_to_jump_as_well(tmp_path: Path, takes: list[Take]) -> None:
    takes[6] = _take(6, move=np.column_stack([np.full(LENGTH, 0.02), np.full(LENGTH, -0.01)]))
    takes[6].frames[5:20] = takes[6].frames[5]
    found = _audited(tmp_path / "faulty", takes)
    assert [(it.kind, it.episodes, it.frames) for it in found.findings] == [("stuck camera", (6,), ((5, 19),))]


def test_without_recorded_sessions_a_fault_in_neighbouring_episodes_is_still_found(
    tmp_path: Path, takes: list[Take]
) -> None:
    _gripper(takes)
    for take in takes:
        take.session = 0
    found = _audited(tmp_path / "unnamed", takes)
    assert [(it.kind, it.episodes) for it in found.findings] == [("gripper polarity", (8, 9, 10, 11))]
    assert found.indicators.held_out == "blocks"


def test_a_camera_need_not_see_what_only_the_gripper_does(tmp_path: Path, takes: list[Take]) -> None:
    for take in takes[::3]:
        take.state[20:, :2] = take.state[20, :2]
        take.actions[20:, :2] = 0.0
        take.frames = _drawn(take.state)
    assert "stuck camera" not in {it.kind for it in _audited(tmp_path / "grasping", takes).findings}


def test_an_inverse_model_that_needs_few_demonstrations_is_saturated_early() -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(6, 2))

    def rows(noise: float) -> dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        made = {}
        for index in range(40):
            x = rng.normal(size=(6, 6))
            made[index] = (x[:, :2], x, x @ weights + noise * rng.normal(size=(6, 2)))
        return made

    way = (tuple(range(30)), tuple(range(30, 40)))
    easy = _saturation(rows(0.0), way, lambda done: None)
    hard = _saturation(rows(3.0), way, lambda done: None)
    assert easy.enough is not None
    assert easy.enough <= 8
    assert easy.last_doubling < 0.02
    assert easy.low is not None
    assert easy.high is not None
    assert easy.low <= easy.enough <= easy.high
    assert hard.enough is None or hard.enough > easy.enough


def test_what_nothing_explains_has_no_number_that_is_enough() -> None:
    rng = np.random.default_rng(0)
    rows = {i: (rng.normal(size=(6, 2)), rng.normal(size=(6, 4)), rng.normal(size=(6, 2))) for i in range(40)}
    assert _saturation(rows, (tuple(range(30)), tuple(range(30, 40))), lambda done: None).enough is None


@pytest.mark.parametrize("sessions", [[0] * 50 + [1] * 10, [0, 1, 2, 3, 4, 5] * 10, [0] * 60])
def test_no_session_or_block_is_on_both_sides_and_at_least_half_is_left_to_fit_on(sessions: list[int]) -> None:
    episodes = [
        Episode(index=i, length=10, text=f"task {i // 12}", session=session, action_free=False, start=10 * i)
        for i, session in enumerate(sessions)
    ]
    kind, unit = units(episodes)
    assert kind == ("sessions" if len(set(sessions)) > 1 else "blocks")
    ways = folds(unit)
    assert ways
    for fit, held in ways:
        assert not {unit[i] for i in fit} & {unit[i] for i in held}
        assert len(fit) >= 30
        if kind == "blocks":
            assert {episodes[i].text for i in fit} == {episodes[i].text for i in held}, (
                "every instruction on both sides"
            )


def test_a_recording_too_small_for_indicators_says_so(tmp_path: Path, takes: list[Take]) -> None:
    found = _audited(tmp_path / "small", takes[:3])
    assert found.indicators.gap is None
    assert "need 8 labelled episodes" in str(found)
    assert found.notes == (
        "camera front: timing against the state not judged (too few episodes, or too little motion)",
    )


def test_the_command_writes_all_of_it_as_json_and_leaves_with_status_0(
    tmp_path: Path, takes: list[Take], capsys: pytest.CaptureFixture[str]
) -> None:
    _teleport(takes)
    path, file = _written(tmp_path / "faulty", takes), tmp_path / "found.json"
    assert cli.main(["audit", "--data", str(path), "--json", str(file), "--quiet"]) == 0
    assert "teleport" in capsys.readouterr().out
    plain = json.loads(file.read_text())
    (finding,) = plain["findings"]
    assert (finding["kind"], finding["episodes"], finding["frames"]) == ("teleport", [3], [[20, 21]])
    assert (finding["to_a_vla"], finding["to_a_wam"]) == IMPACT["teleport"]
    assert plain["indicators"]["saturation"]["curve"][-1][0] == 12


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["audit"], "--data or --pilots"),
        (["audit", "--pilots", "nowhere"], "report.json"),
        (["audit", "--json", "x.json", "--pilots", "nowhere"], "--data beside --json"),
        (["audit", "--data", "nowhere", "--json", "no/such/folder/x.json"], "an existing folder"),
    ],
)
def test_an_audit_of_nothing_says_what_to_give(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    assert said in capsys.readouterr().err


def test_a_ridge_read_out_recovers_a_line_and_scores_nothing_on_noise() -> None:
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(200, 12)), rng.normal(size=(12, 2))
    y = x @ weights
    assert ridge_r2(x[:150], y[:150], x[150:], y[150:]) > 0.95
    assert ridge_r2(x[:150], rng.normal(size=(150, 2)), x[150:], rng.normal(size=(50, 2))) < 0.2
