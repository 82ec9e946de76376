"""Intervals, paired tests and sample sizes for success counts: how much may be read into a difference of two policies?

Every policy is scored on the *same* scenes, so differences are paired, and one training run is one draw of a recipe,
so runs are a second source of noise. McNemar's test sees only the first kind: two equal recipes whose runs differ by
chance are called different far more often than 5 % of the time (tests/evaluate/test_runs.py).
``sum_over_runs`` sees both. What each interval covers in simulation: benchmarks/coverage.py.
Sources: Wilson 1927; Clopper and Pearson 1934; McNemar 1947; Tango 1998 (Statistics in Medicine 17:891); Connor 1987
(Biometrics 43:207); Holm 1979; Satterthwaite 1946; Howe 1974 (JASA 69:789); Korn and Graubard 1998 (Survey Methodology
24:193, effective sample size); Bonett and Price 2012 (J. Educational and Behavioral Statistics 37:479).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped
from scipy import stats
from scipy.optimize import brentq
from scipy.special import (
    bdtr,
    stdtr,
    stdtridf,
    stdtrit,
)  # the distribution functions, without the checks of scipy.stats

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

    def within(self, low: float, high: float) -> Interval:
        """The part between two values that the figure cannot leave."""
        return Interval(low=min(max(self.low, low), high), high=max(min(self.high, high), low))


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
    """Wilson's score interval of independent trials, for display.

    Coverage averaged over neighbouring shares is 95 to 96 %; at one share, discreteness moves it (computed exactly:
    93.4 to 97.0 % for 24 to 1,200 trials and shares .05 to .95; down to 89 % for 24 trials near .02). Trials of several
    training runs are not independent: ``success_interval``.
    """
    _check_counts("wilson", successes, trials, confidence)
    found = stats.binomtest(successes, trials).proportion_ci(confidence_level=confidence, method="wilson")
    return Interval(low=float(found.low), high=float(found.high))


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """The exact interval, for guarantees: coverage is never below nominal and conservative by construction.

    Computed exactly: 95.3 to 99.4 % for 24 to 1,200 trials and shares .05 to .95.
    """
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
    """Interval of the difference of two paired shares, a - b: all differences that a score test accepts (Tango 1998).

    Simulated with 60 to 1,200 trials: 93 to 97 %, and up to 98.5 % where 60 trials hold about three that disagree.
    """
    n, only_a, only_b = counts.trials, counts.only_a, counts.only_b
    if not 0 < confidence < 1:
        raise InputError(
            where="paired_difference",
            expected="0 < confidence < 1",
            got=f"{confidence}",
            do="Give the confidence as a share, for instance 0.95.",
        )
    z = float(stats.norm.isf((1 - confidence) / 2))

    def score(difference: float) -> float:
        linear = (2 * n - only_a + only_b) * difference - only_a - only_b
        root = math.sqrt(max(0.0, linear**2 + 8 * n * only_b * difference * (1 - difference)))
        share_b = (root - linear) / (4 * n)  # most likely share of only_b trials, given the difference
        variance = n * (2 * share_b + difference * (1 - difference))
        return (only_a - only_b - n * difference) / math.sqrt(variance)

    edge, found = 1e-9, counts.difference
    low, high = -1.0, 1.0  # a side on which no difference is refused ends at the border
    if found > -1 + edge and score(-1 + edge) > z:
        low = float(brentq(lambda d: score(d) - z, -1 + edge, found - edge / 2))  # pyright: ignore[reportArgumentType]
    if found < 1 - edge and score(1 - edge) < -z:
        high = float(brentq(lambda d: score(d) + z, found + edge / 2, 1 - edge))  # pyright: ignore[reportArgumentType]
    return Interval(low=low, high=high)


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

    Scenes are shared (crossed with runs and paired between recipes); runs of a and b are independent draws; see
    ``sum_over_runs``. Both recipes need at least two runs. The interval is cut at the shares' limits, -1 and 1.
    """
    found = sum_over_runs([np.asarray(a, dtype=np.float64), -np.asarray(b, dtype=np.float64)], confidence)
    return dataclasses.replace(found, interval=found.interval.within(-1, 1))


def sum_over_runs(parts: Sequence[Shaped[np.ndarray, "_ scenes"]], confidence: float = 0.95) -> RunsDifference:
    """The sum of the means of independent groups of training runs on shared scenes, and how sure it is.

    One part per group of runs (``[a, -b]`` is a difference; values of one run that belong together are combined before:
    ``[a - b]`` compares two ways of testing the *same* runs). The variance is s_run^2 / k summed over the parts, and
    max(0, s_scene^2 / n - residual), at least the scenes' alone and at least that of two more trials, one each way
    (Bonett and Price 2012), so it never collapses. Several parts of three runs or more: a t with Satterthwaite's
    degrees of freedom, simulated to cover 94 to 97.5 %, the last where runs agree (the floors). One part, or two of two
    runs: Howe's combination of t with the runs' own degrees of freedom and t with n - 1 for scenes, because
    Satterthwaite's are too many there (it covers 86 to 95 %); Howe's is conservative by construction, 95 to 99.5 %.
    """
    arrays = [_runs_by_episodes("sum_over_runs", part) for part in parts]
    if not arrays or min(map(len, arrays)) < 2 or len({x.shape[1] for x in arrays}) != 1 or arrays[0].shape[1] < 2:
        raise InputError(
            where="sum_over_runs",
            expected="at least two training runs of each recipe on the same scenes (two or more)",
            got=f"{', '.join(str(x.shape) for x in arrays) or 'nothing'} (runs, scenes)",
            do="Train more seeds, or use paired_difference for a claim about these two trained policies only.",
        )
    num_scenes, level = arrays[0].shape[1], (1 + confidence) / 2
    total = float(sum(x.mean() for x in arrays))
    run_variances = [(float(x.mean(axis=1).var(ddof=1)) / len(x), len(x) - 1) for x in arrays]
    from_runs = sum(variance for variance, _ in run_variances)
    from_scenes = float(np.sum([x.mean(axis=0) for x in arrays], axis=0).var(ddof=1)) / num_scenes
    residual = sum(_residual_variance(x) / x.size for x in arrays)
    beyond_runs = max(0.0, from_scenes - residual)
    num_trials = min(x.size for x in arrays)
    least = max(from_scenes, 2 / (num_trials + 2) ** 2)
    variance, freedom = from_runs + beyond_runs, float(num_scenes - 1)
    run_freedom = from_runs**2 / max(sum(part**2 / runs for part, runs in run_variances), 1e-300)
    if len(arrays) == 1 or sum(runs for _, runs in run_variances) < 4:
        runs_t, scenes_t = float(stdtrit(max(run_freedom, 1.0), level)), float(stdtrit(num_scenes - 1, level))
        half = math.sqrt(runs_t**2 * from_runs + scenes_t**2 * beyond_runs)
        variance = max(variance, least)
        critical = half / math.sqrt(variance)
        if critical > scenes_t:
            freedom = float(stdtridf(level, critical))  # the t distribution that has Howe's critical value
    elif variance > least:
        spread = sum(part**2 / runs for part, runs in run_variances) + beyond_runs**2 / (num_scenes - 1)
        freedom = float(variance**2 / spread)
    else:  # runs agree more than chance: never claim less than scene noise
        variance = least
    error = math.sqrt(variance)
    half = float(stdtrit(freedom, level)) * error
    return RunsDifference(
        difference=total,
        interval=Interval(low=total - half, high=total + half),
        p_value=2 * float(stdtr(freedom, -abs(total) / error)),
        standard_error=error,
        degrees_of_freedom=freedom,
        runs=min(map(len, arrays)),
        scenes=num_scenes,
        variance_of_runs=max(0.0, from_runs - residual),
        variance_of_scenes=beyond_runs,
    )


def success_interval(successes: Shaped[np.ndarray, "runs episodes"], *, confidence: float = 0.95) -> Interval:
    """The interval beside a success share: Wilson's for one run (that policy), else over training runs and scenes.

    Several runs: Wilson's with the effective number of trials and the critical value of ``sum_over_runs`` (as Korn and
    Graubard 1998 do for surveys); never narrower than independent trials. Few runs say little: with two or three it is
    wide, and conservative where runs agree (simulated: 94.5 to 99.6 %).
    """
    successes = _runs_by_episodes("success_interval", successes)
    share, trials = float(successes.mean()), successes.size
    if 1 in successes.shape or share in (0.0, 1.0):  # one policy, or one trial of each: independent trials
        return wilson(int(successes.sum()), trials, confidence)
    found, independent = sum_over_runs([successes], confidence), share * (1 - share) / trials
    variance = max(found.standard_error**2, independent)
    normal = float(stats.norm.isf((1 - confidence) / 2))
    critical = max(normal, found.interval.width / 2 / math.sqrt(variance))
    effective = share * (1 - share) / variance
    shrink = 1 + critical**2 / effective
    centre = (share + critical**2 / (2 * effective)) / shrink
    half = critical / shrink * math.sqrt(share * (1 - share) / effective + critical**2 / (4 * effective**2))
    return Interval(low=max(0.0, centre - half), high=min(1.0, centre + half))


def mean_over_runs(values: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """Student's interval of a figure's mean over independent training runs; None for a single run."""
    if len(values) < 2:
        return None
    half = float(stats.t.isf((1 - confidence) / 2, len(values) - 1) * np.std(values, ddof=1)) / math.sqrt(len(values))
    mean = float(np.mean(values))
    return Interval(low=mean - half, high=mean + half)


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
