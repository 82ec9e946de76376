"""The checker finds each kind of damage, names its place, and finds nothing in a sound folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crossroads.data.check import check
from crossroads.data.lerobot import LeRobotDataset

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
