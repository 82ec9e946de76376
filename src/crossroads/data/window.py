"""Cuts a data set into training windows: what was seen at one frame, and what followed.

A batch is a few fancy indices into contiguous arrays. Behind the end of an episode the last action and the last picture
are repeated and marked not valid; the masks always exist.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from crossroads.data.direct import Direct, Pictures, Request
from crossroads.data.geometry import read_geometry
from crossroads.data.lerobot import LeRobotDataset
from crossroads.errors import InputError, nearest
from crossroads.types import Batch, Observation, Window


class Windows:
    """The windows of some episodes, one for every `stride`-th frame, in the order of `episodes`.

    Windows that reach `inside_s` ahead and so behind the end of their episode are left out, but for the first of each.
    What is kept per window is nothing, and per episode one number. With `resampled` the window may have another rate
    than the recording: each action is then the one that was in force at its time.

    Raises `InputError` when the data set cannot fill the window (cameras, sizes, rate) or holds what must not be
    trained on (numbers that are not finite, an empty instruction).
    """

    def __init__(
        self,
        dataset: LeRobotDataset,
        window: Window,
        *,
        episodes: Sequence[int] | np.ndarray,
        cache: Pictures | None,
        stride: int = 1,
        inside_s: float = 0.0,
        resampled: bool = False,
    ) -> None:
        self.dataset, self.window, self.cache, self.stride = dataset, window, cache, stride
        self.episodes = _indices(dataset, episodes)
        _check_window(dataset, window, cache, stride, resampled)
        _check_episodes(dataset, self.episodes)
        self._source: Pictures = cache or Direct(dataset=dataset, image_hw=(window.image_hw[0], window.image_hw[1]))
        lengths = np.asarray(dataset.episodes.columns.length)[self.episodes]
        last = np.maximum(lengths - 1 - round(inside_s * dataset.fps), 0)
        self._ends = np.cumsum(last // stride + 1)
        self._frames_a_step = dataset.fps / window.control_hz if resampled and window.control_hz else 1.0
        # The nearest frame: at most half a frame from the time asked for.
        self._ahead = np.floor(np.asarray(window.future_s, np.float64) * dataset.fps + 0.5).astype(np.int64)
        self._steps = in_force(window.num_actions, self._frames_a_step)
        self._valued = int(np.floor(window.value_after_s * dataset.fps + 0.5))
        self._marked = int(np.floor(window.marks_after_s * dataset.fps + 0.5))
        self._geometry = None
        if window.num_marks:
            asked = {"cameras": window.cameras, "state": dataset.space.state_names}
            self._geometry = read_geometry(Path(dataset.path), **asked, num_marks=window.num_marks)
        self._later = np.floor(np.asarray(window.later_state_s, np.float64) * dataset.fps + 0.5).astype(np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def ends(self) -> np.ndarray:
        """For each of `episodes`, how many windows there are up to its last."""
        return self._ends

    def through(self, pictures: Pictures) -> Windows:
        """The same windows with their pictures from elsewhere."""
        _check_window(self.dataset, self.window, pictures, self.stride, resampled=True)  # checked when it was made
        found = copy.copy(self)
        found.cache = found._source = pictures
        return found

    def locate(self, indices: Sequence[int] | np.ndarray | torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """The episode and the frame of each of these windows."""
        chosen = np.asarray(indices, np.int64)
        if len(chosen) and not (chosen.min() >= 0 and chosen.max() < len(self)):
            raise IndexError(f"Windows.batch: expected indices from 0 to {len(self) - 1}, got {chosen.tolist()}.")
        place = np.searchsorted(self._ends, chosen, side="right")
        before = np.where(place > 0, self._ends[place - 1], 0)
        return self.episodes[place], (chosen - before) * self.stride

    def places(self) -> list[tuple[int, int]]:
        """The episode and frame of each window."""
        episode, frame = self.locate(np.arange(len(self)))
        return list(zip(episode.tolist(), frame.tolist(), strict=True))

    def batch(self, indices: Sequence[int] | np.ndarray | torch.Tensor) -> Batch:
        """The windows with these indices as one batch, pictures uint8, numbers in physical units."""
        tables, window, columns = self.dataset.tables, self.window, self.dataset.episodes.columns
        episode, frame = self.locate(indices)
        start, last = columns.start[episode], columns.length[episode] - 1
        rows = start + frame
        steps = frame[:, None] + self._steps
        ahead = frame[:, None] + self._ahead
        images, future = self._pictures(episode, frame, np.minimum(ahead, last[:, None]))
        size = len(episode)
        left = np.maximum(last - frame - self._valued, 0) / self._frames_a_step
        times = frame[:, None] + self._later
        later = start[:, None] + np.minimum(times, last[:, None])
        labelled = ~columns.action_free[episode]
        return Batch(
            obs=Observation(
                images=images,
                state=torch.from_numpy(tables.state[rows]),
                text=tuple(self.dataset.tasks[task] for task in tables.task_index[rows].tolist()),
                robot=(self.dataset.space.robot,) * size,
                time_s=torch.from_numpy((frame / self.dataset.fps).astype(np.float32)),
            ),
            actions=torch.from_numpy(tables.actions[start[:, None] + np.minimum(steps, last[:, None])]),
            actions_valid=torch.from_numpy((steps <= last[:, None]) & labelled[:, None]),
            future=future,
            future_valid=torch.from_numpy(ahead <= last[:, None]),
            later_state=torch.from_numpy(tables.state[later]),
            later_state_valid=torch.from_numpy(times <= last[:, None]),
            value=torch.from_numpy((window.discount**left if window.discount else np.ones(size)).astype(np.float32)),
            answer=("",) * size,
            weight=torch.ones(size),
            marks=self._marks(rows, start + np.minimum(frame + self._marked, last)),
        )

    def _marks(self, rows: np.ndarray, later: np.ndarray) -> dict[str, torch.Tensor]:
        """Where the robot's marks of later rows are in the pictures of some rows."""
        if self._geometry is None:
            return {}
        now, then = (torch.from_numpy(self.dataset.tables.state[some]).float() for some in (rows, later))
        return self._geometry.drawn(now, then, self.dataset.space.state_names, self.window.image_hw)

    def _pictures(
        self, episode: np.ndarray, frame: np.ndarray, ahead: np.ndarray
    ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """The observed and the future pictures of each camera; the future is empty when the window asks for none.

        They are written where the batch has them; nothing is copied afterwards.
        """
        size, num_future, image = len(frame), ahead.shape[1], (*self.window.image_hw, 3)
        images = {camera: np.empty((size, *image), np.uint8) for camera in self.window.cameras}
        future = {camera: np.empty((size, num_future, *image), np.uint8) for camera in images if num_future}
        requests = [Request(camera=camera, episode=episode, frame=frame, out=out) for camera, out in images.items()]
        requests += [
            Request(
                camera=camera,
                episode=np.repeat(episode, num_future),
                frame=ahead.reshape(-1),
                out=out.reshape(-1, *image),
            )
            for camera, out in future.items()
        ]
        self._source.read(requests)
        return (
            {camera: torch.from_numpy(out) for camera, out in images.items()},
            {camera: torch.from_numpy(out) for camera, out in future.items()},
        )


def in_force(num: int, ratio: float) -> np.ndarray:
    """Which action holds at each of `num` moments that lie `ratio` actions apart; the first moment is an action's."""
    return np.floor(np.arange(num) * ratio + 1e-6).astype(np.int64)


def action_chunks(
    dataset: LeRobotDataset,
    episodes: Sequence[int],
    num_actions: int,
    *,
    most: int = 20_000,
    frames_a_step: float = 1.0,
) -> Float[torch.Tensor, "c n a"]:
    """The chunks that start at the frames of some episodes with actions, in physical units; at most so many, evenly
    spread. Behind the end of an episode its last action is repeated. ``frames_a_step``: from action to action."""
    chosen = [one for one in map(dataset.episode, episodes) if not one.action_free]
    starts = np.concatenate([np.arange(one.start, one.start + one.length) for one in chosen])
    ends = np.repeat([one.start + one.length - 1 for one in chosen], [one.length for one in chosen])
    kept = np.unique(np.linspace(0, len(starts) - 1, min(most, len(starts))).astype(int))
    rows = np.minimum(starts[kept, None] + in_force(num_actions, frames_a_step), ends[kept, None])
    return torch.from_numpy(dataset.tables.actions[rows])


def _check_window(
    dataset: LeRobotDataset, window: Window, cache: Pictures | None, stride: int, resampled: bool
) -> None:
    where = f"{dataset.path}: window"
    for camera in window.cameras:
        known = dataset.cameras if cache is None else cache.cameras
        if camera not in known:
            raise InputError(
                where=where, expected=f"cameras out of {', '.join(known)}", got=repr(camera), do=nearest(camera, known)
            )
    space = dataset.space
    for name, asked, has in (
        ("state numbers", window.num_state, space.num_state),
        ("action numbers", window.action_size, space.action_size),
    ):
        if asked != has and not (name == "state numbers" and asked == 0):  # a policy may do without the state
            raise InputError(
                where=where, expected=f"{has} {name}, as recorded", got=str(asked), do="Size the recipe for this robot."
            )
    if not resampled and abs(window.control_hz - dataset.fps) > 1e-6 * dataset.fps:
        raise InputError(
            where=where,
            expected=f"a control rate of {dataset.fps:g} Hz, the frame rate of the recording",
            got=f"{window.control_hz:g} Hz",
            do=f"Set the recipe's control rate to {dataset.fps:g} Hz, or record at {window.control_hz:g} fps.",
        )
    if cache is not None and cache.image_hw != tuple(window.image_hw):
        raise InputError(
            where=where,
            expected=f"pictures of {cache.image_hw}",
            got=str(window.image_hw),
            do="Open the cache at that size.",
        )
    if stride < 1 or min(window.future_s, default=0.0) < 0:
        raise InputError(
            where=where,
            expected="a stride of 1 or more, and future times that are not negative",
            got=f"stride {stride}, future_s {window.future_s}",
            do="Correct them.",
        )


def _indices(dataset: LeRobotDataset, episodes: Sequence[int] | np.ndarray) -> np.ndarray:
    """The indices of episodes that exist."""
    found = np.asarray(episodes, np.int64).reshape(-1)
    for index in (found.min(), found.max()) if len(found) else ():
        dataset.episode(int(index))
    return found


def _check_episodes(dataset: LeRobotDataset, episodes: np.ndarray) -> None:
    columns = dataset.episodes.columns
    if len(bad := episodes[~columns.finite[episodes]]):
        index = int(bad[0])
        numbers = np.concatenate([dataset.actions(index), dataset.state(index)], axis=1)
        frame = int(np.argmin(np.isfinite(numbers).all(axis=1)))
        raise InputError(
            where=f"{dataset.path}: episode {index}, frame {frame}",
            expected="finite actions and states",
            got=f"action {dataset.actions(index)[frame].tolist()}, state {dataset.state(index)[frame].tolist()}",
            do="Leave this episode out or repair it; `crossroads data check` lists all of them.",
        )
    if len(bad := episodes[~columns.told[episodes]]):
        raise InputError(
            where=f"{dataset.path}: episode {bad[0]}",
            expected="an instruction",
            got="an empty text",
            do="Write what the episode does into meta/tasks.parquet; a policy cannot be told nothing.",
        )
