"""What linear read-outs can tell about a dataset before anything is trained, always on sessions they did not see.

Diagnostics, not predictions of a winner: in one study the predictability gap fell while success rose (evidence page,
section 5.1); `crossroads audit --pilots DIR` holds it against the pilots that were run. Where a recording names no
sessions, contiguous blocks of each instruction's episodes stand in for them, because neighbours share what sessions do.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from crossroads.data.cache import FrameCache
from crossroads.data.faults_in_numbers import MIN_EPISODES
from crossroads.data.findings import Finding
from crossroads.data.lerobot import Episode, LeRobotDataset
from crossroads.data.readout import r2, ridge

NUM_WINDOWS = 6
"""Of each episode, evenly spread."""
AHEAD_S = 1.0
"""How far ahead the future picture is, or half of a usual episode if that is less."""
NUM_BLOCKS = 5
ORDERS = 8
"""Random orders of the demonstrations over which the saturation is measured."""
ENOUGH = 0.9
"""Share of the final gain at which an inverse model counts as saturated."""
MOST_EPISODES = 400
"""More are not used: a random choice of so many."""
STEPS = ORDERS + 2
"""Reports of progress that `measure` makes."""


@dataclass(frozen=True, kw_only=True)
class Gap:
    """How much of the next stretch's mean action a line explains, from now, and from now and the true future."""

    r2_present: float
    r2_future: float
    low: float
    high: float
    """95 % interval of the gap, by bootstrap over what was held out."""
    ahead_s: float

    @property
    def gap(self) -> float:
        """What imagining the future well could add."""
        return self.r2_future - self.r2_present


@dataclass(frozen=True, kw_only=True)
class Saturation:
    """How many demonstrations the inverse model (action from now and the true future) needs."""

    curve: tuple[tuple[int, float, float], ...]
    """Demonstrations, and mean and standard deviation over orders of 1 - squared error / variance."""
    enough: int | None
    """Demonstrations at which it has `ENOUGH` of its final gain over the mean action; None where it gains nothing."""
    low: int | None
    high: int | None
    """Between these lie nine in ten random orders."""
    last_doubling: float
    """What the second half of the demonstrations still added: near 0 when more would not help."""


@dataclass(frozen=True, kw_only=True)
class Leakage:
    """How often the first pictures alone give the instruction away."""

    right: tuple[int, ...]
    """Episodes whose instruction was named."""
    num: int
    """Episodes tried: those whose instruction was also told elsewhere."""
    chance: float
    """Share that always naming the most frequent instruction gets right."""
    p_value: float
    """Of so many right by that chance."""


@dataclass(frozen=True, kw_only=True)
class Indicators:
    """All of them; None where the dataset is too small."""

    held_out: Literal["sessions", "blocks"]
    gap: Gap | None
    saturation: Saturation | None
    leakage: Leakage | None


Fold = tuple[tuple[int, ...], tuple[int, ...]]
"""Episodes to fit on, and episodes held out."""


def units(labelled: Sequence[Episode]) -> tuple[Literal["sessions", "blocks"], dict[int, int]]:
    """Which session, or which block where fewer than two sessions were recorded, each episode belongs to."""
    if len({episode.session for episode in labelled}) >= 2:
        return "sessions", {episode.index: episode.session for episode in labelled}
    counts = Counter(episode.text for episode in labelled)
    seen: Counter[str] = Counter()
    blocks = {}
    for place, episode in enumerate(labelled):
        often = counts[episode.text]
        rank = seen[episode.text] / often if often >= NUM_BLOCKS else place / len(labelled)
        blocks[episode.index] = int(rank * NUM_BLOCKS)
        seen[episode.text] += 1
    return "blocks", blocks


def folds(unit: Mapping[int, int]) -> list[Fold]:
    """Up to five ways of holding out whole units; ways that leave less than half of the episodes are left out."""
    names = np.random.default_rng(0).permutation(sorted(set(unit.values()))).tolist()
    made = []
    for part in range(min(5, len(names))):
        out = set(names[part::5])
        held = tuple(index for index, name in unit.items() if name in out)
        fit = tuple(index for index in unit if index not in held)
        if len(fit) >= len(held):
            made.append((fit, held))
    return made


def measure(
    dataset: LeRobotDataset,
    cache: FrameCache,
    labelled: Sequence[Episode],
    *,
    report: Callable[[int], object] = lambda done: None,
) -> Indicators:
    """All indicators; ``cache`` holds small pictures of every camera, ``report(1)`` is called `STEPS` times."""
    kind, unit = units(labelled)
    if len(labelled) < 2 * MIN_EPISODES:
        report(STEPS)
        return Indicators(held_out=kind, gap=None, saturation=None, leakage=None)
    if len(unit) > MOST_EPISODES:
        kept = np.random.default_rng(0).choice(sorted(unit), MOST_EPISODES, replace=False).tolist()
        unit = {index: unit[index] for index in sorted(kept)}
    ways = folds(unit)
    usual = float(np.median([dataset.episodes[index].length for index in unit]))
    ahead = max(1, round(min(AHEAD_S * dataset.fps, usual / 2)))
    rows = {index: _windows(dataset, cache, index, ahead) for index in unit}
    gap = _gap(rows, unit, ways, ahead / dataset.fps)
    report(1)
    leakage = _leakage(dataset, cache, ways)
    report(1)
    smallest = min(ways, key=lambda way: abs(len(way[1]) - 0.25 * len(unit)))
    saturation = _saturation(rows, smallest, report)
    return Indicators(held_out=kind, gap=gap, saturation=saturation, leakage=leakage)


Rows = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Regressors now ``(n, d)``, the same and later ``(n, e)``, and the standardised mean action between ``(n, a)``."""


def _windows(dataset: LeRobotDataset, cache: FrameCache, index: int, ahead: int) -> Rows:
    episode = dataset.episodes[index]
    scale = dataset.tables.actions[~dataset.tables.action_free].std(axis=0)
    moving = scale > 1e-6
    first = np.linspace(0, max(episode.length - 1 - ahead, 0), min(NUM_WINDOWS, episode.length)).astype(int)
    last = np.minimum(first + ahead, episode.length - 1)
    now, then = (np.concatenate([_small(cache, index, c, at) for c in dataset.cameras], axis=1) for at in (first, last))
    known = np.concatenate([now, dataset.state(index)[first]], axis=1)
    actions = dataset.actions(index)[:, moving].astype(np.float64) / scale[moving]
    between = np.stack([actions[a : max(b, a + 1)].mean(axis=0) for a, b in zip(first, last, strict=True)])
    return known, np.concatenate([known, then - now], axis=1), between


def _small(cache: FrameCache, index: int, camera: str, at: np.ndarray) -> np.ndarray:
    """Pictures of half the cached side, flat, 0 to 1: ``(n, pixels)``."""
    frames = cache.frames(index, camera, at).astype(np.float64) / 255
    num, height, width, colours = frames.shape
    return frames.reshape(num, height // 2, 2, width // 2, 2, colours).mean(axis=(2, 4)).reshape(num, -1)


def _stacked(rows: Mapping[int, Rows], indices: Sequence[int], which: int) -> np.ndarray:
    return np.concatenate([rows[index][which] for index in indices])


def _gap(rows: Mapping[int, Rows], unit: Mapping[int, int], ways: Sequence[Fold], ahead_s: float) -> Gap:
    """Pooled over all folds. The sums that R2 is made of are kept per unit (episodes below 5), to be drawn again."""
    sums: dict[int, np.ndarray] = {}
    by_session = len({unit[index] for _, held in ways for index in held}) >= 5
    for fit, held in ways:
        fit = tuple(np.random.default_rng(0).permutation(fit).tolist())  # The penalty is chosen on the second half.
        mean = _stacked(rows, fit, 2).mean(axis=0)
        told = [
            ridge(_stacked(rows, fit, which), _stacked(rows, fit, 2), _stacked(rows, held, which)) for which in (0, 1)
        ]
        start = 0
        for index in held:
            truth = rows[index][2]
            part = slice(start, start + len(truth))
            start += len(truth)
            values = [((truth - guess) ** 2).sum() for guess in (told[0][part], told[1][part], mean)]
            key = unit[index] if by_session else index
            sums[key] = sums.get(key, np.zeros(3)) + np.array(values)
    table = np.array(list(sums.values()))
    now, later, plain = table.sum(axis=0)
    draws = table[np.random.default_rng(0).integers(len(table), size=(1000, len(table)))].sum(axis=1)
    low, high = np.quantile((draws[:, 0] - draws[:, 1]) / np.maximum(draws[:, 2], 1e-12), [0.025, 0.975])
    plain = max(float(plain), 1e-12)
    return Gap(
        r2_present=float(1 - now / plain),
        r2_future=float(1 - later / plain),
        low=float(low),
        high=float(high),
        ahead_s=ahead_s,
    )


def _saturation(rows: Mapping[int, Rows], way: Fold, report: Callable[[int], object]) -> Saturation:
    """Nested subsets of each random order, sizes doubling, all measured on the same held-out episodes."""
    fit, held = way
    sizes = [2**power for power in range(1, 1 + int(math.log2(len(fit)))) if 2**power <= 0.75 * len(fit)]
    sizes = [*sizes, len(fit)]
    x_held, y_held = _stacked(rows, held, 1), _stacked(rows, held, 2)
    generator = np.random.default_rng(0)
    scores = np.zeros((ORDERS, len(sizes)))
    reached: list[float] = []
    for order in range(ORDERS):
        shuffled = generator.permutation(fit).tolist()
        for column, size in enumerate(sizes):
            part = shuffled[:size]
            y = _stacked(rows, part, 2)
            guess = ridge(_stacked(rows, part, 1), y, x_held)
            scores[order, column] = r2(guess, y_held, _stacked(rows, fit, 2).mean(axis=0))
        reached.append(_reached(sizes, scores[order]))
        report(1)
    means, spreads = scores.mean(axis=0), scores.std(axis=0, ddof=1)
    gains = means[-1] > 0.05
    low, high = np.quantile(reached, [0.05, 0.95])
    half = float(np.interp(math.log2(len(fit) / 2), np.log2(sizes), means))
    return Saturation(
        curve=tuple(zip(sizes, means.tolist(), spreads.tolist(), strict=True)),
        enough=round(_reached(sizes, means)) if gains else None,
        low=round(low) if gains else None,
        high=round(high) if gains else None,
        last_doubling=float(means[-1]) - half,
    )


def _reached(sizes: Sequence[int], scores: np.ndarray) -> float:
    """Demonstrations from which on the score stays above `ENOUGH` of the last; log-linear between sizes."""
    goal = ENOUGH * scores[-1]
    below = np.flatnonzero(scores < goal)
    if not len(below):
        return float(sizes[0])
    at = min(int(below[-1]), len(sizes) - 2)
    share = (goal - scores[at]) / max(scores[at + 1] - scores[at], 1e-12)
    return float(2 ** np.interp(np.clip(share, 0, 1), [0, 1], np.log2(sizes[at : at + 2])))


def _leakage(dataset: LeRobotDataset, cache: FrameCache, ways: Sequence[Fold]) -> Leakage | None:
    """A linear read-out of the first pictures of all cameras; None below 4 episodes, or with one instruction."""
    right: list[int] = []
    often: list[bool] = []
    for fit, held in ways:
        fit = tuple(np.random.default_rng(0).permutation(fit).tolist())
        text = {index: dataset.episodes[index].text for index in (*fit, *held)}
        texts = sorted({text[index] for index in fit})
        tried = [index for index in held if text[index] in texts]
        if len(texts) < 2 or not tried:
            continue
        x, at = (
            np.array(
                [np.concatenate([_small(cache, i, c, np.zeros(1, int))[0] for c in dataset.cameras]) for i in part]
            )
            for part in (fit, tried)
        )
        told = ridge(x, np.array([[float(text[i] == name) for name in texts] for i in fit]), at).argmax(axis=1)
        right += [index for index, guess in zip(tried, told.tolist(), strict=True) if texts[guess] == text[index]]
        most = Counter(text[index] for index in fit).most_common(1)[0][0]
        often += [text[index] == most for index in tried]
    if len(often) < MIN_EPISODES:
        return None
    chance = max(sum(often) / len(often), 1 / len({dataset.episodes[i].text for fit, _ in ways for i in fit}))
    num = len(often)
    tail = sum(math.comb(num, k) * chance**k * (1 - chance) ** (num - k) for k in range(len(right), num + 1))
    return Leakage(right=tuple(sorted(right)), num=num, chance=chance, p_value=min(1.0, tail))


def leaks(found: Indicators) -> Iterator[Finding]:
    """A finding when the first pictures give the instruction away in at least half of the episodes, beyond chance."""
    leak = found.leakage
    if leak is None or leak.p_value > 1e-3 or len(leak.right) < 0.5 * leak.num:
        return
    yield Finding(
        kind="leakage",
        episodes=leak.right,
        frames=((0, 0),) * len(leak.right),
        what=f"the first pictures alone name the instruction of {len(leak.right)} in {leak.num} episodes held out "
        f"(always guessing the most frequent: {leak.chance:.0%})",
    )


def told(found: Indicators) -> Iterator[str]:
    """The indicators in lines of text."""
    if found.gap is None:
        yield f"indicators: not measured; they need {2 * MIN_EPISODES} labelled episodes"
        return
    kind = "sessions" if found.held_out == "sessions" else "blocks of neighbouring episodes (no sessions are recorded)"
    gap, leak, growth = found.gap, found.leakage, found.saturation
    yield f"indicators, linear read-outs on held-out {kind}; diagnostics, not predictions of a winner:"
    yield (
        f"    the mean action of the next {gap.ahead_s:.2g} s: R2 {gap.r2_present:.2f} from now, {gap.r2_future:.2f} "
        f"with the true pictures then; gap {gap.gap:+.2f} [{gap.low:+.2f}, {gap.high:+.2f}]"
    )
    if growth is not None:
        curve = ", ".join(f"{num}: {score:.2f}" for num, score, _ in growth.curve)
        yield f"    an inverse model by number of demonstrations, mean R2 over {ORDERS} random orders: {curve}"
        if growth.enough is None:
            yield "    it explains next to nothing, so no number of these demonstrations saturates it"
        else:
            yield (
                f"    {ENOUGH:.0%} of its final gain at {growth.enough} demonstrations [{growth.low}, {growth.high}]; "
                f"the last doubling added {growth.last_doubling:+.2f}"
            )
    if leak is not None:
        yield (
            f"    the instruction guessed from the first pictures alone: {len(leak.right)} of {leak.num} "
            f"({len(leak.right) / leak.num:.0%}); always guessing the most frequent gets {leak.chance:.0%}"
        )
