"""Where the library keeps what it can compute again, and how a file appears there: whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


def default_root() -> Path:
    """`$CROSSROADS_CACHE`, else `~/.cache/crossroads`."""
    return Path(os.environ.get("CROSSROADS_CACHE") or Path.home() / ".cache" / "crossroads")


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
        with draft.open("rb") as written:
            os.fsync(written.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
