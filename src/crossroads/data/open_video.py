"""A video file that stays open: reads the pictures at some times, decoding only what they depend on.

Opening a file costs as much as a picture or two, a seek in an open one a twentieth of that (measured). Where the
order of decoding is the order of showing (all that LeRobot's and our writer make), the table of packets in the file
says which packets lie between a picture and the key frame before it, and no others are decoded: of a window with a
picture in every second frame and a key frame there too, the rest is passed over. Other files are read forward from
the key frame. One thread decodes; callers read several files, or parts of one, in threads of their own.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from crossroads.errors import InputError

MOST_OPEN = 16
"""Files that a thread keeps open."""
SEEK_GAP_FRAMES = 48
"""Where pictures are read forward: read on through a gap shorter than this instead of seeking."""


class OpenVideo:
    """One file and its decoder; for one thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._container = av.open(str(path))
        self._stream = self._container.streams.video[0]
        self._stream.codec_context.thread_count = 1
        self._time_base = float(self._stream.time_base or 0)
        self._convert = VideoReformatter()  # a frame's own `to_ndarray` makes one per frame, at ten times the cost
        self._ticks, self._keys = self._table()
        self._packets: Iterator[Packet] = iter(())
        self._next = -1
        """The place of the packet that comes next, if the decoder has all before it that it depends on."""
        self._inside = 0
        """Packets that were given to the decoder and have not come back as pictures."""

    def close(self) -> None:
        self._container.close()

    def frames(self, times_s: np.ndarray, *, tolerance_s: float) -> np.ndarray:
        """The pictures shown at ascending times without repeats, `[n, h, w, 3]` uint8.

        Raises `InputError` when there is none within `tolerance_s` of a time.
        """
        context = self._stream.codec_context
        out = np.empty((len(times_s), context.height, context.width, 3), np.uint8)
        if len(self._ticks) and not self._picked(times_s, tolerance_s, out):
            self._ticks = self._ticks[:0]  # the table is not what the packets say
        if not len(self._ticks):
            self._forward(times_s, tolerance_s, out)
        return out

    def _table(self) -> tuple[np.ndarray, np.ndarray]:
        """When each packet is shown, in ticks of the file, and the places of key frames; empty if that is not known."""
        none = np.zeros(0, np.int64)
        if self._stream.codec_context.has_b_frames:
            return none, none
        entries = [(entry.timestamp, entry.is_keyframe) for entry in self._stream.index_entries]
        ticks = np.array([tick for tick, _ in entries], np.int64)
        keys = np.flatnonzero([key for _, key in entries])
        sound = len(keys) and keys[0] == 0 and bool((np.diff(ticks) > 0).all())
        return (ticks, keys) if sound else (none, none)

    def _picked(self, times_s: np.ndarray, tolerance_s: float, out: np.ndarray) -> bool:
        """Decode groups of pictures that are needed, each up to the last that is; whether the table was right."""
        shown_s = self._ticks * self._time_base
        after = np.searchsorted(shown_s, times_s).clip(max=len(shown_s) - 1)
        before = (after - 1).clip(min=0)
        places = np.where(np.abs(shown_s[after] - times_s) <= np.abs(times_s - shown_s[before]), after, before)
        far = np.abs(shown_s[places] - times_s) > tolerance_s
        if far.any():
            raise self._missing(times_s[far][0], tolerance_s)
        wanted: dict[int, list[int]] = {}
        for position, place in enumerate(places.tolist()):
            wanted.setdefault(int(self._ticks[place]), []).append(position)
        groups = self._keys[np.searchsorted(self._keys, places, side="right") - 1]
        for key in np.unique(groups).tolist():
            here = places[groups == key]
            if not self._read(key, int(here[0]), int(here[-1]), wanted, out):
                self._next = -1
                return False
        if wanted:
            self._drain(wanted, out)
        if wanted:
            raise self._missing(float(times_s[min(wanted.values())[0]]), tolerance_s)
        return True

    def _read(self, key: int, first: int, last: int, wanted: dict[int, list[int]], out: np.ndarray) -> bool:
        """Decode from a key frame, or from where the decoder is between it and the picture `first`, to the picture
        `last`; false when the packets are not those of the table."""
        if not key <= self._next <= first:
            self._drain(wanted, out)
            self._container.seek(int(self._ticks[key]), stream=self._stream, backward=True)
            self._packets, self._next = self._container.demux(self._stream), key
        while self._next <= last:
            packet = next(self._packets, None)
            if packet is None or not packet.size:
                self._next = -1
                return True  # the file ends here; what is missing is told
            if packet.pts != self._ticks[self._next] or packet.dts != packet.pts:
                return False
            self._next, self._inside = self._next + 1, self._inside + 1
            self._keep(self._stream.codec_context.decode(packet), wanted, out)
        return True

    def _drain(self, wanted: dict[int, list[int]], out: np.ndarray) -> None:
        """Have the pictures that the decoder holds back; it must be sent to a key frame then."""
        if self._inside:
            self._keep(self._stream.codec_context.decode(None), wanted, out)
            self._stream.codec_context.flush_buffers()
            self._inside = 0
            self._next = -1

    def _keep(self, frames: list[VideoFrame], wanted: dict[int, list[int]], out: np.ndarray) -> None:
        for frame in frames:
            self._inside -= 1
            for position in wanted.pop(-1 if frame.pts is None else frame.pts, ()):
                self._store(frame, out[position])

    def _store(self, frame: VideoFrame, out: np.ndarray) -> None:
        """In one thread: for small pictures, waking others costs ten times the conversion (measured)."""
        picture = self._convert.reformat(frame, format="rgb24", threads=1)
        plane = picture.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        out[:] = rows[: picture.height, : 3 * picture.width].reshape(out.shape)

    def _forward(self, times_s: np.ndarray, tolerance_s: float, out: np.ndarray) -> None:
        """Read forward from the key frame before each wanted picture that is not near the one before it."""
        gap_s = SEEK_GAP_FRAMES / float(self._stream.average_rate or 30)
        done = 0
        while done < len(times_s):
            tick = max(0, round(times_s[done] / self._time_base) - 1)
            self._container.seek(tick, stream=self._stream, backward=True)
            reached = self._read_forward(times_s, done, out, tolerance_s, gap_s)
            if reached == done:
                raise self._missing(float(times_s[done]), tolerance_s)
            done = reached

    def _read_forward(self, times_s: np.ndarray, done: int, out: np.ndarray, tolerance_s: float, gap_s: float) -> int:
        """Fill `out` from `done` on until a gap asks for a seek; return the first position not filled."""
        before: tuple[float, VideoFrame] | None = None
        for frame in self._container.decode(self._stream):
            if frame.pts is None:
                continue
            now = (frame.pts * self._time_base, frame)
            start = done
            while done < len(times_s) and times_s[done] <= now[0]:
                near = now if before is None or now[0] - times_s[done] <= times_s[done] - before[0] else before
                if abs(near[0] - times_s[done]) > tolerance_s:
                    return done
                self._store(near[1], out[done])
                done += 1
            if done == len(times_s) or (done > start and times_s[done] - now[0] > gap_s):
                return done
            before = now
        while done < len(times_s) and before is not None and times_s[done] - before[0] <= tolerance_s:
            self._store(before[1], out[done])
            done += 1
        return done

    def _missing(self, time_s: float, tolerance_s: float) -> InputError:
        return InputError(
            where=f"{self.path} at {time_s:.3f} s",
            expected=f"a frame within {tolerance_s:.4f} s",
            got="none",
            do="The file is truncated or has another frame rate than info.json says; record it again.",
        )


_State = tuple[int, int, int, int]


class _Kept(threading.local):
    """The files that a thread has open, the one used last at the end."""

    def __init__(self) -> None:
        self.videos: OrderedDict[Path, tuple[_State, OpenVideo]] = OrderedDict()
        self.process = os.getpid()


_KEPT = _Kept()


def open_video(path: Path) -> OpenVideo:
    """The file as this thread has it open, unless it was changed since; a child process opens its own."""
    if _KEPT.process != os.getpid():
        _KEPT.videos, _KEPT.process = OrderedDict(), os.getpid()
    told = path.stat()
    state = (told.st_dev, told.st_ino, told.st_mtime_ns, told.st_size)
    kept = _KEPT.videos.get(path)
    if kept is None or kept[0] != state:
        forget(path)
        kept = (state, OpenVideo(path))
        _KEPT.videos[path] = kept
        while len(_KEPT.videos) > MOST_OPEN:
            forget(next(iter(_KEPT.videos)))
    _KEPT.videos.move_to_end(path)
    return kept[1]


def forget(path: Path) -> None:
    """Close a file of this thread, as after an error in it."""
    kept = _KEPT.videos.pop(path, None)
    if kept is not None:
        kept[1].close()
