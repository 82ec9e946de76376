"""Calls in closed loop: a policy that remembers is shown what passed, every table its own; others cost nothing more."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from every_recipe import REMEMBERING, close, hasty, seeded

from crossroads.errors import InputError
from crossroads.evaluate.calls import Call, Calls, glances_of, looks_of
from crossroads.evaluate.closed_loop import Trials, run_trials
from crossroads.policy import Memory, Policy
from crossroads.sim.tabletop.env import TABLETOP_SPACE, TabletopEnv
from crossroads.sim.tabletop.vector import Options, VectorTabletop
from crossroads.types import Actions, Observation

pytestmark = pytest.mark.sim
SEEDS = (4, 3, 1)
LOOKS = (3, 6, 9, 12)
both_systems = pytest.mark.parametrize("name", ["dreamzero", "lingbot_va"])


@dataclass(frozen=True, kw_only=True)
class Lives(Memory):
    """One mark for each table: everything that it was ever shown."""

    marks: tuple[str, ...] = ()

    def rows(self, rows: torch.Tensor) -> Lives:
        return replace(self, marks=tuple(self.marks[row] for row in rows.tolist()))


class Diarist:
    """Moves as its mark says: whoever is shown another picture, or takes up another's life, goes another way."""

    def __init__(self, passed_s: tuple[float, ...], before_s: tuple[float, ...] = ()) -> None:
        self.passed_s, self.before_s = passed_s, before_s
        self.marks: list[str] = []

    def start(self, batch_size: int) -> Lives:
        return Lives(marks=("",) * batch_size)

    def act(
        self, obs: Observation, memory: Memory, *, generator: torch.Generator, show: bool = False
    ) -> tuple[Actions, Memory]:
        assert isinstance(memory, Lives)
        pictures = {**obs.images, **{f"passed {camera}": frames for camera, frames in obs.passed.items()}}
        marks, chunks = [], []
        for row, before in enumerate(memory.marks):
            shown = b"".join(pictures[name][row].numpy().tobytes() for name in sorted(pictures))
            told = f"{before} {obs.text[row]} {obs.time_s[row]:g}".encode()
            marks.append(hashlib.sha256(told + obs.state[row].numpy().tobytes() + shown).hexdigest())
            drawn = np.random.default_rng(int(marks[-1], 16)).normal(size=(12, 4))
            chunks.append(torch.from_numpy(0.02 * drawn).float())
        self.marks += marks
        values = TABLETOP_SPACE.clamp(torch.stack(chunks))
        return Actions(values=values, control_hz=10.0, imagined={}), Lives(marks=tuple(marks))


def test_what_a_table_lives_through_does_not_depend_on_the_tables_beside_it() -> None:
    found, steps = [], tuple[int, ...]()
    for num_envs in (1, 3):
        policy = Diarist((0.3, 1.2))
        trials = Trials(families=("reach", "push"), seeds=SEEDS, execute_steps=12, num_envs=num_envs, image_hw=(16, 16))
        records = run_trials(policy, trials, arm="", cell="", training_seed=0)
        found.append((sorted(policy.marks), [replace(record, latencies_s=()) for record in records]))
        steps = tuple(record.num_steps for record in records)
    assert found[0] == found[1]
    assert steps[0] < min(steps[1:]), "the first table must end before the others"


# A policy of ours


def calls_of(
    policy: Policy,
    seeds: tuple[int, ...],
    num: int,
    *,
    execute_steps: int = 12,
    drop_after: dict[int, int] | None = None,
) -> list[Call]:
    """The first calls on some tables; ``drop_after``: by table, the number of calls after which it is over."""
    found, options = [], Options(families=("reach",), cameras=("front",))
    with VectorTabletop(num_envs=len(seeds), options=options) as tables:
        step, calls, generator = (
            tables.reset(seeds),
            Calls(policy, tables, len(seeds), execute_steps=execute_steps),
            seeded(),
        )
        for number in range(num):
            over = np.array([number >= (drop_after or {}).get(table, num) for table in range(len(seeds))])
            found.append(calls.ask(replace(step, truncated=over), generator=generator))
            step = calls.play(found[-1])
    return found


@both_systems
def test_what_is_remembered_is_what_frames_handed_over_by_hand_leave(name: str) -> None:
    policy, env = hasty(name), TabletopEnv(families=("reach",), cameras=("front",))
    shown, _ = env.reset(seed=SEEDS[0])
    memory, generator, passed = policy.start(1), seeded(), {}
    for number, call in enumerate(calls_of(policy, SEEDS[:1], 3)):
        obs = Observation(
            images={"front": torch.from_numpy(shown["front"])[None]},
            state=torch.from_numpy(shown["state"])[None],
            text=(shown["instruction"],),
            robot=("tabletop",),
            time_s=torch.tensor([1.2 * number]),
            passed=passed,
        )
        chunk, memory = policy.act(obs, memory, generator=generator)
        assert torch.equal(chunk.values, call.chunk.values)
        assert memory.history is not None
        assert memory.history.num_blocks == number
        seen = [env.play(chunk.values[0, look - 3 : look].numpy())[0] for look in LOOKS]
        shown, passed = seen[-1], {"front": torch.from_numpy(np.stack([obs["front"] for obs in seen]))[None]}


def one_noise(size: tuple[int, ...], **_: object) -> torch.Tensor:
    """The same for every sample, however many there are."""
    drawn = np.random.default_rng(0).normal(size=(1, *size[1:])).astype(np.float32)
    return torch.from_numpy(drawn).expand(size).clone()


@both_systems
def test_a_table_that_ends_leaves_the_history_of_the_others_as_it_was(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = hasty(name)
    monkeypatch.setattr(torch, "randn", one_noise)
    together, alone = calls_of(policy, SEEDS[:2], 2, drop_after={0: 1}), calls_of(policy, SEEDS[1:2], 2)
    assert [call.rows.tolist() for call in together] == [[0, 1], [1]]
    for all_, one in zip(together, alone, strict=True):
        close(all_.chunk.values[-1], one.chunk.values[0])
    strangers = replace(alone[1].obs, passed={})
    anew, _ = policy.act(strangers, policy.start(1), generator=seeded())
    assert not torch.allclose(anew.values, alone[1].chunk.values, atol=1e-3)


def test_a_block_that_is_not_played_to_its_end_leaves_nothing_to_go_on_from() -> None:
    policy = Diarist((0.3, 1.2))
    for execute_steps, going_on in ((12, True), (6, False)):
        calls = calls_of(policy, SEEDS[:1], 2, execute_steps=execute_steps)
        assert [bool(call.obs.passed) for call in calls] == [False, going_on]


# Looks


@pytest.mark.parametrize(("passed_s", "execute_steps", "num"), [((), 12, 1), ((0.3, 1.2), 6, 1), ((0.3, 1.2), 12, 2)])
def test_only_what_is_remembered_is_painted(
    passed_s: tuple[float, ...], execute_steps: int, num: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    painted, observe = [], TabletopEnv._observe
    monkeypatch.setattr(TabletopEnv, "_observe", lambda env: painted.append(env) or observe(env))
    calls = calls_of(Diarist(passed_s), SEEDS[:2], 2, execute_steps=execute_steps)
    assert len(painted) == len(SEEDS[:2]) * (1 + len(calls) * num)


@pytest.mark.parametrize("name", ["dreamzero", "lingbot_va", "fast_wam"])
def test_a_recipe_wants_the_frames_of_one_block_if_it_goes_on_by_block(name: str) -> None:
    wanted = looks_of(hasty(name).passed_s, execute_steps=12, control_hz=10.0)
    assert wanted == (LOOKS if name in REMEMBERING else ())


def test_looks_are_the_steps_nearest_to_the_times_of_training() -> None:
    assert looks_of((0.2, 0.4, 0.6, 1.6), execute_steps=24, control_hz=15.0) == (3, 6, 9, 24)
    for times in ((0.04, 0.1), (0.2, 0.1)):
        with pytest.raises(InputError, match="rising times, the first at least half a step"):
            looks_of(times, execute_steps=1, control_hz=10.0)


# Glances


@pytest.mark.parametrize(
    ("before_s", "execute_steps", "known"),
    [((0.1,), 12, (1, 1)), ((0.1,), 1, (1, 1)), ((0.3, 0.1), 2, (1, 2)), ((0.2,), 2, (1, 1))],
)
def test_a_policy_that_glances_back_is_given_the_moments_before_each_call(
    before_s: tuple[float, ...], execute_steps: int, known: tuple[int, ...]
) -> None:
    calls = calls_of(Diarist((), before_s), SEEDS[:2], 3, execute_steps=execute_steps)
    assert [len(call.obs.before) for call in calls] == [0, *known]
    env = TabletopEnv(families=("reach",), cameras=("front",))
    for row, seed in enumerate(SEEDS[:2]):
        lived = [env.reset(seed=seed)[0]]
        for call in calls[:-1]:
            chunk = call.chunk.values[row, :execute_steps].numpy()
            lived += [env.play(chunk[step : step + 1])[0] for step in range(execute_steps)]
        for number, call in enumerate(calls):
            now = number * execute_steps
            wanted = [now - back for back in glances_of(before_s, control_hz=10.0) if back <= now]
            assert [one.time_s[row].item() for one in call.obs.before] == pytest.approx([at / 10 for at in wanted])
            for one, at in zip(call.obs.before, wanted, strict=True):
                assert np.array_equal(one.images["front"][row].numpy(), lived[at]["front"])
                assert np.array_equal(one.state[row].numpy(), lived[at]["state"])
                assert one.text == call.obs.text


def test_a_glance_at_the_call_itself_or_twice_at_one_step_is_refused() -> None:
    assert glances_of((0.3, 0.1), control_hz=10.0) == (3, 1)
    for times in ((0.04,), (0.11, 0.1), (0.1, 0.2)):
        with pytest.raises(InputError, match="falling times"):
            glances_of(times, control_hz=10.0)
