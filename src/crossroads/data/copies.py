"""Episodes that are copies of one another, exactly or nearly: shifted by a few frames, cut shorter, noise added."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from crossroads.data.cache import FrameCache
from crossroads.data.faults_in_pictures import SAME
from crossroads.data.findings import Finding
from crossroads.data.lerobot import Episode, LeRobotDataset

EXACT = 1e-4
"""Root mean square difference, in standard deviations of each number, that is rounding and nothing else."""
NEAR = 0.1
"""The same, below which the pictures decide: a scripted expert does nearly the same twice, in scenes that differ."""
SHIFT_S = 0.5
"""Copies may be shifted against each other by so much."""
POINTS = 8
"""Moments of an episode at which candidates are compared first."""
_BLOCK = 512


@dataclass(frozen=True, kw_only=True)
class Match:
    """Two episodes at their best alignment: frame ``t`` of the first is frame ``t - lag`` of the second."""

    first: int
    second: int
    lag: int
    apart: float


def duplicates(
    dataset: LeRobotDataset, cache: FrameCache, labelled: Sequence[Episode], free: Sequence[Episode]
) -> Iterator[Finding]:
    """Groups of copies: labelled episodes by numbers and, unless those are equal, pictures; action-free ones by these.

    Episode pairs are aligned over `SHIFT_S`; at least three quarters of the shorter one must overlap.
    """
    shift = max(1, round(SHIFT_S * dataset.fps))
    numbers = np.concatenate([dataset.tables.actions, dataset.tables.state], axis=1).astype(np.float64)
    spread = np.concatenate([numbers[e.rows] for e in labelled]).std(axis=0) if labelled else np.zeros(0)
    if (spread > 1e-6).any():
        numbers = numbers[:, spread > 1e-6] / spread[spread > 1e-6]
        near = list(_matches({e.index: numbers[e.rows] for e in labelled}, NEAR, shift))
        same = [it for it in near if it.apart < EXACT or (it.apart < NEAR and _one_picture(dataset, cache, it))]
        yield from _groups(same, "the same actions and states")
    else:  # No number ever changes: pictures decide.
        free = [*labelled, *free]
    tracks = {e.index: _grey(cache.frames(e.index, dataset.cameras[0], np.arange(e.length))) for e in free}
    if tracks:
        same = [match for match in _matches(tracks, SAME, shift) if _one_picture(dataset, cache, match)]
        yield from _groups(same, "the same pictures, without actions")


def _one_picture(dataset: LeRobotDataset, cache: FrameCache, match: Match) -> bool:
    """Whether most aligned pictures are one, in every camera."""
    length = min(
        dataset.episodes[match.first].length - max(match.lag, 0),
        dataset.episodes[match.second].length - max(-match.lag, 0),
    )
    moments = np.unique(np.linspace(0, length - 1, 16).round().astype(int))
    for camera in dataset.cameras:
        a = cache.frames(match.first, camera, moments + max(match.lag, 0)).astype(np.int16)
        b = cache.frames(match.second, camera, moments + max(-match.lag, 0)).astype(np.int16)
        if np.median(np.abs(a - b).max(axis=(1, 2, 3))) > SAME:
            return False
    return True


def _grey(pictures: np.ndarray) -> np.ndarray:
    """Grey pictures of a quarter of the side, flat: ``(n, pixels)``."""
    grey = pictures.mean(axis=-1)
    num, height, width = grey.shape
    return grey.reshape(num, height // 4, 4, width // 4, 4).mean(axis=(2, 4)).reshape(num, -1)


def _groups(matches: Sequence[Match], what: str) -> Iterator[Finding]:
    """One finding for all episodes that hang together."""
    groups: list[tuple[set[int], float]] = []
    for match in matches:
        members, furthest = {match.first, match.second}, match.apart
        kept = []
        for other, apart in groups:
            if other & members:
                members, furthest = members | other, max(furthest, apart)
            else:
                kept.append((other, apart))
        groups = [*kept, (members, furthest)]
    for members, furthest in sorted(groups, key=lambda group: min(group[0])):
        degree = "number by number" if furthest < EXACT else f"at most {furthest:.2g} apart"
        yield Finding(kind="duplicate", episodes=tuple(sorted(members)), frames=(), what=f"{what}, {degree}")


def _matches(tracks: dict[int, np.ndarray], limit: float, shift: int) -> Iterator[Match]:
    seen: set[tuple[int, int]] = set()
    for pair in _candidates(tracks, limit, shift):
        first, second = min(pair), max(pair)
        if (first, second) not in seen:
            seen.add((first, second))
            lag, apart = _aligned(tracks[first], tracks[second], shift)
            yield Match(first=first, second=second, lag=lag, apart=apart)


def _candidates(tracks: dict[int, np.ndarray], limit: float, shift: int) -> Iterator[tuple[int, int]]:
    """Pairs whose values at a few moments, at the best shift of the second, are not far apart."""
    indices = sorted(tracks)
    offsets = sorted({0, shift // 2, -(shift // 2), shift, -shift})
    plain = np.array([_points(tracks[index], 0) for index in indices])
    for offset in offsets:
        moved = plain if offset == 0 else np.array([_points(tracks[index], offset) for index in indices])
        square = (moved**2).mean(axis=1)
        for start in range(0, len(indices), _BLOCK):
            part = plain[start : start + _BLOCK]
            apart = (part**2).mean(axis=1)[:, None] + square - 2 * part @ moved.T / part.shape[1]
            for row, column in np.argwhere(apart < (8 * limit) ** 2).tolist():
                if start + row != column:
                    yield indices[start + row], indices[column]


def _points(track: np.ndarray, offset: int) -> np.ndarray:
    moments = np.linspace(0, len(track) - 1, POINTS).round().astype(int) + offset
    return track[moments.clip(0, len(track) - 1)].ravel()


def _aligned(a: np.ndarray, b: np.ndarray, shift: int) -> tuple[int, float]:
    """The best lag and the root mean square difference there, over at least three quarters of the shorter episode."""
    least = 0.75 * min(len(a), len(b))
    best = (0, float("inf"))
    for lag in range(-max(shift, len(b) - len(a)), max(shift, len(a) - len(b)) + 1):
        first, second = a[max(lag, 0) :], b[max(-lag, 0) :]
        num = min(len(first), len(second))
        if num >= least:
            apart = float(np.sqrt(((first[:num] - second[:num]) ** 2).mean()))
            best = min(best, (lag, apart), key=lambda pair: pair[1])
    return best
