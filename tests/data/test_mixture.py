"""Shares are kept exactly at every moment, and robots that differ meet in one batch without touching each other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import FPS, Recorded, episodes, space, write

from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.mixture import Joined, Mixture, shares
from crossroads.data.order import Share
from crossroads.data.slots import declare
from crossroads.data.window import Windows
from crossroads.data.writer import LeRobotWriter
from crossroads.errors import InputError
from crossroads.pilot.mixed import OnRobot, SlottedWindows
from crossroads.policy import Memory
from crossroads.space import Normaliser, Statistics
from crossroads.types import NOTHING, Actions, Batch, Observation

SIZES = st.lists(st.integers(1, 60), min_size=1, max_size=5).map(tuple)


@settings(max_examples=20, deadline=None)
@given(sizes=SIZES, data=st.data(), batch=st.integers(1, 9), ranks=st.integers(1, 3), steps=st.integers(1, 25))
def test_what_was_seen_of_each_dataset_is_what_the_account_says(
    sizes: tuple[int, ...], data: st.DataObject, batch: int, ranks: int, steps: int
) -> None:
    weights = data.draw(st.lists(st.floats(0.1, 10), min_size=len(sizes), max_size=len(sizes)))
    part = shares(sizes, weights, 1.0)
    mixed = [
        Mixture(sizes=sizes, shares=part, seed=1, batch_size=batch, share=Share(rank=rank, num_ranks=ranks))
        for rank in range(ranks)
    ]
    ends = np.cumsum(sizes)
    taken = np.concatenate([one.rows(step) for one in mixed for step in range(steps)])
    counts = np.bincount(np.searchsorted(ends, taken, side="right"), minlength=len(sizes))
    assert tuple(counts.tolist()) == mixed[0].seen(steps) == mixed[-1].seen(steps)
    assert counts.sum() == steps * batch * ranks
    assert np.all(np.abs(counts - np.array(part) * counts.sum()) <= len(sizes))
    for start, size, count in zip(ends - sizes, sizes, counts, strict=True):
        seen = np.bincount(taken[(taken >= start) & (taken < start + size)] - start, minlength=size)
        assert seen.max() - seen.min() <= (1 if count % size else 0), "each sample once before one is seen twice"


def test_temperature_evens_the_shares_out_and_weights_scale_them() -> None:
    np.testing.assert_allclose(shares((900, 100), (1, 1), 1.0), (0.9, 0.1))
    np.testing.assert_allclose(shares((900, 100), (1, 1), 2.0), (0.75, 0.25))
    np.testing.assert_allclose(shares((900, 100), (1, 1), 1e9), (0.5, 0.5), atol=1e-6)
    np.testing.assert_allclose(shares((900, 100), (1, 9), 1.0), (0.5, 0.5))
    for weights, temperature in (((1.0,), 1.0), ((1.0, 0.0), 1.0), ((1.0, 1.0), 0.0)):
        with pytest.raises(InputError, match="a weight above zero for each of 2"):
            shares((3, 4), weights, temperature)


def other_robot(path: Path, recorded: list[Recorded]) -> Path:
    """Twice the rate, one camera of another name, two numbers of the state and three of the action."""
    own = replace(
        space(),
        robot="other",
        action_names=("y", "grip", "z"),
        action_units=("m", "", "m"),
        low=(-9.0,) * 3,
        high=(9.0,) * 3,
        state_names=("c", "d"),
        control_hz=2 * FPS,
    )
    with LeRobotWriter(path, fps=2 * FPS, cameras={"top": (32, 48)}, space=own) as writer:
        for one in recorded:
            actions = np.concatenate([one.actions * 3 + 1, one.actions[:, :1]], axis=1)
            images = {"top": one.images["front"]}
            writer.add_episode(images=images, state=one.state[:, 1:], actions=actions, text=one.text)
    return path


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[LeRobotDataset, LeRobotDataset]:
    base, given = tmp_path_factory.mktemp("mixed"), [one for one in episodes(6) if not one.action_free]
    paths = write(base / "toy", given[:3]), other_robot(base / "other", given[2:])
    return LeRobotDataset.open(paths[0]), LeRobotDataset.open(paths[1])


SLOTS = """
control_hz = 10
[[dataset]]
cameras = { main = "front" }
[[dataset]]
cameras = { main = "top" }
state = ["c", "d"]
action = ["y", "gripper", "z"]
"""
WINDOW = replace(
    NOTHING,
    cameras=("main",),
    image_hw=(32, 48),
    num_state=4,
    num_actions=4,
    action_size=4,
    control_hz=FPS,
    future_s=(0.2,),
    later_state_s=(0.1,),
)


@pytest.fixture(scope="module")
def joined(two: tuple[LeRobotDataset, LeRobotDataset], tmp_path_factory: pytest.TempPathFactory) -> Joined:
    file = tmp_path_factory.mktemp("slots") / "slots.toml"
    file.write_text(SLOTS)
    sources = []
    for dataset, slots in zip(two, declare(two, file).datasets, strict=True):
        own = slots.own_window(WINDOW)
        windows = Windows(dataset, own, episodes=range(len(dataset.episodes)), cache=None, resampled=True)
        sources.append(SlottedWindows(windows=windows, slots=slots, window=WINDOW))
    return Joined(sources=tuple(sources))


def test_robots_of_other_cameras_rates_and_numbers_meet_in_one_batch(
    two: tuple[LeRobotDataset, LeRobotDataset], joined: Joined
) -> None:
    first, second = two
    num = len(joined.sources[0])
    batch = joined.batch([num + 3, 2, num])
    assert batch.obs.robot == ("other", "toy", "other")
    assert batch.obs.text == (second.episodes[0].text, first.episodes[0].text, second.episodes[0].text)
    np.testing.assert_array_equal(batch.obs.state[1], [*first.state(0)[2], 0])
    np.testing.assert_array_equal(batch.obs.state[0], [0, 0, *second.state(0)[3]])
    np.testing.assert_array_equal(batch.actions[1, :, :2], first.actions(0)[2:6])
    assert not batch.actions[1, :, 2:].any()
    every_second = second.actions(0)[np.minimum([3, 5, 7, 9], second.episodes[0].length - 1)]
    np.testing.assert_array_equal(batch.actions[0][:, 1:], every_second)
    assert not batch.actions[0, :, 0].any()
    np.testing.assert_array_equal(batch.obs.images["main"][2], second.frames(0, "top", [0])[0])
    np.testing.assert_array_equal(batch.obs.images["main"][1], first.frames(0, "front", [2])[0])
    np.testing.assert_array_equal(batch.future["main"][0, 0], second.frames(0, "top", [3 + 4])[0])
    np.testing.assert_array_equal(batch.future["main"][1, 0], first.frames(0, "front", [2 + 2])[0])


def test_masks_end_with_the_episode_at_any_rate(two: tuple[LeRobotDataset, LeRobotDataset], joined: Joined) -> None:
    length, start = two[1].episodes[0].length, len(joined.sources[0])
    for frame in range(length):
        batch = joined.batch([start + frame])
        at = frame + 2 * np.arange(4)
        assert batch.actions_valid[0].tolist() == (at < length).tolist()
        assert batch.future_valid[0].tolist() == [frame + 4 < length]
        assert batch.later_state_valid[0].tolist() == [frame + 2 < length]
        shown = two[1].actions(0)[np.minimum(at, length - 1)]
        np.testing.assert_array_equal(batch.actions[0, :, 1:], shown)


def test_a_batch_is_the_samples_one_by_one(joined: Joined) -> None:
    chosen = np.random.default_rng(0).permutation(len(joined))[:9].tolist()
    batch = joined.batch(chosen)
    for place, index in enumerate(chosen):
        alone: Batch = joined.batch([index])
        for name in ("actions", "actions_valid", "future_valid", "later_state", "value", "weight"):
            assert torch.equal(getattr(batch, name)[place], getattr(alone, name)[0]), name
        assert torch.equal(batch.obs.state[place], alone.obs.state[0])
        assert torch.equal(batch.obs.images["main"][place], alone.obs.images["main"][0])
        assert (batch.obs.text[place], batch.obs.robot[place]) == (alone.obs.text[0], alone.obs.robot[0])


def test_each_robot_has_a_normaliser_of_its_own() -> None:
    def measured(mean: float, std: float) -> Statistics:
        one = (0.0, 0.0)
        return Statistics(mean=(mean, mean), std=(std, std), min=one, max=one, q01=one, q99=one, count=1)

    several, alone = Normaliser(2), {"a": Normaliser(2), "b": Normaliser(2)}
    several.enrol(("a", "b"))
    for robot, stats in (("a", measured(1, 2)), ("b", measured(-3, 10))):
        several.fit(stats, "mean_std", robot=robot)
        alone[robot].fit(stats, "mean_std")
    values, robots = torch.randn(3, 5, 2, generator=torch.Generator().manual_seed(0)), ("b", "a", "b")
    several.address(robots)
    expected = torch.stack([alone[robot].normalise(row) for robot, row in zip(robots, values, strict=True)])
    assert torch.equal(several.normalise(values), expected)
    assert torch.equal(several.normalise(values[:, 0]), expected[:, 0])
    torch.testing.assert_close(several.restore(expected), values)
    with pytest.raises(InputError, match="one of a, b"):
        several.address(("c",))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[dataset]]\n[[dataset]]", "expected one rate"),
        ("control_hz = 10\n[[dataset]]", r"2 \[\[dataset\]\]"),
        ("control_hz = 10\n[[dataset]]\nspeed = 1\n[[dataset]]", "'speed'"),
        ("control_hz = 10\n[[dataset]]\ncameras = {main = 'frnt'}\n[[dataset]]", "Did you mean 'front'"),
        ("control_hz = 10\n[[dataset]]\nstate = ['a']\n[[dataset]]", "a slot of its own for each of a, b, c"),
        ("control_hz = 10\n[[dataset]]\n[[dataset]]\naction = ['x', 'x', 'z']", "a slot of its own"),
        ("control_hz = 10\n[[dataset]]\nrobot = 'r'\n[[dataset]]\nrobot = 'r'", "with the same numbers"),
        ("control_hz = ", "a readable TOML file"),
    ],
)
def test_a_declaration_that_does_not_fit_is_refused(
    two: tuple[LeRobotDataset, LeRobotDataset], tmp_path: Path, text: str, told: str
) -> None:
    (tmp_path / "slots.toml").write_text(text)
    with pytest.raises(InputError, match=told):
        declare(two, tmp_path / "slots.toml")


def test_units_that_differ_in_one_slot_are_refused(two: tuple[LeRobotDataset, LeRobotDataset]) -> None:
    second = replace(two[1], fps=FPS, space=replace(two[1].space, action_units=("rad", "", "m")))
    with pytest.raises(InputError, match="expected one unit, got m and rad"):
        declare((two[0], second), None)


class Counting:
    """Acts with 0, 1, 2 ... and remembers what it was shown."""

    passed_s = ()
    before_s = ()
    seen: Observation | None = None

    def start(self, batch_size: int) -> Memory:
        return Memory()

    def act(
        self, obs: Observation, memory: Memory, *, generator: torch.Generator, show: bool = False
    ) -> tuple[Actions, Memory]:
        self.seen = obs
        return Actions(values=torch.arange(16.0).reshape(1, 4, 4), control_hz=FPS, imagined={}), memory


def test_what_acts_on_one_robot_takes_its_slots_its_rate_and_its_limits(
    two: tuple[LeRobotDataset, LeRobotDataset], tmp_path: Path
) -> None:
    (tmp_path / "slots.toml").write_text(SLOTS)
    slots, inner = declare(two, tmp_path / "slots.toml").datasets[1], Counting()
    own = Windows(two[1], slots.own_window(WINDOW), episodes=[0], cache=None, resampled=True).batch([0]).obs
    chunk, _ = OnRobot(inner, WINDOW, slots).act(own, Memory(), generator=torch.Generator())
    assert inner.seen is not None
    assert set(inner.seen.images) == {"main"}
    assert inner.seen.state.shape == (1, 4)
    assert chunk.control_hz == 2 * FPS
    assert chunk.values[0, :, 0].tolist() == [1, 1, 5, 5, 9, 9, 9, 9], "y: each of 1, 5, 9, 13 for two steps, at most 9"
