"""Statistics of numbers and pictures, in the shape that `meta/stats.json` has.

Pictures are counted into 256 bins per channel, which gives exact quantiles of the sampled pixels without keeping them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from crossroads.space import Statistics

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
PICTURES_PER_EPISODE = 16


def describe(values: np.ndarray) -> dict[str, list[Any]]:
    """Minimum, maximum, mean, deviation, quantiles and count over the first axis of `[t]` or `[t, d]`."""
    size = int(np.prod(values.shape[1:], dtype=int))
    table = np.asarray(values, np.float64).reshape(len(values), size)
    if len(table) == 0:
        return {name: [0.0] * size for name in ("min", "max", "mean", "std", *QUANTILES)} | {"count": [0]}
    out: dict[str, list[Any]] = {
        "min": table.min(0).tolist(),
        "max": table.max(0).tolist(),
        "mean": table.mean(0).tolist(),
        "std": table.std(0).tolist(),
        "count": [len(table)],
    }
    for name, row in zip(QUANTILES, np.quantile(table, list(QUANTILES.values()), axis=0), strict=True):
        out[name] = row.tolist()
    return out


def summarise(values: np.ndarray) -> Statistics:
    """The same numbers as the `Statistics` that a normaliser is fitted to."""
    stats = describe(values)
    return Statistics(
        mean=tuple(stats["mean"]),
        std=tuple(stats["std"]),
        min=tuple(stats["min"]),
        max=tuple(stats["max"]),
        q01=tuple(stats["q01"]),
        q99=tuple(stats["q99"]),
        count=int(stats["count"][0]),
    )


def picked(length: int) -> np.ndarray:
    """Which frames of an episode count in the statistics of pictures."""
    return np.unique(np.linspace(0, length - 1, PICTURES_PER_EPISODE).round().astype(int))


class PixelCounts:
    """How often each value 0..255 occurs in each channel of the pictures of one camera."""

    def __init__(self, counts: np.ndarray | None = None, num_pictures: int = 0) -> None:
        self.counts = np.zeros((3, 256), np.int64) if counts is None else counts
        """Channel by value."""
        self.num_pictures = num_pictures

    def add(self, frames: np.ndarray) -> None:
        """Count at most `PICTURES_PER_EPISODE` pictures, evenly spread over the episode `[t, h, w, 3]`."""
        self.count(frames[picked(len(frames))])

    def count(self, pictures: np.ndarray) -> None:
        """Count every one of the pictures `[n, h, w, 3]`."""
        for channel in range(3):
            self.counts[channel] += np.bincount(pictures[..., channel].ravel(), minlength=256)
        self.num_pictures += len(pictures)

    def merge(self, other: PixelCounts) -> None:
        """Add what another has counted."""
        self.counts += other.counts
        self.num_pictures += other.num_pictures

    def describe(self) -> dict[str, list[Any]]:
        """Statistics of the counted pixels in 0..1, shaped (3, 1, 1) as LeRobot has them; count is in pictures."""
        value = np.arange(256) / 255
        share = self.counts / self.counts.sum(1, keepdims=True)
        mean = share @ value
        seen = self.counts > 0
        out: dict[str, Sequence[float]] = {
            "min": [float(value[row].min()) for row in seen],
            "max": [float(value[row].max()) for row in seen],
            "mean": mean.tolist(),
            "std": np.sqrt(np.maximum(share @ value**2 - mean**2, 0)).tolist(),
        }
        reached = np.cumsum(share, axis=1)
        for name, quantile in QUANTILES.items():
            out[name] = [float(value[min(int(np.searchsorted(row, quantile)), 255)]) for row in reached]
        return {name: [[[number]] for number in numbers] for name, numbers in out.items()} | {
            "count": [self.num_pictures]
        }
