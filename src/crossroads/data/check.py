"""Looks over a dataset folder and lists everything that is wrong with it, each with file, episode and frame.

`LeRobotDataset.open` stops at the first thing that makes reading impossible; this goes on, and also finds what can be
read but must not be trained on. Every video's index is walked and its last frame decoded; the frames between are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from crossroads.data import meta
from crossroads.data.check_videos import AGAIN, Finding, broken_frames, check_video, episodes_of, finding_of
from crossroads.data.findings import stretches
from crossroads.data.remote import Remote, url_of
from crossroads.data.versions import Meta, read_meta
from crossroads.errors import InputError

_TIME_TOLERANCE_FRAMES = 0.1


@dataclass(frozen=True, kw_only=True)
class Report:
    """All findings of one folder, and how much was looked at."""

    path: Path
    num_episodes: int
    num_frames: int
    num_videos: int
    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        return not self.findings

    @property
    def faulty(self) -> tuple[int, ...]:
        """The episodes with findings."""
        return tuple(sorted({index for finding in self.findings for index in finding.episodes}))

    def __str__(self) -> str:
        looked = f"{self.num_episodes} episodes, {self.num_frames} frames, {self.num_videos} video files"
        head = f"{self.path}: {looked}: {'nothing wrong' if self.sound else f'{len(self.findings)} findings'}"
        if self.faulty:
            head += f", in {len(self.faulty)} of its episodes ({stretches(self.faulty)})"
        return "\n".join([head, *(f"- {finding}" for finding in self.findings)])


def check(dataset_path: str | Path, *, videos: bool = True, every_frame: bool = False) -> Report:
    """Everything that is wrong with the folder at `dataset_path`; raises nothing for a broken one.

    A URL may stand for a folder: its videos are fetched one after another, or not at all without `videos`. With
    `every_frame` all pictures are decoded, which finds damage in the middle of a file.
    """
    root, remote = Path(dataset_path), None
    try:
        if url := url_of(dataset_path):
            remote = Remote.at(url)
            root = remote.prepare()
        said = read_meta(root)
        rows = said.rows
    except InputError as error:
        return Report(path=root, num_episodes=0, num_frames=0, num_videos=0, findings=(finding_of(error),))
    info, tasks, keys = said.info, said.tasks, said.camera_keys
    findings = list(_counts(root, info, tasks, rows))
    findings += _texts(said)
    findings += _data_files(root, said)
    num_videos = 0
    for name, key in keys.items():
        if info["features"][key]["dtype"] == "video":
            groups, missing = _videos(root, info, key, name, rows)
            findings += missing
            num_videos += len(groups)
            for path, members in groups.items() if videos else ():
                here = list(check_video(path, info, key, members, remote))
                if every_frame and not here:
                    here = broken_frames(path, float(info["fps"]), key, members)
                findings += here
    return Report(
        path=root,
        num_episodes=len(rows),
        num_frames=sum(int(row["length"]) for row in rows),
        num_videos=num_videos,
        findings=tuple(findings),
    )


def require_sound(dataset_path: str | Path, *, skip_faulty: bool = False) -> tuple[int, ...]:
    """Refuse a folder with findings before anything is built on it; returns the episodes that must be left out.

    There are none, unless `skip_faulty` says that episodes with findings may be.

    Raises:
        InputError: with the first finding that leaving out episodes does not mend.
    """
    report = check(dataset_path, videos=url_of(dataset_path) is None)  # those are looked at when they are fetched
    if skip_faulty and all(finding.episodes for finding in report.findings):
        if report.faulty and len(report.faulty) == report.num_episodes:
            raise InputError(
                where=str(dataset_path),
                expected="an episode without findings",
                got=f"{report.num_episodes} episodes, all with some",
                do=f"`crossroads data check {dataset_path}` lists them.",
            )
        return report.faulty
    if not report.sound:
        num = len(report.findings)
        raise InputError(
            where=str(dataset_path),
            expected="a sound dataset",
            got=f"{num} finding{'s' if num > 1 else ''}, the first: {str(report.findings[0]).rstrip('.')}",
            do=f"Mend what is wrong; `crossroads data check {dataset_path}` lists all of it, and `train --skip-faulty` "
            "leaves faulty episodes out.",
        )
    return ()


def _counts(
    root: Path, info: Mapping[str, Any], tasks: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> Iterator[Finding]:
    found = {
        "total_episodes": len(rows),
        "total_frames": sum(int(row["length"]) for row in rows),
        "total_tasks": len(tasks),
    }
    for name, number in found.items():
        if name in info and info[name] != number:
            yield Finding(
                where=f"{root / meta.INFO_PATH}: {name}",
                expected=f"{number}, as the other meta files hold",
                got=str(info[name]),
                do="The recording was cut off before it was finalised; correct info.json or record again.",
            )


def _texts(said: Meta) -> Iterator[Finding]:
    for index, text in enumerate(said.tasks):
        if not text.strip():
            told = [row["episode_index"] for row in said.rows if text in (row.get("tasks") or ())]
            yield Finding(
                where=f"{said.tasks_path}: task {index}",
                expected="an instruction",
                got=f"an empty text, used by episodes {told[:8]}",
                do="Write what these episodes do.",
                episodes=tuple(told),
            )


def _data_files(root: Path, said: Meta) -> Iterator[Finding]:
    info, rows = said.info, said.rows
    features = info["features"]
    vectors = [name for name in (meta.STATE, meta.ACTION) if name in features]
    if meta.ACTION not in features:
        yield Finding(
            where=f"{root / meta.INFO_PATH}: features",
            expected="a feature 'action'",
            got=", ".join(features),
            do="Record actions under that name.",
        )
    columns = [*vectors, "timestamp", *said.frame_column, "episode_index", said.text_column]
    files: dict[Path, list[Mapping[str, Any]]] = {}
    for row in rows:
        name = info["data_path"].format(
            chunk_index=int(row["data/chunk_index"]), file_index=int(row["data/file_index"])
        )
        files.setdefault(root / name, []).append(row)
    for path, members in files.items():
        try:
            table = meta.read_table(path, columns)
            column = {name: meta.numbers(path, name, table[name]) for name in columns}
        except InputError as error:
            yield finding_of(error, episodes_of(members))
            continue
        if not said.frame_column:
            column["frame_index"] = np.arange(len(table))
        known = {row["episode_index"] for row in members}
        for stranger in sorted(set(column["episode_index"].tolist()) - known)[:8]:
            yield Finding(
                where=f"{path}: episode {stranger}",
                expected=f"episodes {min(known)} to {max(known)}, as meta/episodes says",
                got="rows of another episode",
                do=AGAIN,
            )
        for row in members:
            here = column["episode_index"] == row["episode_index"]
            own = {name: values[here] for name, values in column.items()}
            for finding in _episode(f"{path}: episode {row['episode_index']}", said, row, own, vectors):
                yield replace(finding, episodes=episodes_of([row]))


def _episode(
    where: str,
    said: Meta,
    row: Mapping[str, Any],
    own: Mapping[str, np.ndarray],
    vectors: Sequence[str],
) -> Iterator[Finding]:
    tasks, text = said.tasks, own[said.text_column]
    length = int(row["length"])
    if len(own["frame_index"]) != length or length == 0:
        yield Finding(
            where=where,
            expected=f"{length} rows, as meta/episodes says (at least one)",
            got=str(len(own["frame_index"])),
            do=AGAIN,
        )
        return
    for name in vectors:
        bad = np.flatnonzero(~np.isfinite(own[name].reshape(length, -1)).all(axis=1))
        if len(bad):
            yield Finding(
                where=f"{where}, frame {bad[0]}: {name}",
                expected="finite numbers",
                got=f"{own[name][bad[0]].tolist()} (and {len(bad) - 1} frames more)",
                do="Leave the episode out or repair it.",
            )
    if not np.array_equal(own["frame_index"], np.arange(length)):
        wrong = int(np.flatnonzero(own["frame_index"] != np.arange(length))[0])
        yield Finding(
            where=f"{where}, frame {wrong}: frame_index",
            expected=str(wrong),
            got=str(own["frame_index"][wrong]),
            do="Frames are missing or out of order; record the episode again.",
        )
    unknown = np.flatnonzero((text < 0) | (text >= len(tasks)))
    if len(unknown):
        yield Finding(
            where=f"{where}, frame {unknown[0]}: {said.text_column}",
            expected=f"0 to {len(tasks) - 1}, as {said.tasks_path.name} holds",
            got=str(text[unknown[0]]),
            do=AGAIN,
        )
    yield from _timestamps(where, float(said.info["fps"]), own["timestamp"].astype(np.float64))


def _timestamps(where: str, fps: float, times_s: np.ndarray) -> Iterator[Finding]:
    steps_s = np.diff(times_s)
    backwards = np.flatnonzero(steps_s <= 0)
    if len(backwards):
        frame = int(backwards[0]) + 1
        yield Finding(
            where=f"{where}, frame {frame}: timestamp",
            expected=f"more than {times_s[frame - 1]:.4f} s, the time of the frame before",
            got=f"{times_s[frame]:.4f} s",
            do="Time must move forward; record the episode again or leave it out.",
        )
        return
    if len(steps_s) and abs(np.median(steps_s) * fps - 1) > _TIME_TOLERANCE_FRAMES:
        yield Finding(
            where=f"{where}: timestamp",
            expected=f"a frame every {1 / fps:.4f} s ({fps:g} fps, as info.json says)",
            got=f"every {np.median(steps_s):.4f} s ({1 / np.median(steps_s):.4g} fps)",
            do="Correct fps in info.json, or the timestamps.",
        )
        return
    away = np.flatnonzero(np.abs(times_s - np.arange(len(times_s)) / fps) * fps > 0.5)
    if len(away):
        frame = int(away[0])
        yield Finding(
            where=f"{where}, frame {frame}: timestamp",
            expected=f"{frame / fps:.4f} s (frame {frame} at {fps:g} fps)",
            got=f"{times_s[frame]:.4f} s",
            do="Frames were dropped; record the episode again or resample it.",
        )


def _videos(
    root: Path, info: Mapping[str, Any], key: str, name: str, rows: Sequence[Mapping[str, Any]]
) -> tuple[dict[Path, list[Mapping[str, Any]]], list[Finding]]:
    """The video files of one camera with the episodes that each should hold."""
    groups: dict[Path, list[Mapping[str, Any]]] = {}
    missing = [row["episode_index"] for row in rows if row.get(f"videos/{key}/chunk_index") is None]
    for row in rows:
        if row["episode_index"] not in missing:
            file = (info.get("video_path") or meta.VIDEO_PATH).format(
                video_key=key,
                chunk_index=int(row[f"videos/{key}/chunk_index"]),
                file_index=int(row[f"videos/{key}/file_index"]),
            )
            groups.setdefault(root / file, []).append(row)
    if not missing:
        return groups, []
    return groups, [
        Finding(
            where=f"{root / 'meta/episodes'}: episodes {missing[:8]}",
            expected=f"a video of camera {name!r}, which info.json lists",
            got="none",
            do="Record the camera, or remove it from info.json.",
            episodes=tuple(missing) if len(missing) < len(rows) else (),
        )
    ]
