"""How fast does training converge? Optimiser steps to a share of the plateau, per run and compared over runs.

The curve is made monotone before it is read (isotonic regression; noise would cross the target early), the plateau is
the median of its last tenth. Steps are compared on the logarithm: a ratio of two is two wherever it happens.
Sources: Barlow et al. 1972 (isotonic regression); Welch 1947 and Student's paired t, by scipy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Shaped
from scipy import stats

from crossroads.errors import InputError
from crossroads.evaluate.label_curves import monotone
from crossroads.evaluate.statistics import Interval


@dataclass(frozen=True, kw_only=True)
class Plateau:
    """Where one run's curve ends and when it was nearly there."""

    steps: float
    """Optimiser steps at which ``share`` of the way from the first value to the plateau is covered."""
    value: float
    """The plateau: the median of the last tenth of the curve (at least three points)."""
    share: float
    of_steps: float
    """Steps of the whole curve."""
    still_moving: bool
    """True when the last quarter still covers more than 1 - ``share`` of the way: ``steps`` is then too small."""


def steps_to_plateau(
    steps: Shaped[np.ndarray, "*points"],
    values: Shaped[np.ndarray, "*same_points"],
    *,
    better: Literal["lower", "higher"],
    share: float = 0.9,
) -> Plateau:
    """Steps to a share of the plateau of one run's loss (``better="lower"``) or success (``"higher"``) curve."""
    steps, values = np.asarray(steps, dtype=np.float64), np.asarray(values, dtype=np.float64)
    whole = steps.ndim == 1 and steps.shape == values.shape and len(steps) >= 5 and bool(np.isfinite(values).all())
    if not whole or not (np.diff(steps) > 0).all() or not 0 < share < 1:
        raise InputError(
            where="steps_to_plateau",
            expected="five or more finite values at rising steps, and 0 < share < 1",
            got=f"{steps.shape} steps, {values.shape} values, share {share}",
            do="Log the curve more often, and end it before it diverges.",
        )
    rising = values if better == "higher" else -values
    last = max(3, len(values) // 10)
    plateau = float(np.median(rising[-last:]))
    way = plateau - rising[0]
    if way <= 0:
        raise InputError(
            where="steps_to_plateau",
            expected=f"a curve that ends {better} than it starts",
            got=f"{values[0]:.4g} at step {steps[0]:g}, {abs(plateau):.4g} at the end",
            do="Check that the run learned at all; a run without progress has no plateau.",
        )
    fitted = monotone(rising[None])[0]
    target = fitted[0] + share * (plateau - fitted[0])
    at = int(np.argmax(fitted >= target)) if (fitted >= target).any() else len(fitted) - 1
    if at == 0:
        found = float(steps[0])
    else:
        gained = fitted[at] - fitted[at - 1]
        part = 1.0 if gained <= 0 else float(np.clip((target - fitted[at - 1]) / gained, 0, 1))
        found = float(steps[at - 1] + part * (steps[at] - steps[at - 1]))
    quarter = float(np.interp(steps[0] + 0.75 * (steps[-1] - steps[0]), steps, fitted))
    return Plateau(
        steps=found,
        value=plateau if better == "higher" else -plateau,
        share=share,
        of_steps=float(steps[-1]),
        still_moving=bool(plateau - quarter > (1 - share) * (plateau - fitted[0])),
    )


def plateaus_of(curves: Sequence[Sequence[tuple[float, float]]]) -> list[Plateau] | None:
    """The plateau of every run's loss curve (step, loss); None where a curve is too short or a run did not learn."""
    if not curves or min(map(len, curves)) < 5 or any(curve[-1][1] >= curve[0][1] for curve in curves):
        return None
    return [steps_to_plateau(*map(np.array, zip(*curve, strict=True)), better="lower") for curve in curves]


@dataclass(frozen=True, kw_only=True)
class Convergence:
    """A number of steps (or a ratio of two) over training runs: geometric mean, its interval, and a p-value."""

    value: float
    interval: Interval
    p_value: float | None
    """Against a ratio of 1; None for a number of steps."""
    runs: int


def steps_over_runs(plateaus: Sequence[Plateau], confidence: float = 0.95) -> Convergence:
    """Steps of one arm: the geometric mean over runs with the t interval of the logarithms; two runs or more."""
    logs = _logs("steps_over_runs", plateaus)
    mean, error = float(logs.mean()), float(logs.std(ddof=1)) / math.sqrt(len(logs))
    interval, _ = _student(mean, error, len(logs) - 1, confidence)
    return Convergence(value=math.exp(mean), interval=interval, p_value=None, runs=len(logs))


def steps_ratio(
    first: Sequence[Plateau], second: Sequence[Plateau], *, same_seeds: bool, confidence: float = 0.95
) -> Convergence:
    """How many times the steps the first arm needs, over training runs.

    ``same_seeds``: run r of both has the same data and seed, and the ratio is taken run by run (paired t); otherwise
    runs are independent (Welch). Simulated with three and five runs: 94 to 96.5 %.
    """
    a, b = _logs("steps_ratio", first), _logs("steps_ratio", second)
    if same_seeds and len(a) != len(b):
        raise InputError(
            where="steps_ratio",
            expected="the same number of runs in both arms",
            got=f"{len(a)} and {len(b)}",
            do="Leave out seeds that one arm lacks, or compare with same_seeds=False.",
        )
    if same_seeds:
        squared, freedom = (a - b).var(ddof=1) / len(a), float(len(a) - 1)
    else:
        parts = [(x.var(ddof=1) / len(x), len(x) - 1) for x in (a, b)]
        squared = sum(part for part, _ in parts)
        rest = sum(part**2 / runs for part, runs in parts)
        freedom = float(squared**2 / rest) if rest > 0 else float(len(a) + len(b) - 2)
    mean = float(a.mean() - b.mean())
    interval, p_value = _student(mean, math.sqrt(squared), freedom, confidence)
    return Convergence(value=math.exp(mean), interval=interval, p_value=p_value, runs=min(len(a), len(b)))


def _student(mean: float, error: float, freedom: float, confidence: float) -> tuple[Interval, float]:
    """The t interval of a logarithm, as numbers, and the p-value against 0."""
    half = float(stats.t.isf((1 - confidence) / 2, freedom)) * error
    p_value = 2 * float(stats.t.sf(abs(mean) / error, freedom)) if error > 0 else float(mean == 0)
    return Interval(low=math.exp(mean - half), high=math.exp(mean + half)), p_value


def _logs(where: str, plateaus: Sequence[Plateau]) -> Float[np.ndarray, " runs"]:
    if len(plateaus) < 2 or any(plateau.steps <= 0 for plateau in plateaus):
        raise InputError(
            where=where,
            expected="two or more runs, each with its plateau after step 0",
            got=f"{len(plateaus)} runs, steps {[plateau.steps for plateau in plateaus]}",
            do="Train more seeds, and log the curve more often near its start.",
        )
    return np.log([plateau.steps for plateau in plateaus])
