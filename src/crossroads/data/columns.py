"""What an opened dataset knows of its episodes and frames: columns, and an `Episode` where one is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One recording: where its rows lie in the arrays of the data set, and what it is about."""

    index: int
    length: int
    text: str
    """The instruction at its first frame."""
    session: int
    action_free: bool
    """Video and text only: no state, no actions."""
    start: int
    """Its first row in the arrays of the whole data set."""

    @property
    def rows(self) -> slice:
        return slice(self.start, self.start + self.length)


@dataclass(frozen=True, kw_only=True)
class Tables:
    """The columns of all frames, in episode order; read-only views are handed out, so do not write into them."""

    state: np.ndarray
    actions: np.ndarray
    timestamp_s: np.ndarray
    frame_index: np.ndarray
    task_index: np.ndarray
    action_free: np.ndarray
    session: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Columns:
    """One number per episode."""

    length: np.ndarray
    start: np.ndarray
    task: np.ndarray
    """The instruction at its first frame."""
    session: np.ndarray
    action_free: np.ndarray
    finite: np.ndarray
    """Whether every number of its states and actions is finite."""
    told: np.ndarray
    """Whether every frame of it has an instruction that is not empty."""


class Episodes(Sequence[Episode]):
    """All episodes in order; an `Episode` is made when it is asked for."""

    def __init__(self, columns: Columns, tasks: tuple[str, ...]) -> None:
        self.columns, self._tasks = columns, tasks

    def __len__(self) -> int:
        return len(self.columns.length)

    @overload
    def __getitem__(self, index: int) -> Episode: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Episode, ...]: ...

    def __getitem__(self, index: int | slice) -> Episode | tuple[Episode, ...]:
        if isinstance(index, slice):
            return tuple(self[place] for place in range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(f"episode {index} of {len(self)}")
        place, of = index % len(self), self.columns
        return Episode(
            index=place,
            length=int(of.length[place]),
            text=self._tasks[of.task[place]],
            session=int(of.session[place]),
            action_free=bool(of.action_free[place]),
            start=int(of.start[place]),
        )

    def __iter__(self) -> Iterator[Episode]:
        return (self[place] for place in range(len(self)))

    def where(self, *, action_free: bool) -> np.ndarray:
        """The indices of the episodes with actions, or of those without; none that was left out."""
        there = np.asarray(self.columns.length) > 0
        return np.flatnonzero(there & (np.asarray(self.columns.action_free) == action_free))


@dataclass(frozen=True, kw_only=True)
class Files:
    """Which file holds each episode, by its numbers of chunk and file; for a video, where in it the episode starts."""

    chunk: np.ndarray
    file: np.ndarray
    from_s: np.ndarray

    def distinct(self, episodes: Sequence[int] | np.ndarray | None = None) -> list[tuple[int, int]]:
        """The numbers of each file once, ascending; of those that hold some episodes, where they are given."""
        numbers = np.stack([self.chunk, self.file], axis=1)
        chosen = numbers if episodes is None else numbers[np.asarray(episodes, np.int64)]
        return [(int(chunk), int(file)) for chunk, file in np.unique(chosen, axis=0)]


@dataclass(frozen=True, kw_only=True)
class Index:
    """What an opened dataset knows of its episodes and frames."""

    columns: Columns
    tables: Tables = field(repr=False)
    data: Files
    videos: Mapping[str, Files]
    """By feature key."""
    low: np.ndarray
    high: np.ndarray
    """Least and greatest value of each action dimension, of the frames that have actions."""
