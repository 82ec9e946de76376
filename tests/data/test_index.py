"""The two ways to the numbers of a dataset, read or mapped, are one dataset; the copy follows what it is a copy of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from foreign_formats import write_groot
from recordings import FPS, episodes, write

from crossroads.data import index, meta
from crossroads.data.columns import Columns, Files, Tables
from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.window import Windows
from crossroads.errors import InputError
from crossroads.types import NOTHING


@pytest.fixture
def mapped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Path], LeRobotDataset]:
    """Opens through a compiled copy, however small the dataset."""
    monkeypatch.setenv("CROSSROADS_CACHE", str(tmp_path / "cache"))

    def open_mapped(path: Path) -> LeRobotDataset:
        with monkeypatch.context() as patch:
            patch.setattr(index, "MAPPED_FROM_FRAMES", 0)
            return LeRobotDataset.open(path)

    return open_mapped


def assert_same(one: LeRobotDataset, two: LeRobotDataset) -> None:
    pairs = [(one.tables, two.tables, Tables), (one.episodes.columns, two.episodes.columns, Columns)]
    pairs += [(one.data_files, two.data_files, Files)]
    assert one.videos.keys() == two.videos.keys()
    pairs += [(one.videos[key], two.videos[key], Files) for key in one.videos]
    for left, right, kind in pairs:
        for column in fields(kind):
            np.testing.assert_array_equal(getattr(left, column.name), getattr(right, column.name))
    assert list(one.episodes) == list(two.episodes)
    assert one.space == two.space


def test_read_and_mapped_are_the_same_dataset(mapped: Callable[[Path], LeRobotDataset], tmp_path: Path) -> None:
    several_files = write(tmp_path / "new", episodes(7), data_file_mb=0.001, video_file_mb=0.01)
    assert len(list(several_files.glob("data/*/*"))) > 2
    for path in (several_files, write_groot(tmp_path / "old", episodes(4))):
        read = LeRobotDataset.open(path)
        for _ in range(2):  # when it is compiled, and when it was
            again = mapped(path)
            assert_same(read, again)
            assert isinstance(again.tables.actions, np.memmap)


def test_a_compiled_dataset_opens_and_is_sampled_without_its_data_files(
    mapped: Callable[[Path], LeRobotDataset], fresh: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fresh(6)
    read = LeRobotDataset.open(path)
    mapped(path)
    monkeypatch.setattr(meta, "read_episodes", None)
    monkeypatch.setattr(index, "read_index", None)
    window = replace(NOTHING, num_state=3, num_actions=4, action_size=2, control_hz=FPS)
    several = [Windows(it, window, episodes=[5, 0, 3], cache=None, stride=3) for it in (read, mapped(path))]
    one, two = (windows.batch(range(len(windows))) for windows in several)
    assert torch.equal(one.actions, two.actions)
    assert torch.equal(one.actions_valid, two.actions_valid)
    assert torch.equal(one.obs.state, two.obs.state)
    assert one.obs.text == two.obs.text


def test_a_changed_dataset_is_compiled_again_and_the_old_copy_goes(
    mapped: Callable[[Path], LeRobotDataset], fresh: Callable[..., Path], tmp_path: Path
) -> None:
    path = fresh()
    before = mapped(path)
    actions = before.tables.actions.copy()
    file = path / "data/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    doubled = table["action"].combine_chunks()
    values = np.asarray(doubled.flatten()) * 2
    column = type(doubled).from_arrays(values, 2)
    pq.write_table(table.set_column(table.column_names.index("action"), "action", column), file)
    np.testing.assert_array_equal(mapped(path).tables.actions, actions * 2)
    np.testing.assert_array_equal(before.tables.actions, actions, "who has the old copy open keeps it")
    assert len(list((tmp_path / "cache/index").glob("*/*/index.json"))) == 1


def test_a_compilation_that_was_cut_off_is_done_again(
    mapped: Callable[[Path], LeRobotDataset], fresh: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, save = fresh(), np.save

    def fail(file: Path, values: np.ndarray) -> None:
        if "columns.task" in str(file):
            raise KeyboardInterrupt
        save(file, values)

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", fail)
        with pytest.raises(KeyboardInterrupt):
            mapped(path)
    assert_same(LeRobotDataset.open(path), mapped(path))


def test_what_is_refused_when_read_is_refused_when_compiled(
    mapped: Callable[[Path], LeRobotDataset], fresh: Callable[..., Path]
) -> None:
    path = fresh()
    file = path / "data/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    for damaged in (table.slice(0, table.num_rows - 1), table.slice(1)):
        pq.write_table(damaged, file)
        with pytest.raises(InputError, match="rows in the data files") as caught:
            mapped(path)
        with pytest.raises(InputError) as again:
            LeRobotDataset.open(path)
        assert str(caught.value) == str(again.value)


def test_episodes_are_a_sequence(dataset: LeRobotDataset) -> None:
    listed = list(dataset.episodes)
    assert dataset.episodes[-1] == listed[-1]
    assert dataset.episodes[2:5] == tuple(listed[2:5])
    assert dataset.episodes.where(action_free=True).tolist() == [one.index for one in listed if one.action_free]
    with pytest.raises(IndexError, match="episode 12 of 12"):
        dataset.episodes[12]


def test_windows_that_reach_behind_the_end_are_left_out_where_that_is_asked(dataset: LeRobotDataset) -> None:
    """But for the first of an episode; and a window costs the index nothing, so they are counted and not listed."""
    window = replace(NOTHING, num_state=3, num_actions=4, action_size=2, control_hz=FPS)
    for stride, frames in ((1, 4), (2, 4), (3, 30)):
        every = Windows(dataset, window, episodes=[6, 1, 2], cache=None, stride=stride)
        some = Windows(dataset, window, episodes=[6, 1, 2], cache=None, stride=stride, inside_s=frames / FPS)
        length = {index: dataset.episodes[index].length for index in (6, 1, 2)}
        kept = [(e, f) for e, f in every.places() if f == 0 or f + frames <= length[e] - 1]
        assert some.places() == kept
        assert len(some) == len(kept)
