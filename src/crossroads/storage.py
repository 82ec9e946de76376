"""Where the library keeps what it can compute again, and how a file appears there: whole or not at all.

A file that is written through a memory map is given its bytes first (``reserve``): the kernel has no way to say that a
disk is full to one who writes to memory but to kill the process (SIGBUS; mmap(2)).
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from crossroads.errors import InputError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_REFUSED = frozenset({errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS})
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
        if error.errno not in _FULL:
            raise
        path.unlink(missing_ok=True)
        free = shutil.disk_usage(path.parent).free
        raise InputError(
            where=str(path),
            expected=f"{num_bytes / 1e9:.3g} GB free",
            got=f"{free / 1e9:.3g} GB ({error.strerror})",
            do=do,
        ) from error


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
    """A large cache file on its way: filled in order through a memory map, by one process after another if need be.

    ``path`` is its name when it is complete; until then ``part`` holds it, and a note how far it is safely on disk.
    """

    path: Path
    num_bytes: int

    @property
    def part(self) -> Path:
        return self.path.with_suffix(".part")

    @property
    def _note(self) -> Path:
        return self.path.with_suffix(".json")

    def begin(self) -> int:
        """How many items are there; ``part`` has its full length from now on.

        Raises ``InputError`` where the disk is too full for it, and leaves nothing behind.
        """
        if self.part.is_file() and self.part.stat().st_size == self.num_bytes and self._note.is_file():
            return int(json.loads(self._note.read_text()).get("done", 0))
        self._note.unlink(missing_ok=True)
        self.part.unlink(missing_ok=True)
        reserve(self.part, self.num_bytes, do=ANOTHER_CACHE)
        return 0

    def note(self, num_done: int) -> None:
        """So many items are on disk; flush them first."""
        with appearing(self._note) as draft:
            draft.write_text(json.dumps({"done": num_done}))

    def end(self) -> None:
        """All are."""
        self.part.rename(self.path)
        self._note.unlink(missing_ok=True)
