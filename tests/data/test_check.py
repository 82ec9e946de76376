"""The checker finds each kind of damage, names its place, and finds nothing in a sound folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recordings import episodes, write

from crossroads.cli import main
from crossroads.data import index
from crossroads.data.cache import FrameCache
from crossroads.data.check import check, require_sound
from crossroads.data.lerobot import LeRobotDataset
from crossroads.errors import InputError

DATA = "data/chunk-000/file-000.parquet"
VIDEO = "videos/observation.images.front/chunk-000/file-000.mp4"


def change_column(path: Path, file: str, name: str, change: Callable[[list], None]) -> None:
    table = pq.read_table(path / file)
    values = table[name].to_pylist()
    change(values)
    column = pa.array(values, table[name].type)
    pq.write_table(table.set_column(table.column_names.index(name), name, column), path / file)


def put(row: int, value: object) -> Callable[[list], None]:
    return lambda values: values.__setitem__(row, value)


def change_info(path: Path, **entries: object) -> None:
    info = json.loads((path / "meta/info.json").read_text())
    (path / "meta/info.json").write_text(json.dumps(info | entries))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def drop_rows(path: Path) -> None:
    table = pq.read_table(path / DATA)
    pq.write_table(table.slice(0, table.num_rows - 2), path / DATA)


def rename_camera(path: Path) -> None:
    info = (path / "meta/info.json").read_text()
    (path / "meta/info.json").write_text(info.replace("observation.images.wrist", "observation.images.lost"))


DAMAGE: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "missing video": (lambda path: (path / VIDEO).unlink(), VIDEO, "no such file"),
    "truncated video": (lambda path: cut(path / VIDEO), VIDEO, "expected a readable mp4"),
    "missing rows": (drop_rows, f"{DATA}: episode 3", "as meta/episodes says"),
    "truncated parquet": (lambda path: cut(path / DATA), DATA, "expected a readable parquet"),
    "NaN action": (
        lambda path: change_column(path, DATA, "action", put(2, [0.0, float("nan")])),
        f"{DATA}: episode 0, frame 2: action",
        "expected finite numbers",
    ),
    "infinite state": (
        lambda path: change_column(path, DATA, "observation.state", put(1, [float("inf"), 0.0, 0.0])),
        f"{DATA}: episode 0, frame 1: observation.state",
        "expected finite numbers",
    ),
    "time running back": (
        lambda path: change_column(path, DATA, "timestamp", put(3, 0.1)),
        f"{DATA}: episode 0, frame 3: timestamp",
        "expected more than 0.2000 s",
    ),
    "wrong fps": (
        lambda path: change_info(path, fps=20),
        f"{DATA}: episode 0: timestamp",
        "expected a frame every 0.05",
    ),
    "wrong count": (lambda path: change_info(path, total_frames=7), "meta/info.json: total_frames", "got 7"),
    "empty instruction": (
        lambda path: change_column(path, "meta/tasks.parquet", "task", put(1, " ")),
        "meta/tasks.parquet: task 1",
        "expected an instruction",
    ),
    "missing camera": (rename_camera, "meta/episodes: episodes [0, 1, 2, 3]", "camera 'lost'"),
    "wrong size": (
        lambda path: (path / "meta/info.json").write_text((path / "meta/info.json").read_text().replace("48,", "64,")),
        VIDEO,
        "expected frames of (32, 64) pixels",
    ),
    "unknown task": (
        lambda path: change_column(path, DATA, "task_index", put(1, 99)),
        f"{DATA}: episode 0, frame 1: task_index",
        "got 99",
    ),
    "skipped frame": (
        lambda path: change_column(path, DATA, "frame_index", put(1, 2)),
        f"{DATA}: episode 0, frame 1: frame_index",
        "expected 1, got 2",
    ),
    "no such folder": (lambda path: path.rename(path.with_name("away")), "meta/info.json", "no such file"),
}


def test_a_sound_folder_has_no_findings(folder: Path, dataset: LeRobotDataset) -> None:
    report = check(folder)
    assert report.sound, str(report)
    assert (report.num_episodes, report.num_frames, report.num_videos) == (12, dataset.num_frames, 2)
    assert "nothing wrong" in str(report)


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found_and_its_place_named(fresh: Callable[..., Path], name: str) -> None:
    path = fresh()
    damage, where, message = DAMAGE[name]
    damage(path)
    report = check(path)
    told = [str(finding) for finding in report.findings if where in finding.where]
    assert any(message in line for line in told), str(report)
    assert all(finding.do for finding in report.findings)
    assert not report.sound


@pytest.mark.parametrize("fraction", [0.4, 0.9])
def test_a_video_cut_off_behind_its_index_is_found(fresh: Callable[..., Path], fraction: float) -> None:
    """An mp4 with the index in front still opens after truncation; only counting and decoding tell."""
    import av

    path = fresh()
    front = path / "front.mp4"
    with av.open(str(path / VIDEO)) as given, av.open(str(front), "w", options={"movflags": "+faststart"}) as made:
        stream = made.add_stream_from_template(given.streams.video[0])
        for packet in packets(given):
            packet.stream = stream
            made.mux(packet)
    front.replace(path / VIDEO)
    assert check(path).sound
    whole = (path / VIDEO).read_bytes()
    (path / VIDEO).write_bytes(whole[: int(len(whole) * fraction)])
    report = check(path)
    assert [VIDEO in finding.where for finding in report.findings] == [True], str(report)


def packets(container) -> Iterator:
    return (packet for packet in container.demux(video=0) if packet.dts is not None)


def test_all_damage_is_listed_and_not_only_the_first(fresh: Callable[..., Path]) -> None:
    path = fresh()
    for name in ("missing video", "NaN action", "empty instruction"):
        DAMAGE[name][0](path)
    assert len(check(path).findings) == 3
    assert np.all([":" in line for line in str(check(path)).splitlines()])


def several_files(path: Path) -> Path:
    """Six episodes in several files of each kind."""
    return write(path, episodes(6), data_file_mb=0.001, video_file_mb=0.002)


def spoil_packet(path: Path, camera: str, file: int, number: int) -> None:
    """Other bytes in the middle of a video: the file still opens, and its last frame can still be decoded."""
    import av

    video = path / f"videos/observation.images.{camera}/chunk-000/file-{file:03d}.mp4"
    with av.open(str(video)) as container:
        sizes = [(packet.pos or 0, packet.size) for packet in container.demux(video=0) if packet.size]
    content, (start, size) = bytearray(video.read_bytes()), sizes[number]
    content[start + 8 : start + size] = np.random.default_rng(0).integers(0, 256, size - 8, np.uint8).tobytes()
    video.write_bytes(content)


def test_damage_in_the_middle_of_a_video_is_found_with_episode_and_frame(fresh: Callable[..., Path]) -> None:
    path = fresh()
    start = LeRobotDataset.open(path).episodes[1].start
    spoil_packet(path, "front", 0, start + 2)
    assert check(path).sound, "its index and its last frame are whole"
    report = check(path, every_frame=True)
    assert report.faulty == (1,)
    assert "episode 1, frame 2" in report.findings[0].where
    assert "in 1 of its episodes (1)" in str(report)
    assert main(["data", "check", str(path), "--every-frame"]) == 2


def lose_video(path: Path) -> set[int]:
    """One file of one camera."""
    dataset = LeRobotDataset.open(path)
    lost = dataset.video_file(2, "wrist")[0]
    spoilt = {e.index for e in dataset.episodes if dataset.video_file(e, "wrist")[0] == lost}
    lost.unlink()
    return spoilt


def lose_numbers(path: Path) -> set[int]:
    """One parquet file."""
    file = sorted((path / "data").rglob("*.parquet"))[1]
    spoilt = set(pq.read_table(file)["episode_index"].to_pylist())
    file.unlink()
    return spoilt


def cut_numbers(path: Path) -> set[int]:
    """The last frame of the last episode of a file, and a NaN in its first."""
    file = sorted((path / "data").rglob("*.parquet"))[0]
    name = str(file.relative_to(path))
    change_column(path, name, "action", put(0, [0.0, float("nan")]))
    table = pq.read_table(file)
    pq.write_table(table.slice(0, table.num_rows - 1), file)
    return {table["episode_index"][0].as_py(), table["episode_index"][-1].as_py()}


@pytest.mark.parametrize("damage", [lose_video, lose_numbers, cut_numbers])
def test_faulty_episodes_are_left_out_when_told_to_and_the_others_stay_what_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], set[int]]
) -> None:
    monkeypatch.setenv("CROSSROADS_CACHE", str(tmp_path / "cache"))
    whole = LeRobotDataset.open(several_files(tmp_path / "whole"))
    path = several_files(tmp_path / "toy")
    spoilt = damage(path)
    assert 0 < len(spoilt) < 6
    with pytest.raises(InputError, match="--skip-faulty"):
        require_sound(path)
    left_out = require_sound(path, skip_faulty=True)
    assert set(left_out) == spoilt == set(check(path).faulty)
    for threshold in (10**9, 0):  # read, and mapped
        with monkeypatch.context() as patch:
            patch.setattr(index, "MAPPED_FROM_FRAMES", threshold)
            dataset = LeRobotDataset.open(path, without=left_out)
        used = [*dataset.episodes.where(action_free=False), *dataset.episodes.where(action_free=True)]
        assert set(used) == set(range(6)) - spoilt
        cache = FrameCache.open(dataset, cameras=dataset.cameras, image_hw=(32, 48))
        for one in used:
            np.testing.assert_array_equal(dataset.actions(int(one)), whole.actions(int(one)))
            for camera in dataset.cameras:
                expected = whole.frames(int(one), camera, None)
                np.testing.assert_array_equal(dataset.frames(int(one), camera, None), expected)
                np.testing.assert_array_equal(cache.frames(int(one), camera, np.arange(len(expected))), expected)
    assert all(dataset.episodes[one].length == 0 for one in spoilt)


def test_what_leaving_out_episodes_does_not_mend_is_refused_all_the_same(fresh: Callable[..., Path]) -> None:
    path = fresh()
    change_info(path, total_frames=7)
    with pytest.raises(InputError, match="total_frames"):
        require_sound(path, skip_faulty=True)
    every = fresh_copy_with_all_faulty(path)
    with pytest.raises(InputError, match="an episode without findings"):
        require_sound(every, skip_faulty=True)


def fresh_copy_with_all_faulty(path: Path) -> Path:
    change_info(path, total_frames=LeRobotDataset.open(path).num_frames)
    (path / VIDEO).unlink()
    return path
