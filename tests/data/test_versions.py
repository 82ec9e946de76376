"""A dataset of v2.0 or v2.1 is the same dataset as one of v3.0 to everything that reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from foreign_formats import MODALITY, lines, write_groot, write_v2
from recordings import FPS, Recorded, episodes

from crossroads.data.cache import FrameCache
from crossroads.data.check import check
from crossroads.data.lerobot import LeRobotDataset
from crossroads.errors import InputError

GIVEN = episodes(4)
CODEC_TOLERANCE = 20
"""Mean absolute error out of 255 that 4:2:0 costs on small coloured blocks; the nearest one is the frame itself."""


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_v2(tmp_path_factory.mktemp("old") / "toy", GIVEN)


def same_frames(dataset: LeRobotDataset, index: int, camera: str, images: np.ndarray) -> bool:
    """Each decoded frame is nearest to the picture that was recorded at its place."""
    seen = dataset.frames(index, camera, None).astype(int)
    distance = np.abs(seen[:, None] - images).mean(axis=(2, 3, 4))
    return bool((distance.argmin(1) == np.arange(len(images))).all()) and distance.diagonal().max() < CODEC_TOLERANCE


def assert_equal(dataset: LeRobotDataset, given: list[Recorded]) -> None:
    assert [episode.text for episode in dataset.episodes] == [one.text for one in given]
    for index, one in enumerate(given):
        np.testing.assert_array_equal(dataset.actions(index), one.actions)
        np.testing.assert_array_equal(dataset.state(index), one.state)


@pytest.mark.parametrize("version", ["v2.0", "v2.1"])
def test_an_old_dataset_is_read_as_a_new_one(version: str, tmp_path: Path) -> None:
    path = write_v2(tmp_path / "toy", GIVEN, version=version)
    dataset = LeRobotDataset.open(path)
    assert (dataset.fps, dataset.cameras, dataset.space.robot) == (FPS, ("front", "wrist"), "toy")
    assert dataset.space.state_names == ("a", "b", "c")
    assert dataset.space.action_names == ("x", "y")
    assert_equal(dataset, GIVEN)
    for index, one in enumerate(GIVEN):
        assert all(same_frames(dataset, index, camera, one.images[camera]) for camera in dataset.cameras)
    assert check(path).findings == ()


def test_what_reads_a_dataset_reads_an_old_one(old: Path, tmp_path: Path) -> None:
    dataset = LeRobotDataset.open(old)
    cache = FrameCache.open(dataset, cameras=("front",), image_hw=(16, 24), root=tmp_path)
    assert cache.shelves["front"].frames.shape == (dataset.num_frames, 16, 24, 3)


@pytest.fixture
def groot(tmp_path: Path) -> Path:
    return write_groot(tmp_path / "groot", GIVEN)


def test_modality_json_names_dimensions_and_cameras_and_says_where_the_words_are(groot: Path) -> None:
    dataset = LeRobotDataset.open(groot)
    assert dataset.space.state_names == ("arm_0", "arm_1", "gripper")
    assert dataset.space.action_names == ("arm_0", "arm_1")
    assert dataset.cameras == ("ego",)
    assert same_frames(dataset, 0, "ego", GIVEN[0].images["wrist"])
    assert [episode.text for episode in dataset.episodes] == [one.text for one in GIVEN]
    assert check(groot).findings == ()


def change_modality(part: str, value: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        (path / "meta/modality.json").write_text(json.dumps(MODALITY | {part: value}))

    return change


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (change_modality("state", {"arm": {"start": 0, "end": 4}}), "start 0, end 4"),
        (change_modality("state", {"arm": {"start": 0}}), "end None"),
        (change_modality("action", {"arm": {"start": 0, "end": 1, "original_key": "torque"}}), "original_key 'torque'"),
        (change_modality("video", {"top": {}}), "a feature 'observation.images.top'"),
        (
            change_modality("annotation", {"robot.task_description": {}}),
            "a feature 'annotation.robot.task_description'",
        ),
        (lambda path: (path / "meta/episodes.jsonl").unlink(), "a file of JSON lines"),
        (lambda path: (path / "meta/episodes.jsonl").write_text("{}\n"), "line 1: expected episode_index and length"),
        (lambda path: (path / "meta/tasks.jsonl").write_text('{"task_index": 0\n'), "line 1: expected a JSON object"),
        (lambda path: (path / "meta/tasks.jsonl").write_text('{"task": "x"}\n'), "task_index as a whole number"),
        (lambda path: lines(path / "meta/episodes.jsonl", [{"episode_index": 1, "length": 5}]), "without gaps"),
        (lambda path: (path / "data/chunk-000/episode_000002.parquet").unlink(), "episode_000002.parquet"),
        (
            lambda path: (path / "videos/chunk-000/observation.images.wrist/episode_000001.mp4").unlink(),
            "episode_000001.mp4",
        ),
    ],
)
def test_damage_is_named_with_its_place(damage: Callable[[Path], object], told: str, groot: Path) -> None:
    damage(groot)
    with pytest.raises(InputError, match="expected") as caught:
        LeRobotDataset.open(groot)
    assert told in str(caught.value)
    assert not check(groot).sound


def test_a_version_that_is_not_known_is_refused(tmp_path: Path) -> None:
    path = write_v2(tmp_path / "toy", GIVEN[:1], version="v1.6")
    with pytest.raises(InputError, match=r"expected 'v3.0', 'v2.1' or 'v2.0', got 'v1.6'"):
        LeRobotDataset.open(path)
