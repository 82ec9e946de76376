"""Looks over the video files of a dataset: are they there, do they open, have they rate, size and length as meta says?

Every file's index is walked and its last frame decoded; `broken_frames` decodes all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError

from crossroads.data import meta
from crossroads.data.remote import Remote
from crossroads.data.video import decode
from crossroads.errors import InputError

AGAIN = "Record or copy this file again."


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong."""

    where: str
    expected: str
    got: str
    do: str
    episodes: tuple[int, ...] = ()
    """The episodes that it spoils; none where it is not about single ones."""

    def __str__(self) -> str:
        return f"{self.where}: expected {self.expected}, got {self.got}. {self.do}"


def finding_of(error: InputError, episodes: tuple[int, ...] = ()) -> Finding:
    """What an error says, as a finding."""
    return Finding(where=error.where, expected=error.expected, got=error.got, do=error.do, episodes=episodes)


def episodes_of(members: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
    """The episodes of some rows of meta/episodes."""
    return tuple(int(row["episode_index"]) for row in members)


def check_video(
    path: Path, info: Mapping[str, Any], key: str, members: Sequence[Mapping[str, Any]], remote: Remote | None
) -> Iterator[Finding]:
    """One mp4 file: is it there, does it open, has it the rate, size and length that meta says?"""
    try:
        if remote is not None:
            remote.get(path.relative_to(remote.root).as_posix())
    except InputError as error:
        yield finding_of(error, episodes_of(members))
        return
    fps = float(info["fps"])
    last = max(members, key=lambda row: row[f"videos/{key}/from_timestamp"])
    end_s = _end_s(last, key, fps)
    if not path.is_file():
        expected = f"the video of episodes {list(episodes_of(members)[:8])}"
        yield Finding(where=str(path), expected=expected, got="no such file", do=AGAIN, episodes=episodes_of(members))
        return
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            rate, size = float(stream.average_rate or 0), (stream.codec_context.height, stream.codec_context.width)
            num_packets = sum(1 for packet in container.demux(stream) if packet.size)
    except (FFmpegError, IndexError) as error:
        got = f"{path.stat().st_size} bytes, {error}"
        yield Finding(where=str(path), expected="a readable mp4 file", got=got, do=AGAIN, episodes=episodes_of(members))
        return
    if tuple(size) != meta.image_hw(info["features"][key]):
        yield Finding(
            where=str(path),
            expected=f"frames of {meta.image_hw(info['features'][key])} pixels, as info.json says",
            got=str(tuple(size)),
            do="Correct info.json, or record again.",
            episodes=episodes_of(members),
        )
    if abs(rate / fps - 1) > 0.01:
        yield Finding(
            where=str(path),
            expected=f"{fps:g} fps, as info.json says",
            got=f"{rate:g} fps",
            do="Correct fps in info.json, or encode the video at that rate.",
            episodes=episodes_of(members),
        )
    elif num_packets < round(end_s * fps) + 1:
        yield Finding(
            where=f"{path}: episode {last['episode_index']}",
            expected=f"at least {round(end_s * fps) + 1} frames",
            got=f"{num_packets}",
            do=f"The file is truncated. {AGAIN}",
            episodes=episodes_of([row for row in members if round(_end_s(row, key, fps) * fps) + 1 > num_packets]),
        )
    else:
        try:
            decode(path, [end_s], tolerance_s=0.5 / fps)
        except InputError as error:
            yield from broken_frames(path, fps, key, members) or [finding_of(error, episodes_of([last]))]


def _end_s(row: Mapping[str, Any], key: str, fps: float) -> float:
    """When the last frame of an episode is shown in its file."""
    return float(row[f"videos/{key}/from_timestamp"]) + (int(row["length"]) - 1) / fps


def broken_frames(path: Path, fps: float, key: str, members: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """Decode every frame of a file: the damaged ones by episode and frame, and those that are not there."""
    sound: list[float] = []
    damaged: list[float] = []
    told = "damaged or absent"
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            for frame in container.decode(stream):
                if frame.time is not None:
                    (damaged if frame.is_corrupt else sound).append(frame.time)
    except FFmpegError as error:
        told = f"damaged or absent ({error})"
    found, shown = [], np.sort(np.array(sound))
    for row in members:
        times = float(row[f"videos/{key}/from_timestamp"]) + np.arange(int(row["length"])) / fps
        after = np.searchsorted(shown, times - 0.5 / fps)
        there = after < len(shown)
        there[there] = shown[after[there]] < times[there] + 0.5 / fps
        bad = np.flatnonzero(~there)
        if len(bad):
            found.append(
                Finding(
                    where=f"{path}: episode {row['episode_index']}, frame {bad[0]}",
                    expected="a picture that can be decoded whole",
                    got=f"{told} (and {len(bad) - 1} frames more)",
                    do=AGAIN,
                    episodes=episodes_of([row]),
                )
            )
    return found
