"""What every reader of a foreign format gives: a list of episodes whose numbers and pictures are read when asked for.

Pictures come in blocks, so that a long episode needs no more memory than a short one. A reader keeps the numbers as
they are (units, order); only their precision becomes float32, which is what LeRobotDataset v3.0 stores.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from crossroads.errors import InputError

BLOCK_FRAMES = 64
"""Frames that are read, encoded and compared at a time: 59 MB at 480 x 640."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a person says about a source because the files do not, or in place of what they say; empty: not said."""

    fps: float | None = None
    robot: str = ""
    text: str = ""
    """The instruction of every episode."""
    state: tuple[str, ...] = ()
    """Arrays that make up the state, one behind the other."""
    action: tuple[str, ...] = ()
    """Arrays that make up the action."""
    cameras: tuple[str, ...] = ()
    """The cameras to take; all of them when empty."""

    def rate(self, path: Path, recorded: float | None) -> float:
        """Frames per second; an `InputError` when neither the person nor the files say it."""
        fps = self.fps if self.fps is not None else recorded
        if fps is None or not fps > 0:
            raise InputError(
                where=f"{path}: frame rate",
                expected="a rate above zero in the files or with --fps",
                got="none" if fps is None else f"{fps:g}",
                do="Give --fps with the rate at which it was recorded.",
            )
        return float(fps)


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """One episode without its pictures."""

    state: np.ndarray
    """`[t, s]` float32."""
    actions: np.ndarray
    """`[t, a]` float32."""
    text: str
    session: int = 0
    action_free: bool = False

    @property
    def length(self) -> int:
        return len(self.actions)


@dataclass(frozen=True, kw_only=True)
class Clip:
    """The encoded pictures of one episode and camera, where the source keeps them as a video file."""

    path: Path
    from_s: float
    """Where in the file the episode begins."""
    alone: bool
    """The file holds this episode and nothing else, so it can be taken over without encoding it again."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What holds for all episodes of a source."""

    path: Path
    format: str
    fps: float
    robot: str
    cameras: Mapping[str, tuple[int, int]]
    """Height and width per camera."""
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    action_units: tuple[str, ...] = ()
    limits: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    """Lowest and highest value of each action where the source states them."""
    num_episodes: int
    left_behind: tuple[str, ...]
    """What else is stored for every step and is not read: rewards, other sensors, depth."""
    files: tuple[Path, ...] = field(repr=False)
    """Everything that is read: a source whose files changed is another source."""


@runtime_checkable
class Source(Protocol):
    """A readable collection of episodes."""

    @property
    def facts(self) -> Facts: ...

    def numbers(self, index: int) -> Numbers:
        """State, actions and words of one episode."""
        ...

    def frames(self, index: int, camera: str) -> Iterator[np.ndarray]:
        """The pictures of one episode in order, in blocks `[n, h, w, 3]` uint8 of at most `BLOCK_FRAMES`."""
        ...

    def clip(self, index: int, camera: str) -> Clip | None:
        """The video that holds these pictures, if they are kept as one."""
        ...


def vector(where: str, parts: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays `[t]` or `[t, ...]` of equal length side by side, `[t, d]` float32."""
    tables = [np.asarray(part).reshape(len(part), -1) for part in parts]
    if len({len(table) for table in tables}) > 1:
        raise InputError(
            where=where,
            expected="arrays of the same number of steps",
            got=f"lengths {[len(table) for table in tables]}",
            do="The file is damaged, or these arrays do not belong together; choose others.",
        )
    return np.concatenate(tables, axis=1).astype(np.float32)


def dimension_names(sizes: Mapping[str, int]) -> tuple[str, ...]:
    """One name per number: the array's own when it has one number, else with an index."""
    return tuple(
        name if size == 1 else f"{name}_{index}" for name, size in sizes.items() for index in range(max(size, 0))
    )


def chosen_cameras(where: str, wanted: Wanted, known: Mapping[str, Any]) -> tuple[str, ...]:
    """The cameras asked for, or all; an `InputError` when there is none or an unknown one."""
    unknown = [name for name in wanted.cameras if name not in known]
    if unknown or not known:
        raise InputError(
            where=f"{where}: cameras",
            expected=f"some of {', '.join(known)}" if known else "at least one camera of colour pictures",
            got=", ".join(unknown) or "none",
            do="Give --cameras with names from this list." if known else "A dataset without pictures cannot be used.",
        )
    return wanted.cameras or tuple(known)


def blocks(length: int) -> Iterator[slice]:
    """Consecutive slices of at most `BLOCK_FRAMES` that cover `length` frames."""
    for start in range(0, length, BLOCK_FRAMES):
        yield slice(start, min(start + BLOCK_FRAMES, length))
