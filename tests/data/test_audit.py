"""Each planted fault is found where it was planted, and a clean recording has no findings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from crossroads.data.audit import IMPACT, Audit, Kind, audit
from crossroads.data.readout import ridge_r2
from crossroads.data.writer import LeRobotWriter
from crossroads.space import ActionSpace

SPACE = ActionSpace(
    robot="dot",
    action_names=("dx", "dy", "grip"),
    action_units=("m", "m", "1"),
    low=(-1.0, -1.0, -1.0),
    high=(1.0, 1.0, 1.0),
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
    x, y = (128 + 150 * state[:, axis, None, None].clip(-0.8, 0.8) for axis in (0, 1))
    left = np.arange(48)[None, None, :] < 24
    grey = np.where(left, x, y) + np.zeros((1, 48, 1))
    return np.repeat(grey[..., None], 3, axis=-1).astype(np.uint8)


def _audited(path: Path, takes: list[Take]) -> Audit:
    with LeRobotWriter(path, fps=FPS, cameras={"front": (48, 48)}, space=SPACE) as writer:
        for take in takes:
            writer.add_episode(
                images={"front": take.frames},
                state=take.state.astype(np.float32),
                actions=take.actions.astype(np.float32),
                text=take.text,
                session=take.session,
                action_free=False,
            )
    return audit(path)


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
    assert told.r2_present is not None
    assert told.r2_future is not None
    assert told.r2_future > told.r2_present + 0.3, "the way is random now and visible afterwards"
    assert told.saturation[-1][0] == 12
    assert told.leakage is not None
    assert told.leakage[0] <= 3, "the first picture is the same for both instructions"


def _out_of_range(takes: list[Take]) -> None:
    takes[5].actions[7, 0] = 3.0


def _sign_flip(takes: list[Take]) -> None:
    for take in takes[8:12]:
        take.actions[:, 2] *= -1


def _session_shift(takes: list[Take]) -> None:
    for take in takes[4:8]:
        take.actions[:, 1] += 0.03


def _duplicate(takes: list[Take]) -> None:
    takes[13] = takes[2]


def _stuck_camera(takes: list[Take]) -> None:
    takes[6].frames[10:36] = takes[6].frames[10]


def _static(takes: list[Take]) -> None:
    still = _take(9, move=np.concatenate([np.full((10, 2), 0.01), np.zeros((LENGTH - 10, 2))]))
    still.actions[:, 2] = 1.0
    still.state[:, 2] = 0.5
    takes[9] = still


def _teleport(takes: list[Take]) -> None:
    takes[3].state[21:, 0] += 1.0


def _desynchronised(takes: list[Take]) -> None:
    for take in takes[12:16]:
        take.frames = np.concatenate([np.repeat(take.frames[:1], 3, axis=0), take.frames[:-3]])


@pytest.mark.parametrize(
    ("kind", "plant", "episodes"),
    [
        ("out of range", _out_of_range, (5,)),
        ("sign flip", _sign_flip, (8, 9, 10, 11)),
        ("session shift", _session_shift, (4, 5, 6, 7)),
        ("duplicate", _duplicate, (2, 13)),
        ("stuck camera", _stuck_camera, (6,)),
        ("static", _static, (9,)),
        ("teleport", _teleport, (3,)),
        ("desynchronised", _desynchronised, (12, 13, 14, 15)),
    ],
)
def test_a_planted_fault_is_found_in_its_episodes(
    tmp_path: Path, takes: list[Take], kind: Kind, plant: Callable[[list[Take]], None], episodes: tuple[int, ...]
) -> None:
    plant(takes)
    found = _audited(tmp_path / "faulty", takes)
    (finding,) = [finding for finding in found.findings if finding.kind == kind]
    assert finding.episodes == episodes
    assert all(told in str(finding) for told in IMPACT[kind])


def test_frames_of_a_fault_are_named(tmp_path: Path, takes: list[Take]) -> None:
    _stuck_camera(takes)
    _teleport(takes)
    frames = {finding.kind: finding.frames for finding in _audited(tmp_path / "faulty", takes).findings}
    assert frames["teleport"] == ((20, 21),)
    ((first, last),) = frames["stuck camera"]
    assert (first, last) == (10, 35)


def test_an_instruction_that_the_scene_gives_away_is_noticed(tmp_path: Path, takes: list[Take]) -> None:
    for take in takes:
        take.frames[..., :4, :4, :] = 255 if take.text == "push left" else 0
    told = _audited(tmp_path / "leaking", takes).indicators
    assert told.leakage == (4, 4)
    assert told.chance == pytest.approx(0.5)


def test_a_recording_too_small_for_indicators_says_so(tmp_path: Path, takes: list[Take]) -> None:
    found = _audited(tmp_path / "small", takes[:3])
    assert found.indicators.r2_present is None
    assert "need 8 labelled episodes" in str(found)


def test_a_ridge_read_out_recovers_a_line_and_scores_nothing_on_noise() -> None:
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(200, 12)), rng.normal(size=(12, 2))
    y = x @ weights
    assert ridge_r2(x[:150], y[:150], x[150:], y[150:]) > 0.95
    assert ridge_r2(x[:150], rng.normal(size=(150, 2)), x[150:], rng.normal(size=(50, 2))) < 0.2
