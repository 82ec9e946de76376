"""The frame cache: the same pictures as the reader's, decoded once, and never half there."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from crossroads.data import cache as cache_module
from crossroads.data.cache import FrameCache
from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.resize import resize
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
    monkeypatch.setattr(LeRobotDataset, "frames", lambda *_: pytest.fail("decoded again"))
    FrameCache.open(dataset, cameras=("front",), image_hw=(32, 48), root=tmp_path)


def test_marks_that_a_kill_at_the_last_moment_left_go(dataset: LeRobotDataset, tmp_path: Path) -> None:
    opened = FrameCache.open(dataset, cameras=("front",), image_hw=(24, 32), root=tmp_path)
    (file,) = tmp_path.rglob("*.u8")
    file.with_suffix(".done").write_bytes(b"\0" * 64)
    again = FrameCache.open(dataset, cameras=("front",), image_hw=(24, 32), root=tmp_path)
    assert not file.with_suffix(".done").exists()
    assert np.array_equal(again.shelves["front"].frames, opened.shelves["front"].frames)


def test_drafts_of_marks_that_killed_builds_left_go(dataset: LeRobotDataset, tmp_path: Path) -> None:
    FrameCache.open(dataset, cameras=("front",), image_hw=(24, 32), root=tmp_path)
    (file,) = tmp_path.rglob("*.u8")
    file.unlink()
    draft = file.with_name(f".{file.stem}.done.123.abcdef01")
    draft.touch()
    FrameCache.open(dataset, cameras=("front",), image_hw=(24, 32), root=tmp_path)
    assert file.is_file()
    assert not draft.exists()


def test_the_default_place_is_the_one_the_environment_names(dataset: LeRobotDataset, own_cache: Path) -> None:
    FrameCache.open(dataset, cameras=("front",), image_hw=(16, 24))
    assert list(own_cache.rglob("front-16x24.u8"))


def test_an_interrupted_decode_is_not_readable_and_goes_on_where_it_was_saved(
    dataset: LeRobotDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "_SETTLE_EVERY_FRAMES", 1)
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
    assert {path.suffix for path in tmp_path.rglob("front*")} == {".lock", ".used"}


def test_processes_that_decode_side_by_side_make_the_same_file(
    dataset: LeRobotDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = FrameCache.open(dataset, cameras=("front",), image_hw=(32, 48), root=tmp_path / "alone")
    monkeypatch.setattr(cache_module, "_ALONE_PIXELS", 0)
    monkeypatch.setattr(cache_module, "_TASK_FRAMES", 20)
    monkeypatch.setattr(LeRobotDataset, "frames", lambda *_: pytest.fail("decoded here"))
    cache = FrameCache.open(dataset, cameras=("front",), image_hw=(32, 48), root=tmp_path / "beside", num_workers=2)
    np.testing.assert_array_equal(cache.shelves["front"].frames, alone.shelves["front"].frames)


def test_a_fault_in_a_process_that_decodes_is_told_here(
    fresh: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fresh()
    (video,) = path.rglob("*front*/**/*.mp4")
    video.write_bytes(video.read_bytes()[:600])
    monkeypatch.setattr(cache_module, "_ALONE_PIXELS", 0)
    with pytest.raises(InputError, match=r"mp4"):
        FrameCache.open(LeRobotDataset.open(path), cameras=("front",), image_hw=(32, 48), root=tmp_path, num_workers=2)
    assert not list(tmp_path.rglob("*.u8"))


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Event]:
    """Nothing is decoded for a cache file until it is opened."""
    opened, alone = Event(), cache_module._Builder._alone

    def wait(*given: Any) -> None:
        assert opened.wait(60)
        alone(*given)

    monkeypatch.setattr(cache_module._Builder, "_alone", wait)
    yield opened
    opened.set()


def test_batches_need_not_wait_and_are_the_same_before_and_after(
    dataset: LeRobotDataset, tmp_path: Path, gate: Event
) -> None:
    whole = {one.index: dataset.frames(one, "front", None) for one in dataset.episodes}
    episode, frame = np.array([3, 0, 3, 7]), np.array([4, 0, 1, 2])
    expected = np.stack([whole[one][at] for one, at in zip(episode.tolist(), frame.tolist(), strict=True)])

    def open_one() -> FrameCache:
        return FrameCache.open(dataset, cameras=("front",), image_hw=(32, 48), root=tmp_path, behind=True)

    first, beside = open_one(), open_one()
    for cache in (first, beside):
        np.testing.assert_array_equal(cache.take("front", episode, frame), expected)
    gate.set()
    (folder,) = (tmp_path / "frames").iterdir()
    for _ in range(600):
        if (folder / "front-32x48.u8").is_file():
            break
        time.sleep(0.02)
    for cache in (first, beside, open_one()):
        assert cache.shelves["front"].marks is None or cache.shelves["front"].marks.all()
        np.testing.assert_array_equal(cache.take("front", episode, frame), expected)
    assert open_one().shelves["front"].marks is None


def test_a_fault_in_the_background_is_told_to_the_next_who_misses_a_frame(
    dataset: LeRobotDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(cache_module._Builder, "_alone", fail)
    cache = FrameCache.open(dataset, cameras=("front",), image_hw=(32, 48), root=tmp_path, behind=True)
    for _ in range(600):
        if cache.faults:
            break
        time.sleep(0.02)
    with pytest.raises(OSError, match="Input/output error"):
        cache.frames(0, "front", [0])


def test_what_the_limit_leaves_no_room_for_is_decoded_each_time(dataset: LeRobotDataset, tmp_path: Path) -> None:
    frame = 32 * 48 * 3
    for limit, num in ((dataset.episodes[5].start * frame + 7, 5), (frame, 0)):
        root = tmp_path / str(num)
        for _ in range(2):
            cache = FrameCache.open(dataset, cameras=("front",), image_hw=(32, 48), root=root, limit_bytes=limit)
            assert len(cache.shelves["front"].frames) == dataset.episodes[num].start
            assert sum(file.stat().st_size for file in root.rglob("*.u8")) <= limit
            for episode in dataset.episodes:
                found = cache.frames(episode.index, "front", np.arange(episode.length))
                np.testing.assert_array_equal(found, dataset.frames(episode, "front", None))


def test_the_limit_holds_for_all_caches_together(fresh: Callable[..., Path], tmp_path: Path) -> None:
    dataset, root = LeRobotDataset.open(fresh()), tmp_path / "cache"
    size = dataset.num_frames * 16 * 24 * 3

    def open_one(camera: str) -> FrameCache:
        return FrameCache.open(dataset, cameras=(camera,), image_hw=(16, 24), root=root, limit_bytes=size + 10)

    used = open_one("front")
    assert len(open_one("wrist").shelves["wrist"].frames) == 0, "the other one is being read"
    del used
    assert len(open_one("wrist").shelves["wrist"].frames) == dataset.num_frames
    assert [file.name for file in root.rglob("*.u8")] == ["wrist-16x24.u8"]


def test_builds_that_are_killed_leave_what_is_marked_right_and_the_next_goes_on(tmp_path: Path) -> None:
    """A few of those that `make kills` makes many of."""
    script = Path(__file__).with_name("kill_caches.py")
    ended = subprocess.run(
        [sys.executable, str(script), "4", str(tmp_path / "kills"), "6"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "4 builds" in ended.stdout


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
