"""Reads a LeRobotDataset folder (v3.0, v2.1, v2.0, with GR00T's modality.json or without) on local disk.

The numbers of all frames are held as contiguous arrays (a million frames of 30 numbers are 120 MB), so that a batch is
one fancy index instead of one dictionary per sample; pictures stay in their files until asked for. Formats:
`data/meta.py`, `data/lerobot_v2.py`, `data/modality.py`.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from crossroads.data import meta
from crossroads.data.statistics import summarise
from crossroads.data.versions import Meta, read_meta
from crossroads.data.video import decode
from crossroads.errors import InputError, nearest
from crossroads.space import ActionSpace, Statistics


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
class LeRobotDataset:
    """A data set that `open` found readable; cameras go by short names (`front`, not `observation.images.front`)."""

    path: Path
    fps: float
    cameras: tuple[str, ...]
    image_hw: Mapping[str, tuple[int, int]]
    space: ActionSpace
    episodes: tuple[Episode, ...] = field(repr=False)
    tasks: tuple[str, ...]
    tables: Tables = field(repr=False)
    info: Mapping[str, Any] = field(repr=False)
    camera_keys: Mapping[str, str]
    files: tuple[Mapping[str, Any], ...] = field(repr=False)
    """The rows of meta/episodes: which file holds what."""

    @classmethod
    def open(cls, path: str | Path) -> LeRobotDataset:
        """Read the meta folder and all numbers. Raises `InputError` on whatever would make reading fail later."""
        root = Path(path)
        if not root.is_dir():
            raise InputError(
                where=str(root), expected="a dataset folder", got="no such folder", do="Check the path you gave."
            )
        said = read_meta(root)
        info, tasks, files, keys = said.info, said.tasks, said.rows, said.camera_keys
        tables, episode_index = read_tables(root, said)
        episodes = _locate_episodes(root, files, tables, episode_index, tasks)
        dataset = cls(
            path=root,
            fps=float(info["fps"]),
            cameras=tuple(keys),
            image_hw={name: meta.image_hw(info["features"][key]) for name, key in keys.items()},
            space=_space(info, tables),
            episodes=episodes,
            tasks=tasks,
            tables=tables,
            info=info,
            camera_keys=keys,
            files=files,
        )
        for name, key in keys.items():
            if info["features"][key]["dtype"] == "video":
                for video in {dataset.video_file(episode, name)[0] for episode in episodes}:
                    if not video.is_file():
                        raise InputError(
                            where=str(video),
                            expected=f"the video of camera {name!r}",
                            got="no such file",
                            do="Copy the dataset again; `crossroads data check` lists everything that is missing.",
                        )
        return dataset

    @property
    def num_frames(self) -> int:
        return sum(episode.length for episode in self.episodes)

    def episode(self, episode: Episode | int) -> Episode:
        """The episode with this index."""
        index = episode.index if isinstance(episode, Episode) else int(episode)
        if not 0 <= index < len(self.episodes):
            raise InputError(
                where=str(self.path),
                expected=f"an episode from 0 to {len(self.episodes) - 1}",
                got=str(index),
                do="Choose one of those.",
            )
        return self.episodes[index]

    def state(self, episode: Episode | int) -> np.ndarray:
        """State `[t, s]` float32 in physical units; zeros when the episode is action-free."""
        return self.tables.state[self.episode(episode).rows]

    def actions(self, episode: Episode | int) -> np.ndarray:
        """Actions `[t, a]` float32 in physical units; zeros when the episode is action-free."""
        return self.tables.actions[self.episode(episode).rows]

    def frames(self, episode: Episode | int, camera: str, indices: Sequence[int] | np.ndarray | None) -> np.ndarray:
        """Pictures `[n, h, w, 3]` uint8 of the given frames of one episode (`None`: all), each decoded once."""
        place = self.episode(episode)
        if camera not in self.camera_keys:
            raise InputError(
                where=f"{self.path}: camera",
                expected=f"one of {', '.join(self.cameras)}",
                got=repr(camera),
                do=nearest(camera, self.cameras),
            )
        wanted = np.arange(place.length) if indices is None else np.asarray(indices, np.int64)
        if len(wanted) and not (wanted.min() >= 0 and wanted.max() < place.length):
            raise InputError(
                where=f"{self.path}: episode {place.index}",
                expected=f"frames from 0 to {place.length - 1}",
                got=f"{wanted.min()} to {wanted.max()}",
                do="Ask for frames inside the episode.",
            )
        if self.info["features"][self.camera_keys[camera]]["dtype"] == "image":
            return self._pictures(place, camera, wanted)
        file, from_s = self.video_file(place, camera)
        times = from_s + self.tables.timestamp_s[place.rows][wanted].astype(np.float64)
        return decode(file, times, tolerance_s=0.5 / self.fps)

    def video_file(self, episode: Episode | int, camera: str) -> tuple[Path, float]:
        """The mp4 file that holds this episode, and the time in it at which the episode starts."""
        key, row = self.camera_keys[camera], self.files[self.episode(episode).index]
        try:
            chunk, file = row[f"videos/{key}/chunk_index"], row[f"videos/{key}/file_index"]
            from_s = float(row[f"videos/{key}/from_timestamp"])
        except KeyError as error:
            raise InputError(
                where=f"{self.path / 'meta/episodes'}",
                expected=f"column {error.args[0]!r} for camera {camera!r}",
                got="no such column",
                do="info.json names a camera that was not recorded; remove it there or record again.",
            ) from error
        name = self.info.get("video_path") or meta.VIDEO_PATH
        return self.path / name.format(video_key=key, chunk_index=int(chunk), file_index=int(file)), from_s

    def statistics(self, feature: Literal["state", "action"], episodes: Sequence[Episode | int]) -> Statistics:
        """Statistics over the valid frames of these episodes only: a subset of labels fits its own normaliser."""
        values = self.tables.state if feature == "state" else self.tables.actions
        chosen = [self.episode(episode) for episode in episodes]
        rows = [values[place.rows] for place in chosen if not place.action_free]
        if not rows:
            raise InputError(
                where=f"{self.path}: statistics of {feature}",
                expected="at least one episode with actions",
                got=f"{len(chosen)} episodes, all action-free or none",
                do="Give the labelled episodes.",
            )
        return summarise(np.concatenate(rows))

    def content_hash(self) -> str:
        """A stable name of the content: meta and data files byte for byte, videos by name and size (sha256, hex)."""
        total = hashlib.sha256()
        for file in sorted(self.path.rglob("*")):
            name = file.relative_to(self.path)
            if not file.is_file() or name.parts[0] not in ("meta", "data", "videos", "images"):
                continue
            total.update(f"{name.as_posix()}:{file.stat().st_size};".encode())
            if name.parts[0] in ("meta", "data"):
                with file.open("rb") as stream:
                    total.update(hashlib.file_digest(stream, "sha256").digest())
        return total.hexdigest()

    def _pictures(self, place: Episode, camera: str, wanted: np.ndarray) -> np.ndarray:
        """Frames of an image feature: encoded pictures in a column of the data file, or files beside it."""
        row, key = self.files[place.index], self.camera_keys[camera]
        path = self.path / self.info["data_path"].format(
            chunk_index=int(row["data/chunk_index"]), file_index=int(row["data/file_index"])
        )
        table = pq.read_table(
            path, columns=[key, "frame_index"], filters=[("episode_index", "=", place.index)]
        ).sort_by("frame_index")
        height, width = self.image_hw[camera]
        out = np.empty((len(wanted), height, width, 3), np.uint8)
        for position, cell in enumerate(table[key].take(pa.array(wanted)).to_pylist()):
            source = io.BytesIO(cell["bytes"]) if cell.get("bytes") is not None else self.path / cell["path"]
            try:
                with Image.open(source) as image:
                    out[position] = np.asarray(image.convert("RGB"))
            except (OSError, ValueError) as error:
                raise InputError(
                    where=f"{path}: {key}, episode {place.index}, frame {wanted[position]}",
                    expected=f"a picture of {height} x {width}",
                    got=str(error),
                    do="Record or download the dataset again.",
                ) from error
        return out


def read_tables(root: Path, said: Meta) -> tuple[Tables, np.ndarray]:
    """The numbers of all frames in episode order, and the episode of each row."""
    info, files = said.info, said.rows
    features = info["features"]
    if meta.ACTION not in features:
        raise InputError(
            where=f"{root / meta.INFO_PATH}: features",
            expected=f"a feature {meta.ACTION!r}",
            got=", ".join(features),
            do="crossroads compares policies, which need actions; record them under that name.",
        )
    vectors = [name for name in (meta.STATE, meta.ACTION) if name in features]
    columns = vectors + [name for name in (meta.ACTION_FREE, meta.SESSION) if name in features]
    columns += ["timestamp", *said.frame_column, "episode_index", said.text_column]
    places = sorted({(int(row["data/chunk_index"]), int(row["data/file_index"])) for row in files})
    parts: dict[str, list[np.ndarray]] = {name: [] for name in columns}
    for chunk, file in places:
        path = root / info["data_path"].format(chunk_index=chunk, file_index=file)
        table = meta.read_table(path, columns)
        for name in columns:
            parts[name].append(meta.numbers(path, name, table[name]))
        if not said.frame_column:
            parts.setdefault("frame_index", []).append(np.arange(len(table)))
    joined = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    order = np.lexsort((joined["frame_index"], joined["episode_index"]))
    if not np.array_equal(order, np.arange(len(order))):
        joined = {name: values[order] for name, values in joined.items()}
    size = len(order)
    state = joined.get(meta.STATE, np.zeros((size, 0)))
    tables = Tables(
        state=np.ascontiguousarray(state.reshape(size, -1), np.float32),
        actions=np.ascontiguousarray(joined[meta.ACTION].reshape(size, -1), np.float32),
        timestamp_s=joined["timestamp"].astype(np.float32),
        frame_index=joined["frame_index"].astype(np.int64),
        task_index=joined[said.text_column].astype(np.int64),
        action_free=joined.get(meta.ACTION_FREE, np.zeros(size)).astype(bool),
        session=joined.get(meta.SESSION, np.zeros(size)).astype(np.int64),
    )
    return tables, joined["episode_index"].astype(np.int64)


def _locate_episodes(
    root: Path,
    files: Sequence[Mapping[str, Any]],
    tables: Tables,
    episode_index: np.ndarray,
    tasks: Sequence[str],
) -> tuple[Episode, ...]:
    lengths = np.bincount(episode_index, minlength=len(files)) if len(episode_index) else np.zeros(len(files), int)
    episodes, start = [], 0
    for row in files:
        index, length = row["episode_index"], int(row["length"])
        if length != lengths[index] or length == 0:
            raise InputError(
                where=f"{root}: episode {index}",
                expected=f"{length} frames, as meta/episodes says (at least one)",
                got=f"{lengths[index]} rows in the data files",
                do="Meta and data disagree: the recording was cut off or edited. Record or download it again.",
            )
        task = int(tables.task_index[start])
        if not 0 <= task < len(tasks):
            raise InputError(
                where=f"{root}: episode {index}, frame 0",
                expected=f"a task_index from 0 to {len(tasks) - 1}, as the meta folder lists them",
                got=str(task),
                do="Meta and data disagree; record or download the dataset again.",
            )
        episodes.append(
            Episode(
                index=index,
                length=length,
                text=tasks[task],
                session=int(tables.session[start]),
                action_free=bool(tables.action_free[start]),
                start=start,
            )
        )
        start += length
    if len(lengths) > len(files):
        raise InputError(
            where=f"{root}: data files",
            expected=f"episodes 0 to {len(files) - 1}, as meta/episodes lists",
            got=f"rows of episode {len(lengths) - 1}",
            do="Meta and data disagree; record or download the dataset again.",
        )
    return tuple(episodes)


def _space(info: Mapping[str, Any], tables: Tables) -> ActionSpace:
    """Names from the features; limits and units from our `info` entry where there is one, else measured limits."""
    feature = info["features"][meta.ACTION]
    details = feature.get("info") or {}
    valid = tables.actions[~tables.action_free]
    size = tables.actions.shape[1]
    measured = (np.fmin.reduce(valid), np.fmax.reduce(valid)) if len(valid) else (np.zeros(size), np.zeros(size))
    state = info["features"].get(meta.STATE)
    return ActionSpace(
        robot=str(info.get("robot_type") or "unknown"),
        action_names=meta.dimension_names(feature, "action"),
        action_units=tuple(details.get("units") or ("",) * size),
        low=tuple(float(value) for value in details.get("low") or measured[0]),
        high=tuple(float(value) for value in details.get("high") or measured[1]),
        state_names=meta.dimension_names(state, "state") if state else (),
        control_hz=float(info["fps"]),
    )
