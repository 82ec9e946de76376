"""The rows of `meta/episodes` as columns: a million of them are a few arrays and not a million dictionaries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from crossroads.errors import InputError

_AT_ONCE = 4096
INDEX, LENGTH = "episode_index", "length"


class Rows(Sequence[Mapping[str, Any]]):
    """One row per episode, in order; a row is made a dictionary when it is asked for.

    Raises `InputError` where the episodes are not numbered 0, 1, 2 ...
    """

    def __init__(self, root: Path, table: pa.Table) -> None:
        self._root = root
        numbered = table[INDEX].to_numpy() if table.num_rows else np.zeros(0, np.int64)
        order = np.argsort(numbered, kind="stable")
        if not table.num_rows or not np.array_equal(numbered[order], np.arange(table.num_rows)):
            raise InputError(
                where=str(root / "meta/episodes"),
                expected="episodes numbered 0, 1, 2 ... without gaps",
                got=f"{table.num_rows} rows, numbered {numbered[order][:8].tolist()} ...",
                do="Download the whole dataset; a part of one must be renumbered first.",
            )
        self._table = table if np.array_equal(order, np.arange(len(order))) else table.take(pa.array(order))

    def __len__(self) -> int:
        return self._table.num_rows

    def __getitem__(self, index):  # pyright: ignore[reportIncompatibleMethodOverride]
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        return self._table.slice(index % len(self), 1).to_pylist()[0]

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        for start in range(0, len(self), _AT_ONCE):
            yield from self._table.slice(start, _AT_ONCE).to_pylist()

    def has(self, name: str) -> bool:
        """Whether there is such a column, with a value in every row."""
        return name in self._table.column_names and not self._table[name].null_count

    def whole(self, name: str) -> np.ndarray:
        """A column of whole numbers, `[rows]` int64."""
        return self._table[name].to_numpy().astype(np.int64)

    def real(self, name: str) -> np.ndarray:
        """A column of numbers, `[rows]` float64."""
        return self._table[name].to_numpy().astype(np.float64)
