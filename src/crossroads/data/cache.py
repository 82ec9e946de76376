"""Decodes each frame once, at the size that is trained on, into a memory-mapped file.

Reading windows from video decodes the same groups of pictures again in every epoch; from a map of uint8 it is a copy
(`benchmarks/loader.py`). Frames are stored episode after episode; processes decode episodes side by side and each is
marked when its frames are there, so that a killed process leaves nothing wrong and the next one goes on. What is not
there yet, because it is being decoded or because the limit of the cache leaves no room, is read from the video.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from threading import Lock, Thread

import numpy as np
from tqdm import tqdm

from crossroads.cores import usable_cores
from crossroads.data.columns import Episode
from crossroads.data.decode_worker import Part, Task, fill, write_at
from crossroads.data.direct import Direct, Request
from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.resize import resize
from crossroads.errors import InputError, nearest
from crossroads.storage import WRITTEN, Filling, cache_limit, default_root, filling_lock, in_use, is_whole, room

_SETTLE_EVERY_FRAMES = 4096
_ALONE_PIXELS = 100_000_000
"""So few are decoded in this process: about the time that another one takes to start."""
_TASK_FRAMES = 256


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """The cache file of one camera, complete or on its way."""

    frames: np.ndarray
    """`[frames of the data set, h, w, 3]`, read-only; fewer frames where the limit leaves no room."""
    marks: np.ndarray | None
    """Per episode that has room: 0 while its frames are not there; `None` when all are."""


@dataclass(frozen=True, kw_only=True)
class FrameCache:
    """All frames of some cameras of one data set at one size; get one from `open`."""

    dataset: LeRobotDataset = field(repr=False)
    shelves: dict[str, Shelf]
    """By camera."""
    starts: np.ndarray = field(repr=False)
    """The first row of each episode."""
    image_hw: tuple[int, int]
    faults: list[BaseException] = field(default_factory=list)
    """What ended the decoding in the background."""

    @classmethod
    def open(
        cls,
        dataset: LeRobotDataset,
        *,
        cameras: Sequence[str],
        image_hw: tuple[int, int],
        root: Path | None = None,
        behind: bool = False,
        num_workers: int | None = None,
        limit_bytes: int | None = None,
    ) -> FrameCache:
        """Map what was decoded before and decode the rest in `num_workers` processes (`None`: one for each core).

        No two processes decode the same: the second waits. With `behind` nobody waits: the rest is decoded in the
        background while batches are served, and a second process reads along. `limit_bytes` is for all cache files
        together; `None`: the limit that `$CROSSROADS_CACHE_GB` names, or none.
        """
        builder = _Builder(
            dataset=dataset,
            image_hw=(image_hw[0], image_hw[1]),
            root=root or default_root(),
            behind=behind,
            num_workers=num_workers or usable_cores(),
            limit_bytes=cache_limit() if limit_bytes is None else limit_bytes,
        )
        cache = cls(dataset=dataset, shelves={}, starts=builder.starts, image_hw=builder.image_hw)
        rest: list[Callable[[], None]] = []
        for camera in cameras:
            if camera not in dataset.cameras:
                raise InputError(
                    where=f"{dataset.path}: cameras",
                    expected=f"some of {', '.join(dataset.cameras)}",
                    got=repr(camera),
                    do=nearest(camera, dataset.cameras),
                )
            in_use(builder.path(camera), cache)
            cache.shelves[camera], left = builder.open(camera)
            rest += left
        if rest:
            Thread(target=_carry_on, args=(rest, cache.faults), name="frame cache", daemon=True).start()
        return cache

    @property
    def cameras(self) -> tuple[str, ...]:
        return tuple(self.shelves)

    def frames(self, episode_index: int, camera: str, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """A copy of the given frames of one episode, `[n, h, w, 3]` uint8."""
        frame = np.asarray(indices, np.int64)
        return self.take(camera, np.full(len(frame), episode_index), frame)

    def take(self, camera: str, episode: np.ndarray, frame: np.ndarray) -> np.ndarray:
        """A copy of one frame of each episode, `[n, h, w, 3]` uint8; both are `[n]`."""
        out = np.empty((len(frame), *self.image_hw, 3), np.uint8)
        self.read([Request(camera=camera, episode=episode, frame=frame, out=out)])
        return out

    def read(self, requests: Sequence[Request]) -> None:
        """Copy what is there, and decode what is not."""
        missing: list[tuple[Request, np.ndarray, Request]] = []
        for one in requests:
            shelf = self.shelves[one.camera]
            rows = self.starts[one.episode] + one.frame
            there = rows < len(shelf.frames)
            if shelf.marks is not None:
                there &= shelf.marks[np.minimum(one.episode, len(shelf.marks) - 1)] != 0
            if there.all():
                shelf.frames.take(rows, axis=0, out=one.out, mode="clip")  # the other modes make a copy of `out`
                continue
            one.out[there] = shelf.frames[rows[there]]
            left = np.flatnonzero(~there)
            out = np.empty((len(left), *self.image_hw, 3), np.uint8)
            rest = Request(camera=one.camera, episode=one.episode[left], frame=one.frame[left], out=out)
            missing.append((one, left, rest))
        if missing:
            if self.faults:
                raise self.faults[0]
            Direct(dataset=self.dataset, image_hw=self.image_hw).read([rest for _, _, rest in missing])
            for one, left, rest in missing:
                one.out[left] = rest.out


def _carry_on(rest: Sequence[Callable[[], None]], faults: list[BaseException]) -> None:
    for build in rest:
        try:
            build()
        except BaseException as fault:  # told to the next who misses a frame
            faults.append(fault)


@dataclass(frozen=True, kw_only=True)
class _Builder:
    """Opens the cache files of a data set, and fills those that are not complete."""

    dataset: LeRobotDataset
    image_hw: tuple[int, int]
    root: Path
    behind: bool
    num_workers: int
    limit_bytes: int | None

    @cached_property
    def folder(self) -> Path:
        folder = self.root / "frames" / self.dataset.content_hash()[:24]
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def starts(self) -> np.ndarray:
        return self.dataset.episodes.columns.start

    def path(self, camera: str) -> Path:
        return self.folder / f"{camera}-{self.image_hw[0]}x{self.image_hw[1]}.u8"

    def open(self, camera: str) -> tuple[Shelf, list[Callable[[], None]]]:
        """The file of a camera, and what is left to do for it in the background."""
        path = self.path(camera)
        while not is_whole(path):
            with ExitStack() as locked:
                mine = locked.enter_context(filling_lock(path, wait=not self.behind))
                if path.is_file():
                    break
                if mine:
                    return self._begin(camera, path, locked.pop_all())
            try:  # another one fills it
                return self._on_its_way(path), []
            except FileNotFoundError:  # and has just begun, or ended
                time.sleep(0.02)
        return Shelf(frames=self._mapped(path), marks=None), []

    def _begin(self, camera: str, path: Path, locked: ExitStack) -> tuple[Shelf, list[Callable[[], None]]]:
        """Begin to fill the file, or go on; and fill it, unless that is to be done in the background."""
        num_bytes = self.dataset.num_frames * self._frame_bytes
        with ExitStack() as held:
            held.push(locked)
            with room(self.root, path, num_bytes, self.limit_bytes) as free:
                if not (num := self._num_with_room(free // self._frame_bytes)):
                    return Shelf(frames=np.zeros((0, *self.image_hw, 3), np.uint8), marks=None), []
                rows = self.dataset.num_frames if num == len(self.starts) else int(self.starts[num])
                file = Filling(path=path, num_bytes=rows * self._frame_bytes, num_units=num)
                marks = file.begin()
            shelf = Shelf(frames=self._mapped(file.part), marks=marks)
            if self.behind:
                kept = held.pop_all()
                return shelf, [lambda: self._fill(camera, file, marks, kept)]
            self._fill(camera, file, marks, held.pop_all())
            return Shelf(frames=self._mapped(path), marks=None), []

    @property
    def _frame_bytes(self) -> int:
        return math.prod((*self.image_hw, 3))

    def _num_with_room(self, num_frames: int) -> int:
        """How many episodes, from the first on, so many frames hold."""
        columns = self.dataset.episodes.columns
        return int(np.searchsorted(columns.start + columns.length, num_frames, side="right"))

    def _mapped(self, file: Path) -> np.ndarray:
        return np.memmap(file, np.uint8, "r").reshape(-1, *self.image_hw, 3)

    def _on_its_way(self, path: Path) -> Shelf:
        file = Filling(path=path, num_bytes=0, num_units=0)
        marks, frames = file.follow(), self._mapped(file.part)
        return Shelf(frames=frames, marks=marks)

    def _fill(self, camera: str, file: Filling, marks: np.ndarray, locked: ExitStack) -> None:
        """Decode all episodes that are not there."""
        with locked:
            there = np.asarray(self.dataset.episodes.columns.length[: len(marks)]) > 0  # others were left out
            marks[~there] = WRITTEN
            episodes = [self.dataset.episodes[unit] for unit in np.flatnonzero(marks == 0).tolist()]
            pixels = sum(episode.length for episode in episodes) * math.prod(self.dataset.image_hw[camera])
            feature = self.dataset.info["features"][self.dataset.camera_keys[camera]]
            total = file.num_bytes // self._frame_bytes
            unsaved, lock = 0, Lock()
            begun = total - sum(episode.length for episode in episodes)
            bar = tqdm(
                total=total,
                initial=begun,
                desc=f"decode {camera}",
                unit="frame",
                leave=False,
                disable=True if self.behind else None,  # None: shown where there is a terminal
            )
            with bar:

                def done(unit: int) -> None:
                    nonlocal unsaved
                    with lock:
                        marks[unit] = WRITTEN
                        length = self.dataset.episodes[unit].length
                        bar.update(length)
                        unsaved += length
                        if unsaved >= _SETTLE_EVERY_FRAMES:
                            file.settle(marks)
                            unsaved = 0

                if pixels <= _ALONE_PIXELS or feature["dtype"] != "video":
                    self._alone(camera, file, episodes, done)
                else:
                    fill(self._tasks(camera, file, episodes), self.num_workers, done)
            file.end()

    def _alone(self, camera: str, file: Filling, episodes: Sequence[Episode], done: Callable[[int], None]) -> None:
        out = os.open(file.part, os.O_WRONLY)
        try:
            for episode in episodes:
                pictures = resize(self.dataset.frames(episode, camera, None), self.image_hw)
                write_at(out, pictures, episode.start * self._frame_bytes)
                done(episode.index)
        finally:
            os.close(out)

    def _tasks(self, camera: str, file: Filling, episodes: Sequence[Episode]) -> Iterator[Task]:
        """Some episodes each, of one video file, in its order: what is decoded together is read in one pass."""
        parts: list[Part] = []
        for episode, following in pairwise((*episodes, None)):
            assert episode is not None
            video, from_s = self.dataset.video_file(episode, camera)
            times = from_s + self.dataset.tables.timestamp_s[episode.rows].astype(np.float64)
            parts.append(Part(unit=episode.index, times_s=times.tolist(), offset=episode.start * self._frame_bytes))
            num_frames = sum(len(part.times_s) for part in parts)
            if (
                following is None
                or num_frames >= _TASK_FRAMES
                or self.dataset.video_file(following, camera)[0] != video
            ):
                yield Task(
                    video=str(video),
                    out=str(file.part),
                    image_hw=self.image_hw,
                    tolerance_s=0.5 / self.dataset.fps,
                    parts=parts,
                )
                parts = []
