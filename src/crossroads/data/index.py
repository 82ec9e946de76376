"""The episodes of a dataset as columns, and the numbers of all frames: in memory, or mapped from a compiled copy.

A dictionary or an object per episode costs a kilobyte and ten microseconds, so a million of them are a gigabyte and ten
seconds; columns are 30 bytes and nothing. Numbers of all frames are contiguous arrays, so that a batch is one fancy
index. Up to `MAPPED_FROM_FRAMES` they are read at each opening; beyond, they are written once, file by file, to
`$CROSSROADS_CACHE/index` and mapped from there, which needs no memory and no time (`benchmarks/index_scale.py`).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from crossroads.data import meta
from crossroads.data.columns import Columns, Files, Index, Tables
from crossroads.data.rows import LENGTH
from crossroads.data.versions import Meta
from crossroads.errors import InputError
from crossroads.storage import ANOTHER_CACHE, appearing_folder, default_root, reserve

MAPPED_FROM_FRAMES = 2_000_000
_FORM = 1
_DISAGREE = "Meta and data disagree; record or download the dataset again."


Make = Callable[[str, tuple[int, ...], type], np.ndarray]
"""Makes the array of a name, shape and type, to be filled."""


def open_index(root: Path, said: Meta, *, streamed: bool = False, without: tuple[int, ...] = ()) -> Index:
    """The index of a dataset whose meta folder was read; when `streamed`, its videos need not be there yet.

    Of the episodes `without` nothing is read, and their length is 0.

    Raises `InputError` where meta and data disagree.
    """
    total = said.info.get("total_frames")
    if not isinstance(total, int) or total < MAPPED_FROM_FRAMES:
        return read_index(root, said, lambda _, shape, dtype: np.empty(shape, dtype), streamed, without)
    home = default_root() / "index" / hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:24]
    folder = home / _signature(root, said, without)
    if not (folder / "index.json").is_file():
        home.mkdir(parents=True, exist_ok=True)
        with (home / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "index.json").is_file():
                _compile(root, said, folder, streamed, without)
                for old in home.iterdir():  # of an earlier state of the dataset; who has it mapped keeps it
                    if old.is_dir() and old != folder:
                        shutil.rmtree(old, ignore_errors=True)
    return _mapped(folder)


def read_index(root: Path, said: Meta, make: Make, streamed: bool, without: tuple[int, ...]) -> Index:
    """Read the numbers of all frames, one data file at a time, into arrays that `make` gives."""
    rows, info = said.rows, said.info
    data = Files(chunk=rows.whole("data/chunk_index"), file=rows.whole("data/file_index"), from_s=np.zeros(len(rows)))
    kept = np.setdiff1d(np.arange(len(rows)), without)
    videos = {
        key: _video_files(root, said, name, key, () if streamed else kept)
        for name, key in said.camera_keys.items()
        if info["features"][key]["dtype"] == "video"
    }
    lengths = rows.whole(LENGTH)
    lengths[list(without)] = 0
    filling = _Filling(root, said, lengths, make, kept)
    for chunk, file in data.distinct(kept):
        filling.add(root / info["data_path"].format(chunk_index=chunk, file_index=file))
    columns, tables = filling.end()
    return Index(columns=columns, tables=tables, data=data, videos=videos, low=filling.low, high=filling.high)


def _video_files(root: Path, said: Meta, name: str, key: str, looked_at: Sequence[int] | np.ndarray) -> Files:
    columns = [f"videos/{key}/{part}" for part in ("chunk_index", "file_index", "from_timestamp")]
    for column in columns:
        if not said.rows.has(column):
            raise InputError(
                where=f"{root / 'meta/episodes'}",
                expected=f"column {column!r} for camera {name!r}, with a value for every episode",
                got="no such column, or empty places",
                do="info.json names a camera that was not recorded; remove it there or record again.",
            )
    chunk, file, start = columns
    found = Files(chunk=said.rows.whole(chunk), file=said.rows.whole(file), from_s=said.rows.real(start))
    template = said.info.get("video_path") or meta.VIDEO_PATH
    for chunk_index, file_index in found.distinct(looked_at):
        video = root / template.format(video_key=key, chunk_index=chunk_index, file_index=file_index)
        if not video.is_file():
            raise InputError(
                where=str(video),
                expected=f"the video of camera {name!r}",
                got="no such file",
                do="Copy the dataset again; `crossroads data check` lists everything that is missing.",
            )
    return found


class _Filling:
    """The arrays of an index on their way: each data file puts its rows at the places of their episodes."""

    def __init__(self, root: Path, said: Meta, lengths: np.ndarray, make: Make, kept: np.ndarray) -> None:
        self.root, self.said, self.lengths, self._make = root, said, lengths, make
        self.kept = np.zeros(len(lengths), bool)
        self.kept[kept] = True
        features = said.info["features"]
        if meta.ACTION not in features:
            raise InputError(
                where=f"{root / meta.INFO_PATH}: features",
                expected=f"a feature {meta.ACTION!r}",
                got=", ".join(features),
                do="crossroads compares policies, which need actions; record them under that name.",
            )
        wanted = (meta.STATE, meta.ACTION, meta.ACTION_FREE, meta.SESSION)
        self._names = [name for name in wanted if name in features]
        self._names += ["timestamp", *said.frame_column, "episode_index", said.text_column]
        num = len(lengths)
        self.start = np.cumsum(lengths) - lengths
        self.filled = np.zeros(num, np.int64)
        self.task, self.session = np.zeros(num, np.int64), np.zeros(num, np.int64)
        self.free, self.finite, self.told = np.zeros(num, bool), np.ones(num, bool), np.ones(num, bool)
        self._has_words = np.array([bool(text.strip()) for text in said.tasks], bool)
        self.tables: Tables | None = None
        self.low = self.high = np.zeros(0)

    def add(self, path: Path) -> None:
        """Put the rows of one data file where they belong."""
        part, episode = self._read(path)
        strange = (episode < 0) | (episode >= len(self.kept))
        if not self.kept.all() and not strange.any():
            wanted = self.kept[episode]
            part = Tables(**{one.name: getattr(part, one.name)[wanted] for one in fields(Tables)})
            episode = episode[wanted]
        first = np.flatnonzero(np.diff(episode, prepend=-1))
        owners, counts = episode[first], np.diff(first, append=len(episode))
        if len(owners) and not (owners.min() >= 0 and owners.max() < len(self.lengths)):
            raise InputError(
                where=f"{self.root}: data files",
                expected=f"episodes 0 to {len(self.lengths) - 1}, as meta/episodes lists",
                got=f"rows of episode {owners.max()}",
                do=_DISAGREE,
            )
        self._require(owners, self.filled[owners] + counts <= self.lengths[owners], self.filled[owners] + counts)
        rank = np.arange(len(episode)) - np.repeat(first, counts)
        places = self.start[episode] + self.filled[episode] + rank
        tables = self._tables(part)
        for one in fields(Tables):
            getattr(tables, one.name)[places] = getattr(part, one.name)
        self._note(part, first, owners)
        self.filled[owners] += counts

    def end(self) -> tuple[Columns, Tables]:
        """The finished arrays, once every episode has its rows."""
        self._require(
            np.arange(len(self.lengths)), (self.filled == self.lengths) & ((self.lengths > 0) | ~self.kept), self.filled
        )
        self.told[~self.kept] = False
        unknown = (self.task < 0) | (self.task >= len(self.said.tasks))
        if unknown.any():
            index = int(np.argmax(unknown))
            raise InputError(
                where=f"{self.root}: episode {index}, frame 0",
                expected=f"a task_index from 0 to {len(self.said.tasks) - 1}, as the meta folder lists them",
                got=str(self.task[index]),
                do=_DISAGREE,
            )
        assert self.tables is not None, "there is at least one episode, and it has rows"
        columns = Columns(
            length=self.lengths,
            start=self.start,
            task=self.task,
            session=self.session,
            action_free=self.free,
            finite=self.finite,
            told=self.told,
        )
        return columns, self.tables

    def _require(self, episodes: np.ndarray, right: np.ndarray, got: np.ndarray) -> None:
        if not right.all():
            wrong = int(np.argmin(right))
            raise InputError(
                where=f"{self.root}: episode {episodes[wrong]}",
                expected=f"{self.lengths[episodes[wrong]]} frames, as meta/episodes says (at least one)",
                got=f"{got[wrong]} rows in the data files",
                do="Meta and data disagree: the recording was cut off or edited. Record or download it again.",
            )

    def _read(self, path: Path) -> tuple[Tables, np.ndarray]:
        """The rows of one file in order, and the episode of each."""
        table = meta.read_table(path, self._names)
        column = {name: meta.numbers(path, name, table[name]) for name in self._names}
        size = len(table)
        frame = column["frame_index"] if self.said.frame_column else np.arange(size)
        episode = column["episode_index"].astype(np.int64)
        order = np.lexsort((frame, episode))
        if not np.array_equal(order, np.arange(size)):
            column = {name: values[order] for name, values in column.items()}
            frame, episode = frame[order], episode[order]
        state = column.get(meta.STATE, np.zeros((size, 0)))
        rows = Tables(
            state=np.ascontiguousarray(state.reshape(size, -1), np.float32),
            actions=np.ascontiguousarray(column[meta.ACTION].reshape(size, -1), np.float32),
            timestamp_s=column["timestamp"].astype(np.float32),
            frame_index=frame.astype(np.int64),
            task_index=column[self.said.text_column].astype(np.int64),
            action_free=column.get(meta.ACTION_FREE, np.zeros(size)).astype(bool),
            session=column.get(meta.SESSION, np.zeros(size)).astype(np.int64),
        )
        return rows, episode

    def _tables(self, part: Tables) -> Tables:
        """The arrays of all frames, made when the first file says how wide they are."""
        if self.tables is None:
            total = int(self.lengths.sum())
            like = {one.name: getattr(part, one.name) for one in fields(Tables)}
            made = {name: self._make(name, (total, *rows.shape[1:]), rows.dtype.type) for name, rows in like.items()}
            self.tables = Tables(**made)
            self.low = np.full(part.actions.shape[1], np.nan, np.float32)
            self.high = self.low.copy()
        return self.tables

    def _note(self, part: Tables, first: np.ndarray, owners: np.ndarray) -> None:
        """What is remembered of each episode, and the limits of all actions."""
        if not len(first):
            return
        new = self.filled[owners] == 0
        self.task[owners[new]] = part.task_index[first[new]]
        self.session[owners[new]] = part.session[first[new]]
        self.free[owners[new]] = part.action_free[first[new]]
        finite = np.isfinite(part.actions).all(axis=1) & np.isfinite(part.state).all(axis=1)
        self.finite[owners] &= np.logical_and.reduceat(finite, first)
        known = (part.task_index >= 0) & (part.task_index < len(self._has_words))
        known[known] = self._has_words[part.task_index[known]]
        self.told[owners] &= np.logical_and.reduceat(known, first)
        valid = part.actions[~part.action_free]
        if len(valid):
            self.low = np.fmin(self.low, np.fmin.reduce(valid))
            self.high = np.fmax(self.high, np.fmax.reduce(valid))


def _signature(root: Path, said: Meta, without: tuple[int, ...]) -> str:
    """A short name of the state of the meta and data files, by their sizes and times.

    Of a v2 dataset, which has a data file per episode, the folders of the data files stand for them.
    """
    old = str(said.info["codebase_version"]).startswith("v2.")
    looked = sorted((root / "meta").rglob("*")) + sorted((root / "data").glob("*" if old else "*/*"))
    told = [[str(path.relative_to(root)), path.stat().st_size, path.stat().st_mtime_ns] for path in looked]
    return hashlib.sha256(json.dumps([_FORM, told, *without]).encode()).hexdigest()[:24]


_GROUPS = {"columns": Columns, "tables": Tables, "data": Files}


def _compile(root: Path, said: Meta, folder: Path, streamed: bool, without: tuple[int, ...]) -> None:
    with appearing_folder(folder) as draft:

        def make(name: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
            path = draft / f"tables.{name}.npy"
            made = np.lib.format.open_memmap(path, "w+", dtype=dtype, shape=shape)
            reserve(path, path.stat().st_size, do=ANOTHER_CACHE)
            return made

        index = read_index(root, said, make, streamed, without)
        groups = {"columns": index.columns, "data": index.data}
        groups |= {f"video{place}": files for place, files in enumerate(index.videos.values())}
        for group, members in groups.items():
            for one in fields(members):
                np.save(draft / f"{group}.{one.name}.npy", getattr(members, one.name))
        for one in fields(Tables):
            getattr(index.tables, one.name).flush()  # pyright: ignore[reportAttributeAccessIssue]
        limits = {"low": index.low.tolist(), "high": index.high.tolist()}
        (draft / "index.json").write_text(json.dumps({"videos": list(index.videos), **limits}))


def _mapped(folder: Path) -> Index:
    plain = json.loads((folder / "index.json").read_text())

    def group(name: str, kind: type) -> Any:
        return kind(**{one.name: _map(folder / f"{name}.{one.name}.npy") for one in fields(kind)})

    return Index(
        columns=group("columns", Columns),
        tables=group("tables", Tables),
        data=group("data", Files),
        videos={key: group(f"video{place}", Files) for place, key in enumerate(plain["videos"])},
        low=np.array(plain["low"], np.float32),
        high=np.array(plain["high"], np.float32),
    )


def _map(path: Path) -> np.ndarray:
    """An array on disk; one without elements cannot be mapped."""
    mapped = np.load(path, mmap_mode="r")
    return mapped if mapped.size else np.array(mapped)
