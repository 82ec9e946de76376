"""Do two figures of the same episodes go together? Spearman's rank correlation with an interval.

Sources: Spearman 1904; Fisher 1921 (the transformation); Bonett and Wright 2000 (Psychometrika 65:23, its variance for
ranks).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped
from scipy import stats

from crossroads.errors import InputError
from crossroads.evaluate.statistics import Interval


@dataclass(frozen=True, kw_only=True)
class RankCorrelation:
    """Spearman's rho over episodes; ties share their mean rank."""

    value: float
    interval: Interval
    p_value: float
    """Two-sided, against independence (t approximation)."""
    episodes: int


def rank_correlation(
    x: Shaped[np.ndarray, "*episodes"], y: Shaped[np.ndarray, "*same_episodes"], confidence: float = 0.95
) -> RankCorrelation:
    """Spearman's rho of two figures per episode, with the interval of Bonett and Wright; episodes must be independent.

    Simulated: 94.5 to 96.5 %. One of the two may be 0 or 1 (success): then up to 99 % where they go together closely.
    Several windows of one episode are not independent: average them first.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    alike = x.ndim == 1 and x.shape == y.shape and len(x) >= 10 and bool(np.isfinite(x).all() and np.isfinite(y).all())
    if not alike or np.ptp(x) == 0 or np.ptp(y) == 0:
        raise InputError(
            where="rank_correlation",
            expected="two finite figures of the same ten or more episodes, neither of them constant",
            got=f"{x.shape} and {y.shape}" + (", one constant" if alike else ""),
            do="Evaluate more episodes; where a figure never changes there is no correlation to report.",
        )
    found = stats.spearmanr(x, y)
    value, p_value = float(found.statistic), float(found.pvalue)  # pyright: ignore[reportAttributeAccessIssue]
    held = min(max(value, -1 + 1e-9), 1 - 1e-9)
    error = math.sqrt((1 + held**2 / 2) / (len(x) - 3))
    half = float(stats.norm.isf((1 - confidence) / 2)) * error
    low, high = math.tanh(math.atanh(held) - half), math.tanh(math.atanh(held) + half)
    return RankCorrelation(value=value, interval=Interval(low=low, high=high), p_value=p_value, episodes=len(x))
