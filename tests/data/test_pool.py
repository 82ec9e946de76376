"""Windows read through a pool are those read directly, each once per epoch, and each episode is decoded once."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from recordings import FPS

from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.order import Order
from crossroads.data.pool import FramePool, PooledSource, PoolOrder, sameness
from crossroads.data.window import Windows
from crossroads.errors import InputError
from crossroads.types import NOTHING

WINDOW = replace(
    NOTHING,
    cameras=("front", "wrist"),
    image_hw=(16, 24),
    num_state=3,
    num_actions=2,
    action_size=2,
    control_hz=FPS,
    future_s=(0.2, 0.5),
)


@pytest.fixture(scope="module")
def windows(dataset: LeRobotDataset) -> Windows:
    return Windows(dataset, WINDOW, episodes=[0, 1, 2, 3, 5, 6, 7, 8, 10, 11], cache=None)


@pytest.mark.parametrize("pool_episodes", [1, 3, 10, 99])
def test_each_window_comes_once_per_epoch_and_epochs_differ(windows: Windows, pool_episodes: int) -> None:
    order = PoolOrder(windows, pool_episodes=pool_episodes, seed=4)
    num = len(windows)
    two = order.at(np.arange(2 * num))
    assert sorted(two[:num].tolist()) == sorted(two[num:].tolist()) == list(range(num))
    assert not np.array_equal(two[:num], two[num:])
    assert not np.array_equal(two, PoolOrder(windows, pool_episodes=pool_episodes, seed=5).at(np.arange(2 * num)))


def test_a_position_needs_no_history(windows: Windows) -> None:
    """So a run that continues, or another worker, sees what one that never stopped does."""
    whole = PoolOrder(windows, pool_episodes=3, seed=4).at(np.arange(3 * len(windows)))
    fresh = PoolOrder(windows, pool_episodes=3, seed=4)
    for start in (2 * len(windows) + 5, 7, len(windows) - 2):
        np.testing.assert_array_equal(fresh.at(np.arange(start, start + 4)), whole[start : start + 4])
    scattered = np.array([[5, 400], [0, 5]]) % len(whole)
    np.testing.assert_array_equal(fresh.at(scattered), whole[scattered])


def test_at_no_time_are_more_episodes_open_than_said(windows: Windows) -> None:
    """From the first to the last window of an episode no more than `pool_episodes` others enter."""
    order = PoolOrder(windows, pool_episodes=3, seed=4)
    episode, _ = windows.locate(order.at(np.arange(len(windows))))
    for at in range(len(windows)):
        now = set(episode[:at].tolist()) & set(episode[at:].tolist())
        assert len(now) <= 3
        told = order.episodes(np.array([at]), ahead=0)
        assert len(told) <= 3
        assert int(episode[at]) in told


def test_batches_are_those_read_directly_and_each_episode_is_decoded_once_per_epoch(
    windows: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: Counter[tuple[int, str]] = Counter()
    whole = LeRobotDataset.frames

    def frames(self: LeRobotDataset, episode: int, camera: str, indices: None) -> np.ndarray:
        decoded[episode, camera] += 1
        return whole(self, episode, camera, indices)

    source = PooledSource.of(windows, batch_size=8, seed=1, pool_episodes=3)
    steps = range(len(windows) // 8)
    with monkeypatch.context() as patched:
        patched.setattr(LeRobotDataset, "frames", frames)
        batches = [source.batch(step) for step in steps]
        for held in source.pool._held.values():
            held.result()
    for step, batch in zip(steps, batches, strict=True):
        plain = windows.batch(source.order.at(np.arange(8 * step, 8 * step + 8)))
        for camera in WINDOW.cameras:
            assert torch.equal(batch.obs.images[camera], plain.obs.images[camera])
            assert torch.equal(batch.future[camera], plain.future[camera])
        assert torch.equal(batch.actions, plain.actions)
    assert {place[0] for place in decoded} == set(windows.episodes.tolist())
    again = [number for number in decoded.values() if number > 1]  # the first of the next epoch, decoded ahead
    assert max(decoded.values()) <= 2
    assert len(again) <= 2 * 2


def test_a_pool_holds_no_more_than_it_may(windows: Windows) -> None:
    source = PooledSource.of(windows, batch_size=4, seed=1, pool_episodes=2)
    for step in range(len(windows) // 4):
        source.batch(step)
        assert len(source.pool._held) <= 5 * len(WINDOW.cameras)


def test_the_chance_of_the_same_episode_is_what_counting_gives(windows: Windows) -> None:
    """One episode after the other: nearly always; all shuffled: the chance of two draws without replacement."""
    num_batches = len(windows) // 4
    in_turn = sameness(PoolOrder(windows, pool_episodes=1, seed=0), windows, batch_size=4, num_batches=num_batches)
    mixed = sameness(PoolOrder(windows, pool_episodes=5, seed=0), windows, batch_size=4, num_batches=num_batches)
    counts = np.diff(windows.ends, prepend=0)
    expected = float((counts * (counts - 1)).sum() / (len(windows) * (len(windows) - 1)))
    shuffled = np.mean(
        [
            sameness(Order(num_samples=len(windows), seed=seed), windows, batch_size=4, num_batches=num_batches)
            for seed in range(20)
        ]
    )
    assert shuffled == pytest.approx(expected, abs=0.02)
    assert shuffled < mixed < in_turn
    assert in_turn > 0.6


def test_an_empty_pool_is_refused(windows: Windows) -> None:
    with pytest.raises(InputError, match="one episode in a pool"):
        PoolOrder(windows, pool_episodes=0, seed=0)
    with pytest.raises(InputError, match="Open the cache at that size"):
        windows.through(FramePool(dataset=windows.dataset, cameras=("front", "wrist"), image_hw=(8, 8), max_episodes=2))
