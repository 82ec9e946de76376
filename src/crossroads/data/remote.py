"""A dataset behind a URL: numbers are fetched when it is opened, a video when it is first looked at.

Anything that fsspec knows (`s3://`, `gs://`, `http://`, `hf://datasets/`, `memory://`). Nothing need be listed, for web
servers may not: every name is in the meta folder or follows from it. A file appears under its name when it is whole; a
fetch that fails is tried again, a little later each time. Videos are kept until those that were not used for longest
must go; meta and data files stay.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from crossroads.data import lerobot_v2, meta
from crossroads.data.versions import read_meta
from crossroads.errors import InputError
from crossroads.storage import appearing, cache_limit, default_root

TRIES, WAIT_S = 5, 0.5
"""How often a fetch is tried, and how long is waited after the first; each wait is twice the one before."""
KEPT = 16
"""So many videos are kept whatever the limit: those that threads are about to open."""
_OPTIONAL_META = ("meta/stats.json", "meta/modality.json", "meta/episodes_stats.jsonl")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
Told = TypeVar("Told")
_REFUSED = ("AccessDenied", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch", "NoCredentials")


def url_of(place: str | Path) -> str | None:
    """The URL that a place on a network or in an object store has; none for a folder.

    ``OWNER/NAME`` is a dataset of the hub, unless there is such a folder, or a folder OWNER that it would lie in.
    """
    told = str(place)
    if "://" in told:
        return told
    named = isinstance(place, str) and _HUB_NAME.fullmatch(told)
    return None if not named or Path(told).exists() or Path(told).parent.is_dir() else f"hf://datasets/{told}"


@dataclass(frozen=True, kw_only=True)
class Remote:
    """The files of a dataset at `url`, and a folder that mirrors those that were fetched."""

    url: str
    root: Path
    limit_bytes: int | None
    """Of its videos on this disk."""
    files: Any = field(repr=False)
    """The fsspec file system."""
    base: str
    """The dataset's folder on it."""
    tries: int
    wait_s: float

    @classmethod
    def at(cls, url: str, *, root: Path | None = None, limit_bytes: int | None = None) -> Remote:
        """The dataset at a URL; `limit_bytes` `None`: what `$CROSSROADS_CACHE_GB` says, or none.

        Raises `InputError` for a protocol that fsspec does not know or lacks a package for.
        """
        import fsspec

        try:
            files, base = fsspec.core.url_to_fs(url.rstrip("/"))
        except (ValueError, ImportError) as error:
            raise InputError(
                where=url,
                expected="a URL that fsspec can open, such as s3://bucket/folder or https://host/folder",
                got=str(error),
                do="Correct it, or install the package it names: pip install 'crossroads[stream]'.",
            ) from error
        mirror = (root or default_root()) / "remote" / hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:24]
        limit = cache_limit() if limit_bytes is None else limit_bytes
        return cls(
            url=url.rstrip("/"),
            root=mirror,
            limit_bytes=limit,
            files=files,
            base=str(base).rstrip("/"),
            tries=TRIES,
            wait_s=WAIT_S,
        )

    def prepare(self) -> Path:
        """Fetch the meta folder and the numbers; returns the mirror, which can be opened as a folder.

        A mirror of another state of the dataset, which its info.json tells, is thrown away first.
        """
        there = self._there(meta.INFO_PATH)
        try:
            now = self._retried(meta.INFO_PATH, lambda: self.files.cat_file(there))
        except FileNotFoundError:
            self.get(meta.INFO_PATH)
            raise
        known = self.root / meta.INFO_PATH
        if known.is_file() and known.read_bytes() != now:
            shutil.rmtree(self.root)
        if not known.is_file():
            with appearing(known) as draft:
                draft.write_bytes(now)
        for name in _OPTIONAL_META:
            self._get_if_there(name)
        if str(meta.read_info(self.root)["codebase_version"]).startswith("v2."):
            for name in (lerobot_v2.EPISODES_PATH, lerobot_v2.TASKS_PATH):
                self.get(name)
        else:
            self.get(meta.TASKS_PATH)
            self._episode_files()
        said = read_meta(self.root)
        places = np.stack([said.rows.whole("data/chunk_index"), said.rows.whole("data/file_index")], axis=1)
        for chunk, file in np.unique(places, axis=0).tolist():
            self.get(said.info["data_path"].format(chunk_index=chunk, file_index=file))
        return self.root

    def _episode_files(self) -> None:
        """The files of meta/episodes are numbered without gaps, chunk by chunk."""
        chunk = 0
        while True:
            file = 0
            while self._get_if_there(meta.EPISODES_PATH.format(chunk_index=chunk, file_index=file)):
                file += 1
            if file == 0:
                break
            chunk += 1

    def get(self, name: str) -> Path:
        """A file of the dataset on this disk, fetched if it is not there.

        Raises:
            InputError: it does not exist, may not be read, or could not be fetched in `tries` tries.
        """
        try:
            return self._got(name)
        except FileNotFoundError as error:
            raise InputError(
                where=f"{self.url}/{name}",
                expected="a file of the dataset",
                got="no such file",
                do="Check the URL; it must name the folder that holds meta/, data/ and videos/.",
            ) from error

    def _get_if_there(self, name: str) -> bool:
        try:
            self._got(name)
        except FileNotFoundError:
            return False
        return True

    def _got(self, name: str) -> Path:
        local, video = self.root / name, name.startswith("videos/")
        with self._locked(name):
            if not local.is_file():
                self._retried(name, lambda: self._fetch(name, local, video))
            if video:
                os.utime(local)  # used now
        return local

    def _fetch(self, name: str, local: Path, video: bool) -> None:
        with appearing(local) as draft:
            self.files.get_file(self._there(name), str(draft))
            if video:
                self._make_room(draft.stat().st_size)

    def sizes(self, names: Sequence[str]) -> dict[str, int]:
        """Bytes of several files there, by one question where the server lists its files."""
        try:
            listed = self.files.find(self._there("videos"), detail=True)
            return {name: int(listed[self._there(name)]["size"]) for name in names}
        except Exception:  # it does not, or says no sizes
            return {name: self._retried(name, lambda name=name: self._size(name)) for name in names}

    def _size(self, name: str) -> int:
        try:
            return int(self.files.size(self._there(name)))
        except (FileNotFoundError, TypeError) as error:  # fsspec's HTTP says so whatever the matter was
            raise OSError(errno.EIO, f"no size is told: {error}") from error

    def _there(self, name: str) -> str:
        return f"{self.base}/{name}"

    def _retried(self, name: str, call: Callable[[], Told]) -> Told:
        """What the call gives, tried again where that may help. Raises `FileNotFoundError` as it comes."""
        for turn in range(1, self.tries + 1):
            try:
                return call()
            except FileNotFoundError:
                raise
            except Exception as error:  # every protocol has exceptions of its own
                refused = isinstance(error, PermissionError) or any(word in str(error) for word in _REFUSED)
                if refused or turn == self.tries:
                    raise InputError(
                        where=f"{self.url}/{name}",
                        expected="an answer of the server",
                        got=f"{type(error).__name__}: {error} (tried {turn} times)",
                        do="Check the network and your credentials, and run it again; what was fetched is kept.",
                    ) from error
                time.sleep(self.wait_s * 2 ** (turn - 1))
        raise AssertionError("it is tried at least once")

    def _make_room(self, num_bytes: int) -> None:
        """Remove the videos that were not used for longest until so many bytes more fit into the limit."""
        if self.limit_bytes is None:
            return
        with self._locked("room"):
            there = {path: path.stat() for path in (self.root / "videos").rglob("*.mp4")}
            total = sum(stat.st_size for stat in there.values())
            oldest = sorted(there, key=lambda path: there[path].st_mtime_ns)
            for path in oldest[: max(0, len(oldest) - KEPT + 1)]:
                if total + num_bytes <= self.limit_bytes:
                    return
                path.unlink(missing_ok=True)
                total -= there[path].st_size

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """One process and one thread at a time."""
        path = self.root / ".locks" / hashlib.sha256(name.encode()).hexdigest()[:16]
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
