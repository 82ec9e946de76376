"""The frame cache: the same pictures as the reader's, decoded once, and never half there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from crossroads.data import cache as cache_module
from crossroads.data.cache import FrameCache, resize
from crossroads.data.lerobot import LeRobotDataset
from crossroads.errors import InputError


def test_the_cache_holds_what_the_reader_decodes(dataset: LeRobotDataset, tmp_path: Path) -> None:
    same = FrameCache.open(dataset, cameras=dataset.cameras, image_hw=(32, 48), root=tmp_path)
    small = FrameCache.open(dataset, cameras=("front",), image_hw=(16, 24), root=tmp_path)
    for episode in dataset.episodes:
        for camera in dataset.cameras:
            whole = dataset.frames(episode, camera, None)
            picked = [episode.length - 1, 0, 0]
            np.testing.assert_array_equal(same.frames(episode.index, camera, picked), whole[picked])
        whole = dataset.frames(episode, "front", None)
        halved = resize(whole, (16, 24))
        np.testing.assert_array_equal(small.frames(episode.index, "front", np.arange(episode.length)), halved)


def test_resizing_keeps_a_flat_picture_flat_and_the_mean_of_any() -> None:
    flat = np.full((2, 32, 48, 3), 77, np.uint8)
    assert (resize(flat, (20, 20)) == 77).all()
    noisy = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3)).astype(np.uint8)
    assert abs(resize(noisy, (16, 24)).mean() - noisy.mean()) < 1
    assert resize(noisy, (32, 48)) is noisy


def test_a_second_opening_decodes_nothing(
    dataset: LeRobotDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FrameCache.open(dataset, cameras=("front",), image_hw=(32, 48), root=tmp_path)
    monkeypatch.setattr(cache_module, "_build", lambda *_: pytest.fail("decoded again"))
    FrameCache.open(dataset, cameras=("front",), image_hw=(32, 48), root=tmp_path)


def test_the_default_place_is_the_one_the_environment_names(dataset: LeRobotDataset, own_cache: Path) -> None:
    FrameCache.open(dataset, cameras=("front",), image_hw=(16, 24))
    assert list(own_cache.rglob("front-16x24.u8"))


def test_an_interrupted_decode_is_not_readable_and_goes_on_where_it_was_saved(
    dataset: LeRobotDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "_SAVE_EVERY_FRAMES", 1)
    decoded: list[int] = []
    whole = LeRobotDataset.frames

    def frames(self: LeRobotDataset, episode, camera, indices):
        if len(decoded) == 5:
            decoded.append(-1)
            raise KeyboardInterrupt
        decoded.append(episode.index)
        return whole(self, episode, camera, indices)

    monkeypatch.setattr(LeRobotDataset, "frames", frames)
    with pytest.raises(KeyboardInterrupt):
        FrameCache.open(dataset, cameras=("front",), image_hw=(32, 48), root=tmp_path)
    assert not list(tmp_path.rglob("*.u8"))
    cache = FrameCache.open(dataset, cameras=("front",), image_hw=(32, 48), root=tmp_path)
    assert decoded == [0, 1, 2, 3, 4, -1, *range(5, 12)]
    monkeypatch.undo()
    for episode in dataset.episodes:
        np.testing.assert_array_equal(
            cache.frames(episode.index, "front", np.arange(episode.length)), dataset.frames(episode, "front", None)
        )


def test_a_full_disk_is_told_before_anything_is_decoded(
    full_disk: None, dataset: LeRobotDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LeRobotDataset, "frames", lambda *_: pytest.fail("decoded"))
    with pytest.raises(InputError, match=r"front-32x48.part: expected .* GB free.*set CROSSROADS_CACHE"):
        FrameCache.open(dataset, cameras=("front",), image_hw=(32, 48), root=tmp_path)
    assert {path.suffix for path in tmp_path.rglob("front*")} == {".lock"}


def test_changed_content_gets_another_cache(fresh: Callable[..., Path], tmp_path: Path) -> None:
    path = fresh()
    FrameCache.open(LeRobotDataset.open(path), cameras=("front",), image_hw=(16, 24), root=tmp_path / "c")
    info = path / "meta/info.json"
    info.write_text(info.read_text() + " ")
    FrameCache.open(LeRobotDataset.open(path), cameras=("front",), image_hw=(16, 24), root=tmp_path / "c")
    assert len(list((tmp_path / "c").rglob("*.u8"))) == 2


def test_an_unknown_camera_is_named(dataset: LeRobotDataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Did you mean 'wrist'"):
        FrameCache.open(dataset, cameras=("wirst",), image_hw=(16, 24), root=tmp_path)
