"""The reader: frames in any order, statistics of a subset, foreign habits, and what it refuses."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from recordings import Recorded

from crossroads.data.lerobot import LeRobotDataset
from crossroads.errors import InputError


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_frames_in_any_order_are_those_of_the_whole_episode(dataset: LeRobotDataset, data: st.DataObject) -> None:
    episode = data.draw(st.sampled_from(dataset.episodes))
    camera = data.draw(st.sampled_from(dataset.cameras))
    indices = data.draw(st.lists(st.integers(0, episode.length - 1), max_size=6))
    whole = dataset.frames(episode, camera, None)
    np.testing.assert_array_equal(dataset.frames(episode, camera, indices), whole[np.array(indices, int)])


def test_an_episode_shows_its_own_pictures_and_not_its_neighbours(
    dataset: LeRobotDataset, recorded: list[Recorded]
) -> None:
    for episode, one in zip(dataset.episodes, recorded, strict=True):
        for camera in ("front", "wrist"):
            first_and_last = dataset.frames(episode, camera, [0, episode.length - 1]).astype(int)
            assert np.abs(first_and_last - one.images[camera][[0, -1]]).mean() < 1.5


def test_statistics_are_those_of_the_given_labelled_episodes_only(
    dataset: LeRobotDataset, recorded: list[Recorded]
) -> None:
    few = dataset.statistics("action", [0, 1, 4])
    own = np.concatenate([recorded[0].actions, recorded[1].actions])
    assert recorded[4].action_free
    np.testing.assert_allclose(few.mean, own.mean(0), rtol=1e-5)
    np.testing.assert_allclose(few.std, own.std(0), rtol=1e-5)
    assert few.count == len(own)
    with pytest.raises(InputError, match="at least one episode with actions"):
        dataset.statistics("state", [4])


def test_the_content_hash_does_not_depend_on_where_the_folder_lies(fresh: Callable[..., Path]) -> None:
    path = fresh()
    before = LeRobotDataset.open(path).content_hash()
    moved = path.rename(path.with_name("moved"))
    assert LeRobotDataset.open(moved).content_hash() == before
    info = moved / "meta/info.json"
    info.write_text(info.read_text().replace('"toy"', '"top"'))
    assert LeRobotDataset.open(moved).content_hash() != before


def test_foreign_habits_are_understood(fresh: Callable[..., Path]) -> None:
    """No statistics, names or robot; extra columns; pandas' unnamed index; single pictures; rows in another order."""
    path = fresh()
    before = LeRobotDataset.open(path)
    (path / "meta/stats.json").unlink()
    info = json.loads((path / "meta/info.json").read_text())
    info["robot_type"] = None
    info["features"]["action"] = {"dtype": "float32", "shape": [2], "names": None}
    info["features"]["observation.state"]["names"] = {"motors": ["p", "q", "r"]}
    info["features"]["observation.image"] = {
        "dtype": "image",
        "shape": [3, 32, 48],
        "names": ["channels", "height", "width"],
    }
    info["features"]["next.reward"] = {"dtype": "float32", "shape": [1], "names": None}
    for name in ("session", "action_free"):
        del info["features"][name]
    (path / "meta/info.json").write_text(json.dumps(info))
    tasks = pq.read_table(path / "meta/tasks.parquet").rename_columns(["task_index", "__index_level_0__"])
    pq.write_table(tasks.replace_schema_metadata(None), path / "meta/tasks.parquet")
    data = path / "data/chunk-000/file-000.parquet"
    table = pq.read_table(data).drop_columns(["session", "action_free"])
    pictures = []
    for row in range(table.num_rows):
        stream = io.BytesIO()
        Image.fromarray(np.full((32, 48, 3), row % 256, np.uint8)).save(stream, "PNG")
        pictures.append({"bytes": stream.getvalue(), "path": None})
    table = table.append_column("observation.image", pa.array(pictures))
    backwards = pa.array(np.arange(table.num_rows)[::-1].copy())
    pq.write_table(table.take(backwards), data)
    dataset = LeRobotDataset.open(path)
    assert set(dataset.cameras) == {"front", "wrist", "image"}
    assert dataset.space.robot == "unknown"
    assert dataset.space.action_names == ("action_0", "action_1")
    assert dataset.space.state_names == ("p", "q", "r")
    assert [episode.text for episode in dataset.episodes] == [episode.text for episode in before.episodes]
    for episode in dataset.episodes:
        np.testing.assert_array_equal(dataset.actions(episode), before.actions(episode.index))
        seen = dataset.frames(episode, "image", [2, 0])
        assert seen[:, 0, 0, 0].tolist() == [(episode.start + 2) % 256, episode.start % 256]
    valid = np.concatenate([before.actions(episode) for episode in before.episodes])
    np.testing.assert_allclose(dataset.space.high, valid.max(0))


def drop_last_row(path: Path) -> None:
    file = path / "data/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    pq.write_table(table.slice(0, table.num_rows - 1), file)


def cut(path: Path, name: str) -> None:
    file = path / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def edit(path: Path, name: str, old: str, new: str) -> None:
    file = path / name
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


VIDEO = "videos/observation.images.front/chunk-000/file-000.mp4"
BREAKING = {
    "no such file": lambda path: (path / VIDEO).unlink(),
    "rows in the data files": drop_last_row,
    "readable parquet": lambda path: cut(path, "data/chunk-000/file-000.parquet"),
    "valid JSON": lambda path: cut(path, "meta/info.json"),
    "v3.0": lambda path: edit(path, "meta/info.json", '"v3.0"', '"v1.6"'),
    "a parquet file": lambda path: (path / "meta/tasks.parquet").unlink(),
    "chunk_index": lambda path: edit(path, "meta/info.json", "observation.images.wrist", "observation.images.lost"),
}


@pytest.mark.parametrize("message", list(BREAKING))
def test_a_broken_folder_is_refused_with_place_and_remedy(fresh: Callable[..., Path], message: str) -> None:
    path = fresh()
    BREAKING[message](path)
    with pytest.raises(InputError, match=message) as caught:
        LeRobotDataset.open(path)
    assert str(path) in caught.value.where
    assert caught.value.do


def test_a_truncated_video_is_named_when_it_is_read(fresh: Callable[..., Path]) -> None:
    path = fresh()
    cut(path, VIDEO)
    dataset = LeRobotDataset.open(path)
    with pytest.raises(InputError, match=r"file-000\.mp4"):
        dataset.frames(0, "front", None)


def test_misspelt_cameras_and_frames_outside_are_named(dataset: LeRobotDataset) -> None:
    with pytest.raises(InputError, match="Did you mean 'front'"):
        dataset.frames(0, "frnt", None)
    with pytest.raises(InputError, match="frames from 0 to"):
        dataset.frames(0, "front", [dataset.episodes[0].length])
    with pytest.raises(InputError, match="an episode from 0 to 11"):
        dataset.actions(12)
    with pytest.raises(InputError, match="no such folder"):
        LeRobotDataset.open(dataset.path / "nowhere")
