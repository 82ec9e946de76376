"""Intervals, tests and sample sizes do what their names promise, by simulation and against published figures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from crossroads.errors import InputError
from crossroads.evaluate.statistics import (
    PairedCounts,
    clopper_pearson,
    episodes_to_settle,
    holm,
    mcnemar_exact,
    mcnemar_power,
    mean_over_runs,
    minimum_detectable_effect,
    paired_counts,
    paired_difference,
    wilson,
)


def average_coverage(interval_of, trials: int, centre: float, draws: int = 4000) -> float:
    """Coverage averaged over a small band of true shares (at one share, discreteness makes it jump)."""
    rng = np.random.default_rng(trials)
    shares = rng.uniform(centre - 0.05, centre + 0.05, size=draws)
    counts = rng.binomial(trials, shares)
    intervals = {count: interval_of(int(count), trials) for count in np.unique(counts)}
    return float(np.mean([intervals[count].contains(share) for count, share in zip(counts, shares, strict=True)]))


@pytest.mark.parametrize("trials", [20, 50, 200])
@pytest.mark.parametrize("centre", [0.1, 0.5, 0.8])
def test_wilson_covers_the_truth_about_95_times_in_100(trials: int, centre: float) -> None:
    assert 0.93 <= average_coverage(wilson, trials, centre) <= 0.97


@pytest.mark.parametrize("trials", [10, 50, 200])
@pytest.mark.parametrize("centre", [0.06, 0.5, 0.9])
def test_clopper_pearson_never_covers_less_than_it_says(trials: int, centre: float) -> None:
    assert average_coverage(clopper_pearson, trials, centre) >= 0.945


def test_widths_agree_with_the_table_of_the_benchmarks_page() -> None:
    assert [round(100 * x) for x in (wilson(10, 20).low, wilson(10, 20).high)] == [30, 70]
    assert [round(100 * x) for x in (clopper_pearson(45, 50).low, clopper_pearson(45, 50).high)] == [78, 97]


@given(st.integers(1, 300), st.data())
@settings(max_examples=60, deadline=None)
def test_wilson_holds_the_estimate_and_mirrors_failures(trials: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, trials))
    interval, mirror = wilson(successes, trials), wilson(trials - successes, trials)
    assert interval.low - 1e-12 <= successes / trials <= interval.high + 1e-12
    assert interval.low == pytest.approx(1 - mirror.high, abs=1e-9)


def paired_draws(
    rng: np.random.Generator, draws: int, trials: int, p_a: float, p_b: float, shared: float
) -> np.ndarray:
    """Counts (both, only a, only b, neither) of policies that share a scene's difficulty with weight ``shared``."""
    common, own_a, own_b = rng.random((3, draws, trials))
    same = rng.random((draws, trials)) < shared
    a, b = np.where(same, common, own_a) < p_a, np.where(same, common, own_b) < p_b
    return np.stack([(a & b).sum(1), (a & ~b).sum(1), (~a & b).sum(1), (~a & ~b).sum(1)], axis=1)


@pytest.mark.parametrize(("trials", "p", "shared"), [(50, 0.5, 0.5), (200, 0.7, 0.5), (300, 0.3, 0.0)])
def test_mcnemar_calls_equal_policies_different_at_most_5_times_in_100(trials: int, p: float, shared: float) -> None:
    draws = paired_draws(np.random.default_rng(1), 3000, trials, p, p, shared)
    alarms = np.mean([mcnemar_exact(*map(int, row)) <= 0.05 for row in draws])
    assert 0.01 < alarms <= 0.056  # 5 % plus two standard errors of 3,000 draws would be 5.8 %


def test_mcnemar_is_the_exact_binomial() -> None:
    assert mcnemar_exact(30, 5, 0, 7) == pytest.approx(2 * 0.5**5)
    assert mcnemar_exact(10, 0, 0, 10) == 1.0
    assert mcnemar_exact(1, 9, 4, 1) == mcnemar_exact(5, 4, 9, 50)


@pytest.mark.parametrize(("trials", "p_a", "p_b"), [(60, 0.5, 0.5), (150, 0.7, 0.55), (250, 0.9, 0.85)])
def test_the_paired_interval_covers_the_true_difference(trials: int, p_a: float, p_b: float) -> None:
    draws = paired_draws(np.random.default_rng(2), 1000, trials, p_a, p_b, 0.5)
    rows, times = np.unique(draws, axis=0, return_counts=True)
    hits = [
        paired_difference(PairedCounts(both=int(w), only_a=int(x), only_b=int(y), neither=int(z))).contains(p_a - p_b)
        for w, x, y, z in rows
    ]
    hits = np.average(hits, weights=times)
    assert 0.93 <= hits <= 0.975


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 60))
@settings(max_examples=40, deadline=None)
def test_the_ends_of_the_paired_interval_are_where_the_score_test_turns(only_a: int, only_b: int, rest: int) -> None:
    """Tango's definition, with the nuisance share found by search instead of by formula."""
    trials = only_a + only_b + rest
    if trials < 2:
        return
    interval = paired_difference(PairedCounts(both=rest, only_a=only_a, only_b=only_b, neither=0))
    for end in (interval.low, interval.high):
        if abs(end) < 1 - 1e-6:
            share = _likeliest(only_a, only_b, rest, end)
            variance = trials * (2 * share + end - end**2)
            assert abs(only_a - only_b - trials * end) / np.sqrt(variance) == pytest.approx(1.96, abs=5e-3)


def _likeliest(only_a: int, only_b: int, rest: int, difference: float) -> float:
    low, high = max(0.0, -difference), (1 - difference) / 2

    def loss(share: float) -> float:
        parts = ((only_a, share + difference), (only_b, share), (rest, 1 - 2 * share - difference))
        return -sum(count * np.log(max(chance, 1e-300)) for count, chance in parts if count)

    found = optimize.minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-10})
    return float(found.x)  # pyright: ignore[reportAttributeAccessIssue]


def test_policies_that_never_disagree_still_leave_room_for_a_difference() -> None:
    interval = paired_difference(PairedCounts(both=30, only_a=0, only_b=0, neither=30))
    assert interval.high == pytest.approx(1.96**2 / (60 + 1.96**2), abs=1e-4)
    assert interval.low == pytest.approx(-interval.high)
    assert paired_difference(PairedCounts(both=0, only_a=9, only_b=0, neither=0)).high == 1.0


@pytest.mark.parametrize(("trials", "discordant"), [(100, 0.3), (400, 0.4)])
def test_the_minimum_detectable_effect_is_found_4_times_in_5(trials: int, discordant: float) -> None:
    effect = minimum_detectable_effect(trials, discordant)
    assert effect is not None
    rng = np.random.default_rng(3)
    only_a, only_b = (discordant + effect) / 2, (discordant - effect) / 2
    draws = rng.multinomial(trials, [0.5 - only_a / 2, only_a, only_b, 0.5 - only_b - only_a / 2], size=3000)
    power = np.mean([mcnemar_exact(*map(int, row)) <= 0.05 for row in draws])
    assert 0.77 <= power <= 0.83


@given(st.floats(0.03, 0.4), st.floats(0.05, 0.8))
@settings(max_examples=25, deadline=None)
def test_the_settling_size_has_the_power_and_half_of_it_has_not(difference: float, discordant: float) -> None:
    episodes = episodes_to_settle(difference, discordant)
    assert episodes is not None
    assert mcnemar_power(episodes, difference, discordant) >= 0.8
    assert mcnemar_power(episodes // 2, difference, discordant) < 0.8


@given(st.integers(1, 40), st.floats(0.0, 0.6), st.floats(0.05, 1.0), st.sampled_from([0.05, 0.0125]))
@settings(max_examples=25, deadline=None)
def test_the_power_is_that_of_counting_every_outcome(
    trials: int, difference: float, discordant: float, alpha: float
) -> None:
    discordant = max(discordant, difference)
    share, total = (discordant + difference) / (2 * discordant), 0.0
    for disagreements in range(trials + 1):
        ways = np.arange(disagreements + 1)
        rejects = [mcnemar_exact(0, int(way), disagreements - int(way), 0) <= alpha for way in ways]
        chance = stats.binom.pmf(ways, disagreements, share)[rejects].sum()
        total += float(stats.binom.pmf(disagreements, trials, discordant) * chance)
    assert mcnemar_power(trials, difference, discordant, alpha) == pytest.approx(total, abs=1e-9)


def test_edges_of_the_sample_size_questions() -> None:
    assert episodes_to_settle(0.0, 0.3) is None
    assert minimum_detectable_effect(3, 0.5) is None  # three trials cannot reach p <= 0.05 at all
    assert (episodes_to_settle(0.05, 0.3) or 0) > (episodes_to_settle(0.10, 0.3) or 0) > 50


def test_holm_keeps_the_family_false_alarm_rate() -> None:
    uniform = np.random.default_rng(4).random((4000, 3))
    alarms = np.mean([min(holm(dict(zip("abc", row, strict=True))).values()) <= 0.05 for row in uniform])
    assert 0.04 <= alarms <= 0.058
    assert holm({"x": 0.01, "y": 0.04, "z": 0.03}) == pytest.approx({"x": 0.03, "y": 0.06, "z": 0.06})


def test_counts_are_taken_trial_by_trial() -> None:
    counts = paired_counts(np.array([[1, 1, 0], [0, 1, 0]]), np.array([[1, 0, 0], [1, 1, 0]]))
    assert (counts.both, counts.only_a, counts.only_b, counts.neither) == (2, 1, 1, 2)
    assert counts.difference == 0
    with pytest.raises(InputError, match="same scenes"):
        paired_counts(np.zeros(3), np.zeros(4))
    with pytest.raises(InputError, match="no trials"):
        wilson(0, 0)


def test_a_mean_over_runs_has_students_interval_and_a_single_run_has_none() -> None:
    assert mean_over_runs([0.4]) is None
    rng = np.random.default_rng(0)
    inside = [mean_over_runs(rng.normal(2.0, 0.3, size=3).tolist()) for _ in range(4000)]
    covered = np.mean([found is not None and found.low <= 2.0 <= found.high for found in inside])
    assert 0.93 <= covered <= 0.97
