"""Encoded episodes, taken over packet by packet: what is in a video file, and joining several into one.

Nothing is decoded or encoded, so nothing is lost and a disk is the limit. LeRobot joins episodes the same way, with
ffmpeg's concat demuxer (LeRobot 0.4.4, `datasets/video_utils.py: concatenate_video_files`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from crossroads.errors import InputError

_OFF_FRAMES = 0.25
"""A picture that is further than this from its place in the row of frames is not where it belongs."""


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """What a video file says without being decoded."""

    codec: str
    pixel_format: str
    image_hw: tuple[int, int]
    header: bytes
    """Parameter sets of the decoder; files can be joined when they have the same."""
    times_s: np.ndarray
    """When each picture is shown, ascending."""
    keys_s: np.ndarray
    """When those pictures are shown that can be decoded alone."""
    sha256: str
    """Of all packets, in their order."""

    def is_row_of(self, num_frames: int, fps: float) -> bool:
        """Exactly this many pictures, one per frame from time 0 on, the first of which can be decoded alone?"""
        return (
            len(self.times_s) == num_frames
            and bool(np.all(np.abs(self.times_s * fps - np.arange(num_frames)) < _OFF_FRAMES))
            and len(self.keys_s) > 0
            and bool(self.keys_s[0] == self.times_s[0])
        )


def scan(path: Path) -> Encoded:
    """Read all packets of a file. Raises `InputError` when it cannot be read."""
    times, keys, total = [], [], hashlib.sha256()
    with _opened(path) as (container, stream):
        for packet, shown_s in _packets(container, stream):
            times.append(shown_s)
            keys += [shown_s] if packet.is_keyframe else []
            total.update(bytes(packet))
        context = stream.codec_context
        return Encoded(
            codec=context.codec.canonical_name,
            pixel_format=str(context.pix_fmt),
            image_hw=(context.height, context.width),
            header=context.extradata or b"",
            times_s=np.sort(np.asarray(times, np.float64)),
            keys_s=np.sort(np.asarray(keys, np.float64)),
            sha256=total.hexdigest(),
        )


def hashes(path: Path, starts_s: Sequence[float]) -> list[tuple[str, int]]:
    """Of each episode that a file holds, the hash of its packets (as `Encoded.sha256`) and their number.

    An episode begins at its `starts_s`, which ascend, and ends where the next one begins; the file is read once.
    """
    totals = [hashlib.sha256() for _ in starts_s]
    counts = [0] * len(starts_s)
    with _opened(path) as (container, stream):
        for packet, shown_s in _packets(container, stream):
            place = int(np.searchsorted(starts_s, shown_s, side="right")) - 1
            totals[place].update(bytes(packet))
            counts[place] += 1
    return [(total.hexdigest(), count) for total, count in zip(totals, counts, strict=True)]


class VideoJoiner:
    """One mp4 file to which the packets of other files are appended, one file per episode."""

    def __init__(self, path: Path, *, fps: float, first: Path) -> None:
        """`first` is the file whose codec and parameters all others must share; it is not appended yet."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.num_frames, self.size_bytes = path, 0, 0
        self._fps = fps
        self._container: OutputContainer = av.open(str(path), "w")
        with _opened(first) as (_, stream):
            self._stream = self._container.add_stream_from_template(stream)
            self._header = stream.codec_context.extradata

    def takes(self, clip: Path) -> bool:
        """Has the file the same codec parameters, so that one decoder reads both?"""
        with _opened(clip) as (_, stream):
            return stream.codec_context.extradata == self._header

    def append(self, clip: Path) -> None:
        """Append every packet of a file, shown after all that was appended before."""
        with _opened(clip) as (container, stream):
            offset = round(self.num_frames / self._fps / float(stream.time_base or 1))
            for packet, _ in _packets(container, stream):
                self.size_bytes += packet.size
                self.num_frames += 1
                packet.pts = (packet.pts or 0) + offset
                packet.dts = (packet.dts or 0) + offset
                packet.stream = self._stream
                self._container.mux(packet)

    def close(self) -> None:
        self._container.close()


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    try:
        with av.open(str(path)) as container:
            yield container, container.streams.video[0]
    except (FFmpegError, IndexError) as error:
        got = "no such file" if not path.is_file() else f"{path.stat().st_size} bytes, {error}"
        raise InputError(
            where=str(path), expected="a readable mp4 file", got=got, do="Copy or record this file again."
        ) from error


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[tuple[Packet, float]]:
    """Every packet that holds a picture, in the order of decoding, and when it is shown."""
    time_base = float(stream.time_base or 0)
    for packet in container.demux(stream):
        if packet.size and packet.pts is not None:
            yield packet, packet.pts * time_base
