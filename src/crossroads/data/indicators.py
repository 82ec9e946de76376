"""What linear read-outs can tell about a dataset before anything is trained, on held-out sessions (else episodes).

Diagnostics, not predictions of a winner: in one study the predictability gap fell while success rose (evidence page,
section 5.1).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from crossroads.data.cache import FrameCache
from crossroads.data.lerobot import Episode, LeRobotDataset
from crossroads.data.readout import ridge, ridge_r2
from crossroads.data.split import hold_out

MIN_EPISODES = 4
"""Of a side, below which nothing is said."""
NUM_WINDOWS = 6
"""Of each episode, evenly spread."""


@dataclass(frozen=True, kw_only=True)
class Indicators:
    """What linear read-outs can tell on held-out sessions or episodes; None where the dataset is too small."""

    held_out: Literal["sessions", "episodes"]
    r2_present: float | None
    """Of the next second's mean action, from the pictures and state now."""
    r2_future: float | None
    """The same with the pictures a second later; the difference is what imagining well could add."""
    saturation: tuple[tuple[int, float], ...]
    """Demonstrations, and the R2 with the future that an inverse model reaches with so many."""
    leakage: tuple[int, int] | None
    """First pictures whose instruction is guessed right, of how many."""
    chance: float | None
    """Share of the most frequent instruction: what guessing without looking gets right."""


def measure(dataset: LeRobotDataset, cache: FrameCache, labelled: Sequence[Episode]) -> Indicators:
    """All of them; ``cache`` holds small pictures of every camera."""
    sessions = {episode.session for episode in labelled}
    kind: Literal["sessions", "episodes"] = "sessions" if len(sessions) >= 2 else "episodes"
    if len(labelled) < 2 * MIN_EPISODES:
        return Indicators(held_out=kind, r2_present=None, r2_future=None, saturation=(), leakage=None, chance=None)
    train, held = hold_out(dataset, 0.25, 0, among=[episode.index for episode in labelled])
    present, future, target = _windows(dataset, cache, train)
    present_held, future_held, target_held = _windows(dataset, cache, held)
    curve = []
    for num in sorted({max(2, round(len(train) * share)) for share in (0.125, 0.25, 0.5, 1.0)}):
        part = slice(0, sum(_num_windows(dataset, index) for index in train[:num]))
        curve.append((num, ridge_r2(future[part], target[part], future_held, target_held)))
    right, chance = _leakage(dataset, cache, train, held)
    return Indicators(
        held_out=kind,
        r2_present=ridge_r2(present, target, present_held, target_held),
        r2_future=curve[-1][1],
        saturation=tuple(curve),
        leakage=(right, len(held)),
        chance=chance,
    )


def _num_windows(dataset: LeRobotDataset, index: int) -> int:
    return min(NUM_WINDOWS, dataset.episodes[index].length)


def _windows(
    dataset: LeRobotDataset, cache: FrameCache, episodes: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Regressors now, regressors now and a second later, and the standardised mean action between."""
    ahead = max(1, round(dataset.fps))
    scale = dataset.tables.actions.std(axis=0)
    moving = scale > 1e-6
    camera = dataset.cameras[0]
    present, future, target = [], [], []
    for index in episodes:
        length = dataset.episodes[index].length
        first = np.linspace(0, max(length - 1 - ahead, 0), _num_windows(dataset, index)).astype(int)
        last = np.minimum(first + ahead, length - 1)
        now = cache.frames(index, camera, first).reshape(len(first), -1).astype(np.float64) / 255
        then = cache.frames(index, camera, last).reshape(len(first), -1).astype(np.float64) / 255
        known = np.concatenate([now, dataset.state(index)[first]], axis=1)
        present.append(known)
        future.append(np.concatenate([known, then - now], axis=1))
        actions = dataset.actions(index)[:, moving] / scale[moving]
        target.append(np.stack([actions[a : max(b, a + 1)].mean(axis=0) for a, b in zip(first, last, strict=True)]))
    return np.concatenate(present), np.concatenate(future), np.concatenate(target)


def _leakage(
    dataset: LeRobotDataset, cache: FrameCache, train: Sequence[int], held: Sequence[int]
) -> tuple[int, float]:
    """How many held-out episodes' instructions a linear read-out of the first picture names, and the chance of it."""
    texts = sorted({dataset.episodes[index].text for index in train})
    first = {
        part: np.concatenate([cache.frames(i, dataset.cameras[0], [0]) for i in part]).reshape(len(part), -1) / 255.0
        for part in (tuple(train), tuple(held))
    }
    told = np.array([[float(dataset.episodes[index].text == text) for text in texts] for index in train])
    guessed = ridge(first[tuple(train)], told, first[tuple(held)]).argmax(axis=1)
    truth = [dataset.episodes[index].text for index in held]
    right = sum(texts[guess] == text for guess, text in zip(guessed, truth, strict=True))
    most = Counter(dataset.episodes[index].text for index in train).most_common(1)[0][0]
    return right, sum(text == most for text in truth) / len(truth)


def told(found: Indicators) -> Iterator[str]:
    """The indicators in lines of text."""
    if found.r2_present is None or found.r2_future is None or found.leakage is None or found.chance is None:
        yield f"indicators: not measured; they need {2 * MIN_EPISODES} labelled episodes"
        return
    yield f"indicators, linear read-outs on held-out {found.held_out} (diagnostics, not predictions of a winner):"
    gap = found.r2_future - found.r2_present
    yield (
        f"    the next second's mean action: R2 {found.r2_present:.2f} from now, {found.r2_future:.2f} with the "
        f"picture a second later; gap {gap:+.2f}"
    )
    curve = ", ".join(f"{num}: {r2:.2f}" for num, r2 in found.saturation)
    yield f"    an inverse model by number of demonstrations: R2 {curve}"
    right, num = found.leakage
    yield (
        f"    the instruction guessed from the first picture alone: {right} of {num} ({right / num:.0%}); always "
        f"guessing the most frequent gets {found.chance:.0%}. Far above that, a policy can do well without reading"
    )
