"""Statistics of more numbers than fit in memory, equal to numpy's on all of them together.

An exact quantile needs all numbers or more than one look at them (Munro and Paterson 1980), so the parts are gone
through twice: first counted by the upper half of their bits, then, of the few halves that a quantile lies in, by the
lower half.
A float32 read as a whole number sorts as the float does, once the bits of negative ones are turned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from crossroads.space import Statistics

_HALF = 1 << 16
_AT_ONCE = 1 << 18
_QUANTILES = (0.01, 0.99)


def summarise_parts(parts: Callable[[], Iterable[np.ndarray]]) -> Statistics:
    """Of float32 parts `[t, d]` that are given anew, the same, at each call; at least one row, every number finite."""
    first = _First()
    for part in parts():
        first.add(part)
    mean, places = first.total / first.count, _places(first.count)
    wanted = {(d, half) for d in range(len(mean)) for rank in places for half in [first.half_of(d, rank)]}
    lower = {key: np.zeros(_HALF, np.int64) for key in wanted}
    squares = np.zeros_like(mean)
    for part in parts():
        squares += ((part.astype(np.float64) - mean) ** 2).sum(axis=0)
        keys = _keys(part)
        for (d, half), counts in lower.items():
            chosen = keys[keys[:, d] >> np.uint32(16) == half, d] & np.uint32(_HALF - 1)
            counts += np.bincount(chosen, minlength=_HALF)

    def at(d: int, rank: int) -> float:
        half = first.half_of(d, rank)
        within = rank - int(first.upper[d, :half].sum())
        low = int(np.searchsorted(np.cumsum(lower[d, half]), within, side="right"))
        return float(_floats(np.array([half << 16 | low], np.uint32))[0])

    low, high = (tuple(_between(at, d, first.count, q) for d in range(len(mean))) for q in _QUANTILES)
    return Statistics(
        mean=tuple(mean.tolist()),
        std=tuple(np.sqrt(squares / first.count).tolist()),
        min=tuple(first.low.tolist()),
        max=tuple(first.high.tolist()),
        q01=low,
        q99=high,
        count=first.count,
    )


def together(values: np.ndarray, stretches: Iterable[tuple[int, int]]) -> Iterator[np.ndarray]:
    """The rows of many short stretches, first and one past the last, in parts worth a look."""
    held: list[np.ndarray] = []
    num = 0
    for first, end in stretches:
        held.append(np.asarray(values[first:end]))
        num += end - first
        if num >= _AT_ONCE:
            yield np.concatenate(held)
            held, num = [], 0
    if held:
        yield np.concatenate(held)


class _First:
    """What the first look finds."""

    count = 0
    total = low = high = np.zeros(0)
    upper = np.zeros((0, _HALF), np.int64)
    """How many numbers of each dimension have each upper half."""

    def add(self, part: np.ndarray) -> None:
        if not len(part):
            return
        values = part.astype(np.float64)
        if not self.count:
            size = part.shape[1]
            self.total, self.low, self.high = np.zeros(size), np.full(size, np.inf), np.full(size, -np.inf)
            self.upper = np.zeros((size, _HALF), np.int64)
        self.count += len(part)
        self.total = self.total + values.sum(axis=0)
        self.low, self.high = np.minimum(self.low, values.min(axis=0)), np.maximum(self.high, values.max(axis=0))
        halves = _keys(part) >> np.uint32(16)
        for d in range(part.shape[1]):
            self.upper[d] += np.bincount(halves[:, d], minlength=_HALF)

    def half_of(self, d: int, rank: int) -> int:
        """The upper half of the number at a rank."""
        return int(np.searchsorted(np.cumsum(self.upper[d]), rank, side="right"))


def _keys(part: np.ndarray) -> np.ndarray:
    """Whole numbers that sort as the floats do."""
    bits = np.ascontiguousarray(part, np.float32).view(np.uint32)
    return bits ^ np.where(bits >> np.uint32(31), np.uint32(0xFFFFFFFF), np.uint32(0x80000000))


def _floats(keys: np.ndarray) -> np.ndarray:
    bits = keys ^ np.where(keys >> np.uint32(31), np.uint32(0x80000000), np.uint32(0xFFFFFFFF))
    return bits.view(np.float32)


def _places(count: int) -> list[int]:
    """The ranks that the quantiles lie between."""
    exact = [(count - 1) * q for q in _QUANTILES]
    return sorted({min(int(place) + more, count - 1) for place in exact for more in (0, 1)})


def _between(at: Callable[[int, int], float], d: int, count: int, q: float) -> float:
    """As numpy interpolates: from the nearer of the two numbers."""
    place = (count - 1) * q
    rank, share = int(place), place - int(place)
    low, high = at(d, rank), at(d, min(rank + 1, count - 1))
    return low + (high - low) * share if share < 0.5 else high - (high - low) * (1 - share)
