"""Tests that stay valid however often one looks: evaluation may end as soon as the question is settled.

An exact McNemar test read after every episode and stopped at the first p <= 0.05 calls equal policies different far
more often than 5 % of the time. An e-process does not: the chance that it *ever* passes 1 / alpha under the null is at
most alpha (Ville's inequality). Sources: Ville 1939; Robbins 1970; Ramdas et al. 2023 (Statistical Science 38:576);
Waudby-Smith and Ramdas 2024 (JRSS B 86:1, betting confidence sequences).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Shaped
from scipy.special import betaln

from crossroads.errors import InputError
from crossroads.evaluate.statistics import Interval


def evidence(only_a: Shaped[np.ndarray, "*n"] | int, only_b: Shaped[np.ndarray, "*n"] | int) -> Float[np.ndarray, "*n"]:
    """The e-value against "a and b succeed equally often" after these discordant trials.

    The likelihood of the sequence under a share drawn from Beta(1/2, 1/2), over its likelihood under one half.
    """
    a, b = np.asarray(only_a, dtype=np.float64), np.asarray(only_b, dtype=np.float64)
    return np.exp(betaln(a + 0.5, b + 0.5) - betaln(0.5, 0.5) + (a + b) * np.log(2.0))


def anytime_p(a: Shaped[np.ndarray, " trials"], b: Shaped[np.ndarray, " same"]) -> Float[np.ndarray, " trials"]:
    """After each trial, a p-value that may be read at any time: one over the largest e-value so far, at most 1.

    ``a`` and ``b`` are success (0 or 1) on the same scenes in the order in which they were run.
    """
    a, b = np.asarray(a).astype(bool), np.asarray(b).astype(bool)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise InputError(
            where="anytime_p",
            expected="two non-empty success arrays of the same length",
            got=f"{a.shape} and {b.shape}",
            do="Score both policies on the same scenes, in the same order.",
        )
    found = evidence(np.cumsum(a & ~b), np.cumsum(~a & b))
    return 1 / np.maximum.accumulate(np.maximum(found, 1.0))


NUM_CANDIDATES = 401
MOST_STAKE = 0.5
"""Of the capital on one trial: the hedge against a first run of luck."""


def difference_sequence(
    a: Shaped[np.ndarray, " trials"], b: Shaped[np.ndarray, " same"], confidence: float = 0.95
) -> tuple[Interval, ...]:
    """After each trial an interval of the difference of success; all of them hold at once with this confidence.

    Bets against every candidate difference, with stakes that depend on earlier trials alone, one gambler on each side;
    a candidate is out once half of the summed capital has passed 1 / (1 - confidence). Intervals only shrink.
    """
    x = (np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64) + 1) / 2
    candidates = np.linspace(0, 1, NUM_CANDIDATES)
    up, down = np.zeros(NUM_CANDIDATES), np.zeros(NUM_CANDIDATES)  # log capital
    limit = np.log(1 / (1 - confidence))
    alive = np.ones(NUM_CANDIDATES, dtype=bool)
    mean, variance, found = 0.5, 0.25, []
    low, high, step = 0.0, 1.0, candidates[1]
    for count, value in enumerate(x, start=1):
        stake = min(MOST_STAKE, np.sqrt(2 * limit / (variance * count * np.log(count + 1))))
        up += np.log1p(np.minimum(stake, MOST_STAKE / np.maximum(candidates, 1e-9)) * (value - candidates))
        down += np.log1p(-np.minimum(stake, MOST_STAKE / np.maximum(1 - candidates, 1e-9)) * (value - candidates))
        alive &= np.logaddexp(up, down) - np.log(2) < limit
        kept = candidates[alive]
        if len(kept):
            low, high = max(low, kept[0] - step), min(high, kept[-1] + step)  # between two candidates nobody looked
        found.append(Interval(low=float(2 * low - 1), high=float(2 * high - 1)))
        mean += (value - mean) / (count + 1)
        variance += ((value - mean) ** 2 - variance) / (count + 1)
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Settled:
    """Where a paired comparison stands."""

    answer: Literal["a", "b", "equal", "open"]
    """Who is better, that the difference is too small to act on, or that it is still open."""
    trials: int
    """After how many trials it was settled; all of them when open."""
    p_value: float
    interval: Interval


def settled(
    a: Shaped[np.ndarray, " trials"], b: Shaped[np.ndarray, " same"], *, margin: float, alpha: float = 0.05
) -> Settled:
    """The first moment at which the trials settle the question, reading after each one.

    ``margin`` is the smallest difference that matters: inside it on both sides counts as equal.
    """
    p_values = anytime_p(a, b)
    intervals = difference_sequence(a, b, 1 - alpha)
    wins = np.cumsum(np.asarray(a, dtype=np.int64) - np.asarray(b, dtype=np.int64))
    for index, (p_value, interval) in enumerate(zip(p_values, intervals, strict=True)):
        answer = None
        if p_value <= alpha:
            answer = "a" if wins[index] > 0 else "b"
        elif -margin < interval.low and interval.high < margin:
            answer = "equal"
        if answer is not None:
            return Settled(answer=answer, trials=index + 1, p_value=float(p_value), interval=interval)
    return Settled(answer="open", trials=len(p_values), p_value=float(p_values[-1]), interval=intervals[-1])


def compact_letters(means: Mapping[str, float], different: set[frozenset[str]]) -> dict[str, str]:
    """Letters for many arms: two arms share one exactly when they are not in ``different``.

    Insert and absorb (Piepho 2004, Journal of Computational and Graphical Statistics 13:456); arms with the best means
    get the first letters.
    """
    unknown = {name for pair in different for name in pair} - set(means)
    if unknown or any(len(pair) != 2 for pair in different):
        raise InputError(
            where="compact_letters",
            expected=f"pairs of {', '.join(means)}",
            got=str([sorted(pair) for pair in different]),
            do="Name every compared arm in means.",
        )
    groups = [frozenset(means)]
    for pair in sorted(different, key=sorted):
        first, second = sorted(pair)
        split = [part for group in groups if pair <= group for part in (group - {first}, group - {second})]
        groups = [group for group in groups if not pair <= group]
        for part in split:
            if not any(part <= other for other in groups):
                groups = [other for other in groups if not other < part]
                groups.append(part)
    ranked = sorted(groups, key=lambda group: sorted(-means[name] for name in group))
    letters = {group: _letter(index) for index, group in enumerate(ranked)}
    return {name: "".join(letters[group] for group in ranked if name in group) for name in means}


def _letter(index: int) -> str:
    return chr(ord("a") + index % 26) * (1 + index // 26)
