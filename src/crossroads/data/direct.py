"""Pictures straight from the files: what a batch asks of one episode is read in one pass, several episodes at once.

Decoding and colour conversion run outside Python's lock, so threads of one process use all cores and share the index,
the tables and the batch they write to.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from crossroads.cores import usable_cores
from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.resize import resize


@dataclass(frozen=True, kw_only=True)
class Request:
    """Pictures of one camera that are wanted, and where they go."""

    camera: str
    episode: np.ndarray
    """`[n]`"""
    frame: np.ndarray
    """`[n]`, inside the episode."""
    out: np.ndarray
    """`[n, h, w, 3]` uint8."""


class Pictures(Protocol):
    """Where the pictures of a data set come from, at one size."""

    @property
    def cameras(self) -> tuple[str, ...]: ...

    @property
    def image_hw(self) -> tuple[int, int]: ...

    def read(self, requests: Sequence[Request]) -> None:
        """Fill what is asked for."""
        ...


@dataclass(frozen=True, kw_only=True)
class Direct:
    """No cache: every picture is decoded when it is asked for."""

    dataset: LeRobotDataset
    image_hw: tuple[int, int]

    @property
    def cameras(self) -> tuple[str, ...]:
        return self.dataset.cameras

    def read(self, requests: Sequence[Request]) -> None:
        """Each picture once, however often it is asked for."""
        wanted: dict[tuple[str, int], list[tuple[Request, np.ndarray]]] = {}
        for request in requests:
            for episode in np.unique(request.episode):
                here = np.flatnonzero(request.episode == episode)
                wanted.setdefault((request.camera, int(episode)), []).append((request, here))
        at_once(lambda place: self._episode(*place, wanted[place]), wanted)

    def _episode(self, camera: str, episode: int, asked: Sequence[tuple[Request, np.ndarray]]) -> None:
        frames, inverse = np.unique(np.concatenate([one.frame[here] for one, here in asked]), return_inverse=True)
        found = resize(self.dataset.frames(episode, camera, frames), self.image_hw)
        begin = 0
        for one, here in asked:
            one.out[here] = found[inverse[begin : begin + len(here)]]
            begin += len(here)


Read = Callable[[tuple[str, int]], None]


class _Threads:
    """As many as there are cores, made when they are first needed; a child process makes its own."""

    pool: ThreadPoolExecutor | None = None
    process = -1


def threads() -> ThreadPoolExecutor:
    """The threads that decode."""
    if _Threads.pool is None or _Threads.process != os.getpid():
        _Threads.pool = ThreadPoolExecutor(usable_cores(), thread_name_prefix="decode")
        _Threads.process = os.getpid()
    return _Threads.pool


def at_once(read: Read, places: Mapping[tuple[str, int], object]) -> None:
    """Call for each place, side by side; the first fault is raised when all have ended."""
    if len(places) == 1 or usable_cores() == 1:
        for place in places:
            read(place)
        return
    begun = [threads().submit(read, place) for place in places]
    wait(begun)
    for one in begun:
        one.result()
