"""Windows agree with a plain reading of the episode, and their masks say what lies behind its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recordings import FPS

from crossroads.data.cache import FrameCache
from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.window import Windows
from crossroads.errors import InputError
from crossroads.types import NOTHING

WINDOW = replace(
    NOTHING,
    cameras=("front", "wrist"),
    image_hw=(32, 48),
    num_state=3,
    num_actions=4,
    action_size=2,
    control_hz=FPS,
    future_s=(0.2, 0.5),
)


@pytest.fixture(scope="module")
def cache(dataset: LeRobotDataset, tmp_path_factory: pytest.TempPathFactory) -> FrameCache:
    return FrameCache.open(dataset, cameras=dataset.cameras, image_hw=(32, 48), root=tmp_path_factory.mktemp("frames"))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    num_actions=st.integers(1, 30),
    future_s=st.lists(st.floats(0, 3), max_size=4).map(tuple),
    stride=st.integers(1, 7),
    data=st.data(),
)
def test_a_window_is_what_a_plain_reading_of_the_episode_gives(
    dataset: LeRobotDataset,
    cache: FrameCache,
    num_actions: int,
    future_s: tuple[float, ...],
    stride: int,
    data: st.DataObject,
) -> None:
    window = replace(WINDOW, num_actions=num_actions, future_s=future_s)
    windows = Windows(dataset, window, episodes=[7, 2, 4], cache=cache, stride=stride)
    index = data.draw(st.integers(0, len(windows) - 1))
    batch = windows.batch([index])
    number, frame = windows.places()[index]
    episode = dataset.episodes[number]
    assert frame % stride == 0
    assert batch.obs.text == (episode.text,)
    assert batch.obs.time_s.item() == pytest.approx(frame / FPS)
    np.testing.assert_array_equal(batch.obs.state[0], dataset.state(number)[frame])
    for step in range(num_actions):
        inside = frame + step < episode.length
        expected = dataset.actions(number)[min(frame + step, episode.length - 1)]
        np.testing.assert_array_equal(batch.actions[0, step], expected)
        assert batch.actions_valid[0, step].item() == (inside and not episode.action_free)
    for camera in window.cameras:
        np.testing.assert_array_equal(batch.obs.images[camera][0], cache.frames(number, camera, [frame])[0])
    assert batch.future_valid.shape == (1, len(future_s))
    assert set(batch.future) == (set(window.cameras) if future_s else set())
    for position, ahead_s in enumerate(future_s):
        shown = min(range(200), key=lambda other: abs(other - (frame + ahead_s * FPS) - 1e-9))
        assert batch.future_valid[0, position].item() == (shown < episode.length)
        expected = cache.frames(number, "front", [min(shown, episode.length - 1)])[0]
        np.testing.assert_array_equal(batch.future["front"][0, position], expected)


def test_reading_from_the_files_and_from_the_cache_gives_the_same_batch(
    dataset: LeRobotDataset, tmp_path: Path
) -> None:
    window = replace(WINDOW, image_hw=(16, 24))
    small = FrameCache.open(dataset, cameras=dataset.cameras, image_hw=(16, 24), root=tmp_path)
    slow = Windows(dataset, window, episodes=range(12), cache=None)
    fast = Windows(dataset, window, episodes=range(12), cache=small)
    chosen = torch.randperm(len(slow), generator=torch.Generator().manual_seed(0))[:20]
    one, two = slow.batch(chosen), fast.batch(chosen)
    for camera in window.cameras:
        assert torch.equal(one.obs.images[camera], two.obs.images[camera])
        assert torch.equal(one.future[camera], two.future[camera])
    assert torch.equal(one.actions, two.actions)


def test_action_free_windows_have_zero_state_and_no_valid_action(dataset: LeRobotDataset, cache: FrameCache) -> None:
    windows = Windows(dataset, WINDOW, episodes=[4], cache=cache)
    batch = windows.batch(range(len(windows)))
    assert dataset.episodes[4].action_free
    assert not batch.actions_valid.any()
    assert not batch.obs.state.any()
    assert batch.future_valid.any(), "the pictures can be learned from all the same"


def test_there_is_a_window_for_each_frame_of_each_episode(dataset: LeRobotDataset, cache: FrameCache) -> None:
    windows = Windows(dataset, WINDOW, episodes=[3, 1], cache=cache)
    lengths = {number: dataset.episodes[number].length for number in (3, 1)}
    assert windows.places() == [(number, frame) for number in (3, 1) for frame in range(lengths[number])]
    with pytest.raises(IndexError, match="expected indices"):
        windows.batch([len(windows)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"control_hz": 20.0}, "a control rate of 10 Hz, the frame rate of the recording, got 20 Hz"),
        ({"num_state": 4}, "3 state numbers"),
        ({"action_size": 7}, "2 action numbers"),
        ({"cameras": ("front", "wrst")}, "Did you mean 'wrist'"),
        ({"future_s": (-0.1,)}, "not negative"),
        ({"image_hw": (64, 64)}, "Open the cache at that size"),
    ],
)
def test_a_window_that_the_recording_cannot_fill_is_refused(
    dataset: LeRobotDataset, cache: FrameCache, change: dict, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Windows(dataset, replace(WINDOW, **change), episodes=[0], cache=cache)


def test_numbers_that_are_not_finite_are_refused_with_episode_and_frame(fresh: Callable[..., Path]) -> None:
    path = fresh()
    file = path / "data/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    start = LeRobotDataset.open(path).episodes[1].start
    actions = table["action"].to_pylist()
    actions[start + 3][1] = float("nan")
    position = table.column_names.index("action")
    pq.write_table(table.set_column(position, "action", pa.array(actions, table["action"].type)), file)
    dataset = LeRobotDataset.open(path)
    with pytest.raises(InputError, match="episode 1, frame 3: expected finite"):
        Windows(dataset, WINDOW, episodes=[0, 1], cache=None)
    assert len(Windows(dataset, WINDOW, episodes=[0, 2], cache=None)) > 0, "the others can still be used"


def test_an_empty_instruction_is_refused(fresh: Callable[..., Path]) -> None:
    path = fresh()
    file = path / "meta/tasks.parquet"
    tasks = pq.read_table(file)
    texts = ["" if text == "do thing 2" else text for text in tasks["task"].to_pylist()]
    pq.write_table(
        tasks.set_column(tasks.column_names.index("task"), "task", pa.array(texts)), path / "meta/tasks.parquet"
    )
    with pytest.raises(InputError, match="episode 2: expected an instruction"):
        Windows(LeRobotDataset.open(path), WINDOW, episodes=[0, 2], cache=None)


def test_the_future_state_and_the_return_are_those_of_the_moment_asked_for(
    dataset: LeRobotDataset, cache: FrameCache
) -> None:
    """The return counts control steps from that moment to the end of the episode, where the demonstration succeeds."""
    after = 3 / FPS
    window = replace(WINDOW, later_state_s=(after,), value_after_s=2 * after, discount=0.9)
    windows = Windows(dataset, window, episodes=[2], cache=cache)
    batch, last = windows.batch(range(len(windows))), len(windows) - 1
    for frame in range(len(windows)):
        np.testing.assert_array_equal(batch.later_state[frame, 0], dataset.state(2)[min(frame + 3, last)])
        assert batch.later_state_valid[frame, 0].item() == (frame + 3 <= last)
        assert batch.value[frame].item() == pytest.approx(0.9 ** max(last - frame - 6, 0))
    unasked = Windows(dataset, WINDOW, episodes=[2], cache=cache).batch([0])
    assert unasked.value.item() == 1.0
