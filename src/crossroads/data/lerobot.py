"""Reads a LeRobotDataset folder (v3.0, v2.1, v2.0, with GR00T's modality.json or without) on local disk.

The numbers of all frames are contiguous arrays (`data/index.py`), so that a batch is one fancy index instead of one
dictionary per sample; pictures stay in their files until asked for. Formats: `data/meta.py`, `data/lerobot_v2.py`,
`data/modality.py`.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from crossroads.data import index, meta
from crossroads.data.columns import Episode, Episodes, Files, Index, Tables
from crossroads.data.index import open_index
from crossroads.data.remote import Remote, url_of
from crossroads.data.running_statistics import summarise_parts, together
from crossroads.data.statistics import summarise
from crossroads.data.versions import read_meta
from crossroads.data.video import decode
from crossroads.errors import InputError, nearest
from crossroads.space import ActionSpace, Statistics


@dataclass(frozen=True, kw_only=True)
class LeRobotDataset:
    """A data set that `open` found readable; cameras go by short names (`front`, not `observation.images.front`)."""

    path: Path
    fps: float
    cameras: tuple[str, ...]
    image_hw: Mapping[str, tuple[int, int]]
    space: ActionSpace
    episodes: Episodes = field(repr=False)
    tasks: tuple[str, ...]
    tables: Tables = field(repr=False)
    info: Mapping[str, Any] = field(repr=False)
    camera_keys: Mapping[str, str]
    data_files: Files = field(repr=False)
    videos: Mapping[str, Files] = field(repr=False)
    """By feature key."""
    remote: Remote | None = None
    """Where files come from that are not in `path`, which mirrors them."""
    without: tuple[int, ...] = ()
    """Episodes that were left out."""

    @classmethod
    def open(cls, path: str | Path, *, without: tuple[int, ...] = ()) -> LeRobotDataset:
        """Read the meta folder and all numbers. Raises `InputError` on whatever would make reading fail later.

        A URL that fsspec knows, or OWNER/NAME of the hub, may stand for a folder; videos are fetched when looked at.
        Episodes `without` are left out: nothing of them is read, they have no frames, and others keep their numbers.
        """
        url = url_of(path)
        remote = Remote.at(url) if url else None
        root = remote.prepare() if remote else Path(path)
        if not root.is_dir():
            raise InputError(
                where=str(root),
                expected="a dataset folder",
                got="no such folder",
                do="Check the path; OWNER/NAME or hf://datasets/OWNER/NAME names one on the hub.",
            )
        said = read_meta(root)
        info, keys = said.info, said.camera_keys
        found = open_index(root, said, streamed=remote is not None, without=without)
        return cls(
            path=root,
            fps=float(info["fps"]),
            cameras=tuple(keys),
            image_hw={name: meta.image_hw(info["features"][key]) for name, key in keys.items()},
            space=_space(info, found),
            episodes=Episodes(found.columns, said.tasks),
            tasks=said.tasks,
            tables=found.tables,
            info=info,
            camera_keys=keys,
            data_files=found.data,
            videos=found.videos,
            remote=remote,
            without=without,
        )

    @property
    def num_frames(self) -> int:
        return len(self.tables.timestamp_s)

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
        if not len(wanted):
            return np.empty((0, *self.image_hw[camera], 3), np.uint8)
        if self.info["features"][self.camera_keys[camera]]["dtype"] == "image":
            return self._pictures(place, camera, wanted)
        file, from_s = self.video_file(place, camera)
        times = from_s + self.tables.timestamp_s[place.rows][wanted].astype(np.float64)
        return decode(file, times, tolerance_s=0.5 / self.fps)

    def video_file(self, episode: Episode | int, camera: str) -> tuple[Path, float]:
        """The mp4 file that holds this episode, and the time in it at which the episode starts."""
        key, index = self.camera_keys[camera], self.episode(episode).index
        files = self.videos[key]
        name = self._video_name(key, int(files.chunk[index]), int(files.file[index]))
        return self._local(name), float(files.from_s[index])

    def _video_name(self, key: str, chunk: int, file: int) -> str:
        template = self.info.get("video_path") or meta.VIDEO_PATH
        return template.format(video_key=key, chunk_index=chunk, file_index=file)

    def _local(self, name: str) -> Path:
        """A file of the dataset on this disk."""
        return self.path / name if self.remote is None else self.remote.get(name)

    def statistics(
        self, feature: Literal["state", "action"], episodes: Sequence[Episode | int] | np.ndarray
    ) -> Statistics:
        """Statistics over the valid frames of these episodes only: a subset of labels fits its own normaliser.

        Those of a mapped dataset are made part by part, within a bounded memory (`data/running_statistics.py`).
        """
        columns, chosen = self.episodes.columns, [self.episode(episode).index for episode in episodes]
        kept = [one for one in chosen if not columns.action_free[one]]
        if not kept or self.num_frames < index.MAPPED_FROM_FRAMES:
            return summarise(self.labelled(feature, episodes))
        values = self.tables.state if feature == "state" else self.tables.actions
        ends = columns.start[kept] + columns.length[kept]
        stretches = list(zip(columns.start[kept].tolist(), ends.tolist(), strict=True))
        return summarise_parts(lambda: together(values, stretches))

    def labelled(
        self, feature: Literal["state", "action"], episodes: Sequence[Episode | int] | np.ndarray
    ) -> np.ndarray:
        """The valid frames `[t, d]` of these episodes, one behind the other."""
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
        return np.concatenate(rows)

    def content_hash(self) -> str:
        """A stable name of the content: meta and data files byte for byte, videos by name and size (sha256, hex)."""
        total = hashlib.sha256(f"without {self.without}".encode() if self.without else b"")
        for name, size in sorted(self._sizes().items()):
            total.update(f"{name.as_posix()}:{size};".encode())
            if name.parts[0] in ("meta", "data"):
                with (self.path / name).open("rb") as stream:
                    total.update(hashlib.file_digest(stream, "sha256").digest())
        return total.hexdigest()

    def _sizes(self) -> dict[PurePath, int]:
        """Bytes of every file, by its name in the dataset."""
        here = {file.relative_to(self.path): file.stat() for file in self.path.rglob("*") if file.is_file()}
        folders = ("meta", "data", "videos", "images") if self.remote is None else ("meta", "data")
        sizes: dict[PurePath, int] = {name: stat.st_size for name, stat in here.items() if name.parts[0] in folders}
        if self.remote is not None:
            names = [self._video_name(key, *place) for key, files in self.videos.items() for place in files.distinct()]
            sizes |= {PurePath(name): size for name, size in self.remote.sizes(names).items()}
        return sizes

    def _pictures(self, place: Episode, camera: str, wanted: np.ndarray) -> np.ndarray:
        """Frames of an image feature: encoded pictures in a column of the data file, or files beside it."""
        key, files = self.camera_keys[camera], self.data_files
        path = self.path / self.info["data_path"].format(
            chunk_index=int(files.chunk[place.index]), file_index=int(files.file[place.index])
        )
        table = pq.read_table(
            path, columns=[key, "frame_index"], filters=[("episode_index", "=", place.index)]
        ).sort_by("frame_index")
        height, width = self.image_hw[camera]
        out = np.empty((len(wanted), height, width, 3), np.uint8)
        for position, cell in enumerate(table[key].take(pa.array(wanted)).to_pylist()):
            source = io.BytesIO(cell["bytes"]) if cell.get("bytes") is not None else self._local(cell["path"])
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


def _space(info: Mapping[str, Any], found: Index) -> ActionSpace:
    """Names from the features; limits and units from our `info` entry where there is one, else measured limits."""
    feature = info["features"][meta.ACTION]
    details = feature.get("info") or {}
    size = found.tables.actions.shape[1]
    labelled = not np.isnan(found.low).all()
    measured = (found.low, found.high) if labelled else (np.zeros(size), np.zeros(size))
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
