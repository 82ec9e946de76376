"""Where the library keeps what it can compute again, and how a file appears there: whole or not at all.

A file that is written through a memory map is given its bytes first (``reserve``): the kernel has no way to say that a
disk is full to one who writes to memory but to kill the process (SIGBUS; mmap(2)).
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np

from crossroads.errors import InputError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_REFUSED = frozenset({errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS})
WRITTEN, SETTLED = 1, 2
_HEAD_BYTES = 64
_BOOT = Path("/proc/sys/kernel/random/boot_id")
ANOTHER_CACHE = "Free space there, or set CROSSROADS_CACHE to a folder on another disk."


def default_root() -> Path:
    """`$CROSSROADS_CACHE`, else `~/.cache/crossroads`."""
    return Path(os.environ.get("CROSSROADS_CACHE") or Path.home() / ".cache" / "crossroads")


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, on disk before going on."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """A draft to write, which takes the name ``path`` when the block ends well; readers see the old file or the new.

    Each writer has a draft of its own, so processes that write the same file do not disturb each other. A killed one
    leaves its draft, which nothing reads. The content is on disk before the name is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{uuid4().hex[:8]}")
    try:
        yield draft
        sync(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def appearing_folder(path: Path) -> Iterator[Path]:
    """The same for a folder: a new draft, which takes the name ``path`` when the block ends well, and else is removed.

    For one writer at a time: a draft that a killed one left is taken away first.
    """
    draft = path.with_name(f"{path.name}.partial")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        yield draft
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    draft.replace(path)


def reserve(path: Path, num_bytes: int, *, do: str) -> None:
    """Give a file its length and the disk's bytes for all of it; what is written there already stays.

    Where a file system cannot set bytes aside (or the platform cannot ask, as macOS), what is free is looked at
    instead, which another writer may take. Raises ``InputError`` on a disk that is too full, and removes the file;
    ``do`` tells what to do then.
    """
    try:
        path.touch()
        with path.open("r+b") as file:
            if not _set_aside(file.fileno(), num_bytes) and shutil.disk_usage(path.parent).free < num_bytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            file.truncate(num_bytes)
    except OSError as error:
        if not is_full(error):
            raise
        path.unlink(missing_ok=True)
        free = shutil.disk_usage(path.parent).free
        raise InputError(
            where=str(path),
            expected=f"{num_bytes / 1e9:.3g} GB free",
            got=f"{free / 1e9:.3g} GB ({error.strerror})",
            do=do,
        ) from error


def is_full(error: BaseException) -> bool:
    """Whether a disk or a quota that is full is why something failed; safetensors says so in words alone."""
    if isinstance(error, OSError):
        return error.errno in _FULL
    return any(f"(os error {number})" in str(error) for number in _FULL)


def _set_aside(file: int, num_bytes: int) -> bool:
    """Whether the file system was asked and did."""
    allocate = getattr(os, "posix_fallocate", None)
    if allocate is None or not num_bytes:
        return False
    try:
        allocate(file, 0, num_bytes)
    except OSError as error:
        if error.errno in _REFUSED:
            return False
        raise
    return True


@dataclass(frozen=True, kw_only=True)
class Filling:
    """A large cache file on its way: filled through memory maps or writes, in any order, by any number of processes.

    ``path`` is its name when it is complete. Until then ``part`` holds it, and ``marks`` one byte for each of its units
    (an episode, a batch): 0, ``WRITTEN``, or ``SETTLED`` on disk. What a process wrote before it was killed is there as
    long as the machine runs; after the machine stopped, only settled units are. Hold ``filling_lock`` while filling.
    """

    path: Path
    num_bytes: int
    num_units: int
    do: str = ANOTHER_CACHE
    """What helps where the disk is too full for it."""

    @property
    def part(self) -> Path:
        return self.path.with_suffix(".part")

    @property
    def marks(self) -> Path:
        return self.path.with_suffix(".done")

    def begin(self) -> np.ndarray:
        """The mark of each unit, to be written; ``part`` has its full length from now on.

        Raises ``InputError`` where the disk is too full for it, and leaves nothing behind.
        """
        size = _HEAD_BYTES + self.num_units
        known = self.marks.is_file() and self.marks.stat().st_size == size
        if not (known and self.part.is_file() and self.part.stat().st_size == self.num_bytes):
            self.marks.unlink(missing_ok=True)
            self.part.unlink(missing_ok=True)
            for draft in self.path.parent.glob(f".{self.marks.name}.*"):  # of one that was killed; the lock is ours
                draft.unlink(missing_ok=True)
            reserve(self.part, self.num_bytes, do=self.do)
            with appearing(self.marks) as draft:
                draft.write_bytes(bytes(size))
        whole = np.memmap(self.marks, np.uint8, "r+")
        marks, head, boot = whole[_HEAD_BYTES:], whole[:_HEAD_BYTES], _boot()
        if not np.array_equal(head, boot) or not boot.any():
            marks[marks == WRITTEN] = 0
            head[:] = boot
        return marks

    def follow(self) -> np.ndarray:
        """The marks that another process sets; raises ``FileNotFoundError`` if it has not begun, or has ended."""
        return np.memmap(self.marks, np.uint8, "r")[_HEAD_BYTES:]

    def settle(self, marks: np.ndarray) -> None:
        """Have all that is written on disk."""
        written = np.flatnonzero(marks == WRITTEN)
        if len(written):
            sync(self.part)
            marks[written] = SETTLED

    def end(self) -> None:
        """All units are written: the file takes its name, when it is on disk."""
        sync(self.part)
        self.part.rename(self.path)
        sync(self.path.parent)
        self.marks.unlink(missing_ok=True)


def is_whole(path: Path) -> bool:
    """Whether a filled file has its name; marks that a process left beside it when it was killed right then go."""
    if not path.is_file():
        return False
    path.with_suffix(".done").unlink(missing_ok=True)
    return True


def _boot() -> np.ndarray:
    """Changes when the machine starts anew; zeros where that cannot be known."""
    told = b"" if not _BOOT.is_file() else _BOOT.read_bytes()[:_HEAD_BYTES]
    return np.frombuffer(told.ljust(_HEAD_BYTES, b"\0"), np.uint8)


@contextmanager
def filling_lock(path: Path, *, wait: bool) -> Iterator[bool]:
    """The right to fill the file of this name, which ends with the process; else false, unless ``wait``."""
    with _locked(path.with_suffix(".lock"), fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB)) as held:
        yield held


@contextmanager
def _locked(path: Path, kind: int) -> Iterator[bool]:
    handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        try:
            fcntl.flock(handle, kind)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def in_use(path: Path, user: object) -> None:
    """Keep a cache file from being removed for room as long as ``user`` lives, and note that it was used now."""
    handle = os.open(path.with_suffix(".used"), os.O_CREAT | os.O_RDWR, 0o644)
    weakref.finalize(user, os.close, handle)
    fcntl.flock(handle, fcntl.LOCK_SH)
    os.utime(handle)


def cache_limit() -> int | None:
    """The bytes that all cache files may have together: ``$CROSSROADS_CACHE_GB``, else no limit."""
    told = os.environ.get("CROSSROADS_CACHE_GB")
    if not told:
        return None
    try:
        limit = float(told)
    except ValueError:
        limit = -1.0
    if not 0 <= limit < float("inf"):
        raise InputError(
            where="CROSSROADS_CACHE_GB", expected="a number of gigabytes", got=repr(told), do="Give one, or unset it."
        )
    return int(limit * 1e9)


@contextmanager
def room(root: Path, path: Path, num_bytes: int, limit_bytes: int | None) -> Iterator[int]:
    """How many bytes ``path`` may have, ``num_bytes`` or fewer; reserve them before leaving.

    Files that were not used for longest are removed until all of ``root`` together fit, but none that is in use.
    """
    if limit_bytes is None:
        yield num_bytes
        return
    with _locked(root / ".room", fcntl.LOCK_EX):
        used: dict[Path, int] = {}
        for file in root.rglob("*"):
            if file.suffix in (".u8", ".f16", ".part") and file.with_suffix("") != path.with_suffix(""):
                used[file] = file.stat().st_size
        total = sum(used.values())
        for file in sorted(used, key=_last_use):
            if total + num_bytes <= limit_bytes:
                break
            if _evicted(file):
                total -= used[file]
        yield max(0, min(num_bytes, limit_bytes - total))


def _last_use(file: Path) -> float:
    note = file.with_suffix(".used")
    return note.stat().st_mtime if note.is_file() else 0.0


def _evicted(file: Path) -> bool:
    """Whether nobody reads or fills the file, and so it was removed."""
    never = fcntl.LOCK_EX | fcntl.LOCK_NB
    with _locked(file.with_suffix(".used"), never) as unread, _locked(file.with_suffix(".lock"), never) as unfilled:
        if not (unread and unfilled):
            return False
        for left in (file, file.with_suffix(".done")):
            left.unlink(missing_ok=True)
        return True
