"""Writes a LeRobotDataset v3.0 folder, whole or not at all.

What is ours: two extra columns, `action_free` (video and text only; state and actions are zeros there and count in no
statistic) and `session` (who or when, so that a split can keep sessions apart), and the limits and units of the action
in the feature's `info` entry. LeRobot ignores all three. Format: see `data/meta.py`.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from crossroads.data import meta
from crossroads.data.clips import VideoJoiner, scan
from crossroads.data.geometry import write_geometry
from crossroads.data.language import EVENTS, FEATURE, NOTHING_SAID, PERSISTENT, EpisodeWords
from crossroads.data.statistics import PixelCounts, describe
from crossroads.data.video import CODEC_NAME, PIXEL_FORMAT, VideoWriter
from crossroads.errors import InputError
from crossroads.geometry import Geometry
from crossroads.space import ActionSpace
from crossroads.storage import sync

_PART = ".part-"
_LOCK = ".lock"
_MEGABYTE = 1024 * 1024


class LeRobotWriter:
    """Records episodes into a hidden folder beside `path` and moves it to `path` in `finalise()`.

    Used as a context manager it finalises on success and removes everything on an error. A folder left behind by a
    killed process is removed by the next writer for the same path. Raises `InputError` when `path` exists already.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        fps: float,
        cameras: Mapping[str, tuple[int, int]],
        space: ActionSpace,
        data_file_mb: float = float(meta.DATA_FILE_MB),
        video_file_mb: float = float(meta.VIDEO_FILE_MB),
        words: bool = False,
        geometry: Geometry | None = None,
    ) -> None:
        """`words`: with LeRobot's two language columns, for what `add_episode` is told in words. `geometry`: where
        cameras and robot are, for recipes that draw the robot into its pictures."""
        self._geometry = geometry
        self.path, self.fps, self.cameras, self.space = Path(path).absolute(), float(fps), dict(cameras), space
        self._limit_bytes = {"data": data_file_mb * _MEGABYTE, "videos": video_file_mb * _MEGABYTE}
        if self.path.exists():
            raise InputError(
                where=str(self.path),
                expected="a path that does not exist yet",
                got="an existing file or folder",
                do="Choose another path, or remove it first; a recording is never overwritten.",
            )
        if fps <= 0 or not self.cameras:
            raise InputError(
                where="LeRobotWriter",
                expected="fps above zero and at least one camera",
                got=f"fps {fps}, cameras {sorted(self.cameras)}",
                do="Give both.",
            )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(self.path)
        self._part = self.path.parent / f".{self.path.name}{_PART}{os.getpid()}-{os.urandom(4).hex()}"
        self._part.mkdir()
        self._lock = (self._part / _LOCK).open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._words = words
        self._tasks: dict[str, int] = {}
        self._rows: list[dict[str, Any]] = []
        self._tables: list[dict[str, np.ndarray]] = []
        self._pixels = {name: PixelCounts() for name in self.cameras}
        self._num_frames = 0
        self._data: pq.ParquetWriter | None = None
        self._data_file = 0
        self._videos: dict[str, VideoWriter | VideoJoiner] = {}
        self._coding: dict[str, tuple[str, str]] = dict.fromkeys(self.cameras, (CODEC_NAME, PIXEL_FORMAT))
        self._video_file = dict.fromkeys(self.cameras, 0)

    def __enter__(self) -> LeRobotWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finalise()
        else:
            self.abandon()

    def add_episode(
        self,
        *,
        images: Mapping[str, np.ndarray],
        state: np.ndarray,
        actions: np.ndarray,
        text: str,
        session: int = 0,
        action_free: bool = False,
        words: EpisodeWords = NOTHING_SAID,
    ) -> int:
        """Append one episode and return its index.

        `images[camera]` is `[t, h, w, 3]` uint8; `state` is `[t, s]` and `actions` `[t, a]` in physical units, the
        action of a row being the one commanded at that row's picture. Both are replaced by zeros when `action_free`.
        `words` are kept by a writer that was asked for them.
        """
        length = len(next(iter(images.values()), ()))
        state, actions = np.asarray(state, np.float32), np.asarray(actions, np.float32)
        if action_free:
            state = np.zeros((length, self.space.num_state), np.float32)
            actions = np.zeros((length, self.space.action_size), np.float32)
        self._check_shapes({name: tuple(image.shape) for name, image in images.items()}, state, actions, length)
        for name, image in images.items():
            if image.dtype != np.uint8:
                raise InputError(
                    where=f"{self._where()}: images[{name!r}]",
                    expected="uint8",
                    got=str(image.dtype),
                    do="Convert to 0..255.",
                )
        self._check_content(state, actions, text)
        if words != NOTHING_SAID and not self._words:
            raise InputError(
                where=f"{self._where()}: words",
                expected="none, for a recording without columns of words",
                got=f"{len(words.subtasks)} subtasks and {len(words.questions)} questions",
                do="Make the writer with words=True.",
            )
        places: dict[str, Any] = {}
        for name in self.cameras:
            places |= self._append_frames(name, images[name])
        return self._append_numbers(places, state, actions, text, session, action_free, words)

    def join_episode(
        self,
        *,
        clips: Mapping[str, Path],
        pixels: Mapping[str, PixelCounts],
        state: np.ndarray,
        actions: np.ndarray,
        text: str,
        session: int = 0,
        action_free: bool = False,
    ) -> int:
        """Append one episode whose pictures are encoded already and return its index.

        `clips[camera]` is a video file of this episode alone, one picture per frame; its packets are copied. `pixels`
        are its counts for the statistics; the rest is as in `add_episode`.
        """
        self._check_content(state, actions, text)
        places: dict[str, Any] = {}
        for name in self.cameras:
            places |= self._append_clip(name, clips[name], len(actions))
            self._pixels[name].merge(pixels[name])
        return self._append_numbers(places, state, actions, text, session, action_free)

    def _append_numbers(
        self,
        places: Mapping[str, Any],
        state: np.ndarray,
        actions: np.ndarray,
        text: str,
        session: int,
        action_free: bool,
        words: EpisodeWords = NOTHING_SAID,
    ) -> int:
        """Write the rows of an episode whose videos lie at `places`."""
        index, length = len(self._rows), len(actions)
        task_index = self._tasks.setdefault(text, len(self._tasks))
        row: dict[str, Any] = {"episode_index": index, "tasks": [text], "length": length, **places}
        column = {
            meta.STATE: state,
            meta.ACTION: actions,
            meta.ACTION_FREE: np.full(length, action_free),
            meta.SESSION: np.full(length, session, np.int64),
            "timestamp": (np.arange(length) / self.fps).astype(np.float32),
            "frame_index": np.arange(length),
            "episode_index": np.full(length, index),
            "index": np.arange(self._num_frames, self._num_frames + length),
            "task_index": np.full(length, task_index),
        }
        row |= self._append_data(column, words.columns(length, self.fps) if self._words else {})
        row["dataset_from_index"], row["dataset_to_index"] = self._num_frames, self._num_frames + length
        row["meta/episodes/chunk_index"], row["meta/episodes/file_index"] = 0, 0
        self._rows.append(row)
        self._tables.append(column)
        self._num_frames += length
        return index

    def finalise(self, inspect: Callable[[Path], None] | None = None) -> Path:
        """Write the meta files and move the folder to its place; only now does it exist. A second call does nothing.

        `inspect` is handed the complete folder before it gets its place, and may add a file or refuse it by an error.
        """
        if self._lock.closed:
            return self.path
        if not self._rows:
            self.abandon()
            raise InputError(
                where=str(self.path), expected="at least one episode", got="none", do="Call add_episode first."
            )
        self._close_files()
        meta.write_tasks(self._part, list(self._tasks))
        overall, rows = self._statistics()
        meta.write_episodes(self._part, rows)
        meta.write_json(self._part / meta.STATS_PATH, overall)
        videos = {name: (hw, *self._coding[name]) for name, hw in self.cameras.items()}
        info = meta.info_of(space=self.space, fps=self.fps, videos=videos)
        if self._words:
            info["features"] |= {PERSISTENT: dict(FEATURE), EVENTS: dict(FEATURE)}
        info |= {"total_episodes": len(self._rows), "total_frames": self._num_frames, "total_tasks": len(self._tasks)}
        meta.write_json(self._part / meta.INFO_PATH, info | {"splits": {"train": f"0:{len(self._rows)}"}})
        if self._geometry is not None:
            write_geometry(self._part, self._geometry)
        if inspect is not None:
            inspect(self._part)
        for file in self._part.rglob("*"):
            if file.is_file():
                sync(file)
        (self._part / _LOCK).unlink()
        self._part.rename(self.path)
        sync(self.path.parent)
        self._lock.close()
        return self.path

    def abandon(self) -> None:
        """Remove everything that was recorded; `path` stays as it was."""
        self._close_files()
        shutil.rmtree(self._part, ignore_errors=True)
        self._lock.close()

    def _where(self) -> str:
        return f"LeRobotWriter.add_episode (episode {len(self._rows)})"

    def _check_shapes(
        self, images: Mapping[str, tuple[int, ...]], state: np.ndarray, actions: np.ndarray, length: int
    ) -> None:
        expected = {f"images[{name!r}]": (length, *hw, 3) for name, hw in self.cameras.items()}
        got = {f"images[{name!r}]": shape for name, shape in images.items()}
        expected |= {"state": (length, self.space.num_state), "actions": (length, self.space.action_size)}
        got |= {"state": state.shape, "actions": actions.shape}
        for name in sorted(expected.keys() | got.keys()):
            if expected.get(name) != got.get(name) or length == 0:
                raise InputError(
                    where=f"{self._where()}: {name}",
                    expected=f"shape {expected.get(name, 'absent')} with at least one frame",
                    got=f"shape {got.get(name, 'absent')}",
                    do="Give every camera, state and action one entry per frame, sized as the writer was told.",
                )

    def _check_content(self, state: np.ndarray, actions: np.ndarray, text: str) -> None:
        for name, values in (("state", state), ("actions", actions)):
            if not np.isfinite(values).all():
                frame = int(np.argwhere(~np.isfinite(values))[0][0])
                raise InputError(
                    where=f"{self._where()}: {name}",
                    expected="finite numbers",
                    got=f"{values[frame].tolist()} in frame {frame}",
                    do="Leave the episode out, or record it as action_free.",
                )
        if not text.strip():
            raise InputError(
                where=self._where(), expected="an instruction", got=repr(text), do="Say what the episode does."
            )

    def _append_frames(self, name: str, frames: np.ndarray) -> dict[str, Any]:
        video = self._open_video(name)
        if not isinstance(video, VideoWriter):
            path = self._next_video(name)
            video = self._videos[name] = VideoWriter(path, fps=self.fps, image_hw=self.cameras[name])
        start = video.num_frames
        video.append(frames)
        self._pixels[name].add(frames)
        return self._video_place(name, start, len(frames))

    def _append_clip(self, name: str, clip: Path, length: int) -> dict[str, Any]:
        video = self._open_video(name)
        if not (isinstance(video, VideoJoiner) and video.takes(clip)):
            path = self._next_video(name)
            video = self._videos[name] = VideoJoiner(path, fps=self.fps, first=clip)
            told = scan(clip)
            self._coding[name] = (told.codec, told.pixel_format)
        start = video.num_frames
        video.append(clip)
        return self._video_place(name, start, length)

    def _open_video(self, name: str) -> VideoWriter | VideoJoiner | None:
        """The file that the camera writes, unless it is full."""
        video = self._videos.get(name)
        return None if video is None or video.size_bytes >= self._limit_bytes["videos"] else video

    def _next_video(self, name: str) -> Path:
        """Close the camera's file, if there is one; where its next file goes."""
        video = self._videos.pop(name, None)
        if video is not None:
            video.close()
            self._video_file[name] += 1
        chunk, file = divmod(self._video_file[name], meta.CHUNKS_SIZE)
        key = meta.CAMERA_PREFIX + name
        return self._part / meta.VIDEO_PATH.format(video_key=key, chunk_index=chunk, file_index=file)

    def _video_place(self, name: str, start: int, length: int) -> dict[str, Any]:
        key = meta.CAMERA_PREFIX + name
        chunk, file = divmod(self._video_file[name], meta.CHUNKS_SIZE)
        return {
            f"videos/{key}/chunk_index": chunk,
            f"videos/{key}/file_index": file,
            f"videos/{key}/from_timestamp": start / self.fps,
            f"videos/{key}/to_timestamp": (start + length) / self.fps,
        }

    def _append_data(self, column: Mapping[str, np.ndarray], words: Mapping[str, pa.Array]) -> dict[str, Any]:
        fields = {
            name: pa.array(values)
            if values.ndim == 1
            else pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
            for name, values in column.items()
        }
        table = pa.table({**fields, **words})
        chunk, file = divmod(self._data_file, meta.CHUNKS_SIZE)
        path = self._part / meta.DATA_PATH.format(chunk_index=chunk, file_index=file)
        if self._data is not None and path.stat().st_size >= self._limit_bytes["data"]:
            self._data.close()
            self._data = None
            self._data_file += 1
            chunk, file = divmod(self._data_file, meta.CHUNKS_SIZE)
            path = self._part / meta.DATA_PATH.format(chunk_index=chunk, file_index=file)
        data = self._data
        if data is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            data = self._data = pq.ParquetWriter(path, table.schema, compression="snappy")
        data.write_table(table)  # One row group per episode, as LeRobot writes them.
        return {"data/chunk_index": chunk, "data/file_index": file}

    def _close_files(self) -> None:
        for video in self._videos.values():
            video.close()
        self._videos = {}
        if self._data is not None:
            self._data.close()
            self._data = None

    def _statistics(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The contents of stats.json, and the episode rows with their own statistics.

        An action-free episode gets the data set's own state and action statistics with count 0, which is neutral when
        LeRobot's tools aggregate the rows again.
        """
        used = [not column[meta.ACTION_FREE][0] for column in self._tables]
        overall: dict[str, Any] = {}
        for name in self._tables[0]:
            vectors = name in (meta.STATE, meta.ACTION)
            parts = [column[name] for column, use in zip(self._tables, used, strict=True) if use or not vectors]
            shape = self._tables[0][name].shape[1:]
            overall[name] = describe(np.concatenate(parts) if parts else np.zeros((0, *shape)))
        for name, counts in self._pixels.items():
            overall[meta.CAMERA_PREFIX + name] = counts.describe()
        rows = []
        for row, column, use in zip(self._rows, self._tables, used, strict=True):
            flat = dict(row)
            for name in column:
                own = describe(column[name])
                if not use and name in (meta.STATE, meta.ACTION):
                    own = overall[name] | {"count": [0]}
                flat |= {f"stats/{name}/{stat}": value for stat, value in own.items()}
            rows.append(flat)
        return overall, rows


def _remove_abandoned(path: Path) -> None:
    """Remove the hidden folders of killed writers for this path; a live writer holds the lock in its folder."""
    for folder in path.parent.glob(f".{path.name}{_PART}*"):
        try:
            with (folder / _LOCK).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            pass  # Killed between the removal of the lock and the move: complete, but never published.
        except OSError:
            continue
        shutil.rmtree(folder, ignore_errors=True)
