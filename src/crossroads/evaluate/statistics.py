"""Intervals, paired tests and sample sizes for success counts: how much may be read into a difference of two policies?

Every policy is scored on the *same* scenes, so differences are paired, and one training run is one draw of a recipe,
so runs are a second source of noise. McNemar's test sees only the first kind: two equal recipes whose runs differ by
chance are called different far more often than 5 % of the time (tests/evaluate/test_runs.py).
``difference_over_runs`` sees both.
Sources: Wilson 1927; Clopper and Pearson 1934; McNemar 1947; Newcombe 1998 (Statistics in Medicine 17:2635, method 10);
Connor 1987 (Biometrics 43:207); Holm 1979; Satterthwaite 1946; Owen 2007 (Annals of Applied Statistics 1:386).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped
from scipy import stats
from scipy.special import bdtr  # the binomial distribution function, without the checks of scipy.stats

from crossroads.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A confidence interval; ``low <= high``."""

    low: float
    high: float

    def contains(self, value: float) -> bool:
        """True when the value lies inside or on the border."""
        return bool(self.low <= value <= self.high)

    @property
    def width(self) -> float:
        return self.high - self.low


@dataclass(frozen=True, kw_only=True)
class PairedCounts:
    """How two policies did on the same trials."""

    both: int
    only_a: int
    only_b: int
    neither: int

    @property
    def trials(self) -> int:
        return self.both + self.only_a + self.only_b + self.neither

    @property
    def difference(self) -> float:
        """Success share of a minus that of b."""
        return (self.only_a - self.only_b) / self.trials

    @property
    def discordant(self) -> float:
        """Share of trials in which exactly one of the two succeeds."""
        return (self.only_a + self.only_b) / self.trials


def paired_counts(a: Shaped[np.ndarray, "*trials"], b: Shaped[np.ndarray, "*same_trials"]) -> PairedCounts:
    """Count the four outcomes of two success arrays of equal shape (0 or 1, same trial at the same place)."""
    a, b = np.asarray(a).astype(bool), np.asarray(b).astype(bool)
    if a.shape != b.shape or a.size == 0:
        raise InputError(
            where="paired_counts",
            expected="two non-empty success arrays of the same shape",
            got=f"{a.shape} and {b.shape}",
            do="Score both policies on the same scenes, in the same order.",
        )
    return PairedCounts(
        both=int((a & b).sum()),
        only_a=int((a & ~b).sum()),
        only_b=int((~a & b).sum()),
        neither=int((~a & ~b).sum()),
    )


def _check_counts(where: str, successes: int, trials: int, confidence: float) -> None:
    if trials < 1 or not 0 <= successes <= trials or not 0 < confidence < 1:
        raise InputError(
            where=where,
            expected="0 <= successes <= trials, trials >= 1 and 0 < confidence < 1",
            got=f"successes={successes}, trials={trials}, confidence={confidence}",
            do="Leave out a cell that has no trials instead of asking for its interval.",
        )


def wilson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval: average coverage is close to nominal; for display."""
    _check_counts("wilson", successes, trials, confidence)
    found = stats.binomtest(successes, trials).proportion_ci(confidence_level=confidence, method="wilson")
    return Interval(low=float(found.low), high=float(found.high))


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """The exact interval: coverage is never below nominal; for guarantees."""
    _check_counts("clopper_pearson", successes, trials, confidence)
    found = stats.binomtest(successes, trials).proportion_ci(confidence_level=confidence, method="exact")
    return Interval(low=float(found.low), high=float(found.high))


def mcnemar_exact(both: int, only_a: int, only_b: int, neither: int) -> float:
    """Two-sided exact p-value that a and b succeed equally often on the same trials (1 when they never disagree).

    Given the number of discordant trials, ``only_a`` is binomial with one half; concordant trials carry no information.
    """
    if min(both, only_a, only_b, neither) < 0:
        raise InputError(
            where="mcnemar_exact",
            expected="counts of at least 0",
            got=f"{both}, {only_a}, {only_b}, {neither}",
            do="Build the counts with paired_counts.",
        )
    return float(min(1.0, 2.0 * stats.binom.cdf(min(only_a, only_b), only_a + only_b, 0.5)))


def paired_difference(counts: PairedCounts, confidence: float = 0.95) -> Interval:
    """Interval of the difference of two paired shares, a - b (Newcombe 1998, method 10: squared and adjusted)."""
    a, b, c, d, n = counts.both, counts.only_a, counts.only_b, counts.neither, counts.trials
    first, second = (a + b) / n, (a + c) / n
    first_wilson, second_wilson = wilson(a + b, n, confidence), wilson(a + c, n, confidence)
    margins = float(a + b) * (c + d) * (a + c) * (b + d)
    covariance = float(a * d - b * c)
    if covariance > 0:
        covariance = max(covariance - n / 2, 0.0)  # the continuity adjustment of method 10
    phi = covariance / math.sqrt(margins) if margins else 0.0
    below_first, above_first = first - first_wilson.low, first_wilson.high - first
    below_second, above_second = second - second_wilson.low, second_wilson.high - second
    down = below_first**2 - 2 * phi * below_first * above_second + above_second**2
    up = above_first**2 - 2 * phi * above_first * below_second + below_second**2
    return Interval(low=counts.difference - math.sqrt(down), high=counts.difference + math.sqrt(up))


def mcnemar_power(trials: int, difference: float, discordant: float, alpha: float = 0.05) -> float:
    """Probability that the exact McNemar test sees a true difference, exact by summing over the discordant count."""
    discordant = min(1.0, max(discordant, abs(difference)))
    if trials < 1 or discordant == 0:
        return 0.0
    mean, spread = trials * discordant, math.sqrt(trials * discordant * (1 - discordant))
    first, last = max(1, math.floor(mean - 6 * spread - 6)), min(trials, math.ceil(mean + 6 * spread + 6))
    disagreements = np.arange(first, last + 1)
    share = (discordant + abs(difference)) / (2 * discordant)
    # Reject when at most `critical` go one way: the largest count whose cdf is at most alpha / 2, or -1 for none.
    guess = np.ceil(disagreements / 2 - stats.norm.isf(alpha / 2) * np.sqrt(disagreements) / 2) + 1
    candidates = np.maximum(guess[:, None] - np.arange(5), -1)
    allowed = (candidates < 0) | (bdtr(np.maximum(candidates, 0), disagreements[:, None], 0.5) <= alpha / 2)
    critical = candidates[np.arange(len(disagreements)), allowed.argmax(axis=1)]
    some = critical >= 0
    tails = bdtr(critical[some], disagreements[some], share) + bdtr(critical[some], disagreements[some], 1 - share)
    return float((stats.binom.pmf(disagreements[some], trials, discordant) * tails).sum())


def minimum_detectable_effect(trials: int, discordant: float, power: float = 0.8, alpha: float = 0.05) -> float | None:
    """Smallest true difference that the exact McNemar test finds with this power; None when not even 1.0 is found.

    ``discordant`` is the share of trials on which the two disagree; it is raised to the difference where it is smaller,
    because a difference of d needs at least d of disagreement.
    """
    if mcnemar_power(trials, 1.0, discordant, alpha) < power:
        return None
    low, high = 0.0, 1.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (low, middle) if mcnemar_power(trials, middle, discordant, alpha) >= power else (middle, high)
    return high


def episodes_to_settle(difference: float, discordant: float, power: float = 0.8, alpha: float = 0.05) -> int | None:
    """Paired episodes at which a true difference of this size is found with this power; None for a zero difference."""
    if difference == 0:
        return None
    size, discordant = abs(difference), max(discordant, abs(difference))
    z_alpha, z_power = stats.norm.isf(alpha / 2), stats.norm.isf(1 - power)
    guess = (z_alpha * math.sqrt(discordant) + z_power * math.sqrt(discordant - size**2)) ** 2 / size**2  # Connor 1987
    low, high = max(1, int(0.5 * guess)), int(2 * guess) + 60
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if mcnemar_power(middle, size, discordant, alpha) >= power else (middle, high)
    return high


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down adjusted p-values; rejecting those <= alpha keeps the chance of any false one <= alpha."""
    adjusted: dict[str, float] = {}
    running = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = running
    return {name: adjusted[name] for name in p_values}


def hierarchical_bootstrap(
    values: Shaped[np.ndarray, "runs episodes"],
    *,
    generator: np.random.Generator,
    confidence: float = 0.95,
    num_draws: int = 2000,
) -> Interval:
    """Percentile interval of the mean, drawing runs and scenes anew together (Owen 2007: pigeonhole bootstrap).

    Every run is scored on the same scenes, so rows and columns are drawn separately. It is conservative where runs
    agree and too narrow where few runs disagree much; decisions use ``difference_over_runs``.
    """
    values = _runs_by_episodes("hierarchical_bootstrap", values)
    runs, episodes = values.shape
    run_weights = generator.multinomial(runs, np.full(runs, 1 / runs), size=num_draws) / runs
    episode_weights = generator.multinomial(episodes, np.full(episodes, 1 / episodes), size=num_draws) / episodes
    means = np.einsum("dr,re,de->d", run_weights, values, episode_weights, optimize=True)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(low=float(low), high=float(high))


def success_interval(
    successes: Shaped[np.ndarray, "runs episodes"], *, generator: np.random.Generator, confidence: float = 0.95
) -> Interval:
    """The interval beside a success share: Wilson for one run; for several, the hull of Wilson and bootstrap."""
    successes = _runs_by_episodes("success_interval", successes)
    pooled = wilson(int(successes.sum()), successes.size, confidence)
    if len(successes) == 1:
        return pooled
    drawn = hierarchical_bootstrap(successes, generator=generator, confidence=confidence)
    return Interval(low=min(pooled.low, drawn.low), high=max(pooled.high, drawn.high))


@dataclass(frozen=True, kw_only=True)
class RunsDifference:
    """The difference of two recipes over training runs and scenes, with everything that makes it uncertain."""

    difference: float
    interval: Interval
    p_value: float
    standard_error: float
    degrees_of_freedom: float
    runs: int
    scenes: int
    variance_of_runs: float
    """The part of the squared standard error that only more training runs make smaller."""
    variance_of_scenes: float
    """The part that only more scenes make smaller; what remains shrinks with both."""

    def minimum_detectable_effect(self, power: float = 0.8, alpha: float = 0.05) -> float:
        """Smallest true difference that this many runs and scenes find with this power (t approximation)."""
        return self._critical(self.runs, power, alpha) * self.standard_error

    def settled_by(self, difference: float, power: float = 0.8, alpha: float = 0.05) -> tuple[int, int] | None:
        """Training runs per recipe and scenes at which a true difference of this size is found; None beyond 4096 runs.

        The fewest runs, at least as many as now, that need no more than ten times the scenes.
        """
        mixed = max(0.0, self.standard_error**2 - self.variance_of_runs - self.variance_of_scenes)
        for runs in range(self.runs, 4097):
            allowed = (difference / self._critical(runs, power, alpha)) ** 2 - self.variance_of_runs * self.runs / runs
            if allowed > 0:
                scenes = self.scenes * (self.variance_of_scenes + mixed * self.runs / runs) / allowed
                if scenes <= 10 * self.scenes:
                    return runs, max(1, math.ceil(scenes))
        return None

    def _critical(self, runs: int, power: float, alpha: float) -> float:
        freedom = self.degrees_of_freedom * (runs - 1) / (self.runs - 1)
        return float(stats.t.isf(alpha / 2, freedom) + stats.t.ppf(power, freedom))


def difference_over_runs(
    a: Shaped[np.ndarray, "runs_a scenes"], b: Shaped[np.ndarray, "runs_b scenes"], confidence: float = 0.95
) -> RunsDifference:
    """Is recipe a better than recipe b, when training again and other scenes could both change the picture?

    Scenes are shared (crossed with runs and paired between recipes); runs of a and b are independent draws. The
    variance of the mean difference is V = s_a^2 / k_a + s_b^2 / k_b + max(0, s_scene^2 / n - residual), and at least
    the scene-only s_scene^2 / n; a t test with Satterthwaite degrees of freedom. Both recipes need at least two runs.
    """
    a, b = _runs_by_episodes("difference_over_runs", a), _runs_by_episodes("difference_over_runs", b)
    if min(len(a), len(b)) < 2 or a.shape[1] != b.shape[1] or a.shape[1] < 2:
        raise InputError(
            where="difference_over_runs",
            expected="at least two training runs of each recipe on the same scenes (two or more)",
            got=f"{a.shape} and {b.shape} (runs, scenes)",
            do="Train more seeds, or use paired_difference for a claim about these two trained policies only.",
        )
    num_scenes = a.shape[1]
    difference = float(a.mean() - b.mean())
    run_variances = [(float(x.mean(axis=1).var(ddof=1)) / len(x), len(x) - 1) for x in (a, b)]
    from_runs = sum(variance for variance, _ in run_variances)
    from_scenes = float((a.mean(axis=0) - b.mean(axis=0)).var(ddof=1)) / num_scenes
    residual = sum(_residual_variance(x) / x.size for x in (a, b))
    beyond_runs = max(0.0, from_scenes - residual)
    variance = from_runs + beyond_runs
    if variance <= from_scenes:  # runs agree more than chance: never claim less than scene noise
        variance, freedom = from_scenes, float(num_scenes - 1)
    else:
        spread = sum(part**2 / freedom for part, freedom in run_variances) + beyond_runs**2 / (num_scenes - 1)
        freedom = float(variance**2 / spread)
    error = math.sqrt(variance)
    half = float(stats.t.isf((1 - confidence) / 2, freedom)) * error
    p_value = 2 * float(stats.t.sf(abs(difference) / error, freedom)) if error > 0 else float(difference == 0)
    return RunsDifference(
        difference=difference,
        interval=Interval(low=difference - half, high=difference + half),
        p_value=p_value,
        standard_error=error,
        degrees_of_freedom=freedom,
        runs=min(len(a), len(b)),
        scenes=num_scenes,
        variance_of_runs=max(0.0, from_runs - residual),
        variance_of_scenes=beyond_runs,
    )


def _residual_variance(x: Float[np.ndarray, "runs episodes"]) -> float:
    """What neither the run nor the scene explains, per trial."""
    residual = x - x.mean(axis=0, keepdims=True) - x.mean(axis=1, keepdims=True) + x.mean()
    return float((residual**2).sum() / ((x.shape[0] - 1) * (x.shape[1] - 1)))


def _runs_by_episodes(where: str, values: np.ndarray) -> Float[np.ndarray, "runs episodes"]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or array.size == 0 or not np.isfinite(array).all():
        raise InputError(
            where=where,
            expected="a non-empty, finite array of training runs x episodes",
            got=f"shape {array.shape}",
            do="Give one row per training seed; a single run is one row.",
        )
    return array
