"""Training runs are a second source of noise: what sees it, what does not, and that intervals cover."""

from __future__ import annotations

import numpy as np
import pytest

from crossroads.errors import InputError
from crossroads.evaluate import simulate
from crossroads.evaluate.statistics import (
    difference_over_runs,
    mcnemar_exact,
    paired_counts,
    success_interval,
    sum_over_runs,
    wilson,
)


def experiments(rng: np.random.Generator, num: int, runs: int, scenes: int, means: tuple[float, ...], run_std: float):
    """Yield one success array (runs, scenes) per mean; arms share the difficulty of a scene, runs differ by run_std."""
    for _ in range(num):
        difficulty = 0.25 * np.tanh(rng.normal(size=(1, scenes)))
        arms = []
        for mean in means:
            taste = 0.15 * np.tanh(rng.normal(size=(1, scenes)))
            share = np.clip(mean + run_std * rng.normal(size=(runs, 1)) + difficulty + taste, 0, 1)
            arms.append((rng.random((runs, scenes)) < share).astype(float))
        yield arms


@pytest.mark.parametrize(("runs", "run_std"), [(3, 0.0), (3, 0.05), (3, 0.1), (5, 0.05)])
def test_equal_recipes_are_rarely_called_different_whatever_the_runs_do(runs: int, run_std: float) -> None:
    found = [
        difference_over_runs(a, b).p_value <= 0.05
        for a, b in experiments(np.random.default_rng(5), 1200, runs, 100, (0.55, 0.55), run_std)
    ]
    assert np.mean(found) <= 0.065  # 5 % and two and a half standard errors


def test_mcnemar_alone_is_fooled_by_runs_that_differ() -> None:
    alarms, sober = [], []
    for a, b in experiments(np.random.default_rng(6), 400, 3, 150, (0.55, 0.55), 0.08):
        counts = paired_counts(a, b)
        alarms.append(mcnemar_exact(counts.both, counts.only_a, counts.only_b, counts.neither) <= 0.05)
        sober.append(difference_over_runs(a, b).p_value <= 0.05)
    assert np.mean(alarms) > 0.2
    assert np.mean(sober) < 0.09


@pytest.mark.parametrize("run_std", [0.03, 0.08])
def test_the_interval_over_runs_covers_the_true_difference(run_std: float) -> None:
    hits = [
        difference_over_runs(a, b).interval.contains(0.15)
        for a, b in experiments(np.random.default_rng(7), 1200, 4, 120, (0.6, 0.45), run_std)
    ]
    assert 0.93 <= np.mean(hits) <= 0.985


def test_the_minimum_detectable_effect_over_runs_is_about_what_is_found_4_times_in_5() -> None:
    rng = np.random.default_rng(8)
    effects = [
        difference_over_runs(a, b).minimum_detectable_effect()
        for a, b in experiments(rng, 200, 3, 200, (0.5, 0.5), 0.03)
    ]
    effect = float(np.sqrt(np.mean(np.square(effects))))  # variances, not their roots, are unbiased
    found = [
        difference_over_runs(a, b).p_value <= 0.05
        for a, b in experiments(rng, 600, 3, 200, (0.5 + effect / 2, 0.5 - effect / 2), 0.03)
    ]
    assert 0.68 <= np.mean(found) <= 0.92


@pytest.mark.parametrize(("runs", "run_std"), [(2, 0.08), (3, 0.0), (3, 0.1)])
@pytest.mark.parametrize("share", [0.3, 0.8])
def test_the_interval_of_success_covers_however_few_the_runs_and_however_much_they_differ(
    share: float, runs: int, run_std: float
) -> None:
    rng = np.random.default_rng(9)
    (found,) = simulate.experiments(rng, num=1000, runs=runs, scenes=60, shares=(share,), run_std=run_std)
    assert np.mean([success_interval(x).contains(share) for x in found]) >= 0.935


def test_the_interval_of_success_never_collapses_and_is_wilson_for_one_run() -> None:
    assert success_interval(np.ones((3, 20))).width > 0.03
    assert success_interval(np.array([[1.0, 0, 1, 1]])) == wilson(3, 4)


def test_runs_that_differ_make_the_interval_of_success_wider_than_independent_trials() -> None:
    rows = (np.arange(60) < np.array([[12], [30], [48]])).astype(float)
    found = success_interval(rows)
    assert found.width > 3 * wilson(90, 180).width
    assert 0 <= found.low < 0.5 < found.high <= 1


def test_two_ways_of_testing_the_same_runs_are_compared_run_by_run() -> None:
    rng = np.random.default_rng(14)
    hits, widths = [], []
    for _ in range(1000):
        run = np.clip(0.5 + 0.15 * rng.normal(size=(3, 1)), 0.15, 0.95)
        plain, swapped = rng.random((2, 3, 80)) < np.stack([run, run - 0.1])
        interval = sum_over_runs([plain.astype(float) - swapped]).interval
        hits.append(interval.contains(0.1))
        widths.append(interval.width)
    assert np.mean(hits) >= 0.94
    assert np.mean(widths) < 0.6  # the noise of training is in both and goes out


def test_two_runs_that_differ_wildly_leave_everything_open_and_no_more() -> None:
    found = difference_over_runs(np.array([[1.0] * 20, [0.0] * 20]), np.array([[1.0] * 20, [0.0] * 20]))
    assert (found.interval.low, found.interval.high) == (-1.0, 1.0)


def test_one_run_cannot_speak_for_a_recipe() -> None:
    with pytest.raises(InputError, match="Train more seeds"):
        difference_over_runs(np.zeros((1, 10)), np.zeros((1, 10)))
    with pytest.raises(InputError, match="one row per training seed"):
        success_interval(np.zeros((0, 10)))


def test_the_same_policy_on_both_sides_differs_by_nothing() -> None:
    same = (np.random.default_rng(11).random((3, 50)) < 0.5).astype(float)
    found = difference_over_runs(same, same)
    assert found.difference == 0
    assert found.p_value == 1.0
    assert found.interval.contains(0.0)
    always = difference_over_runs(np.ones((3, 50)), np.ones((3, 50))).interval
    assert 0.01 < always.high < 0.05  # what 150 trials without a failure still leave open


def test_more_scenes_help_when_scenes_are_the_noise_and_more_runs_when_runs_are() -> None:
    rng = np.random.default_rng(12)
    ((a, b),) = experiments(rng, 1, 3, 150, (0.55, 0.5), 0.0)
    quiet = difference_over_runs(a, b)
    large, small = quiet.settled_by(0.3), quiet.settled_by(0.15)
    assert large is not None
    assert small is not None
    assert large[0] * large[1] < small[0] * small[1]
    noisy_a = (np.arange(150) < np.array([[30], [75], [120]])).astype(float)
    noisy = difference_over_runs(noisy_a, 1 - noisy_a[:, ::-1]).settled_by(0.1)
    assert noisy is not None
    assert noisy[0] > 30


def test_the_named_number_of_runs_and_scenes_makes_the_difference_detectable() -> None:
    rng = np.random.default_rng(13)
    ((a, b),) = experiments(rng, 1, 3, 200, (0.5, 0.5), 0.06)
    settled = difference_over_runs(a, b).settled_by(0.1)
    assert settled is not None
    runs, scenes = settled
    more = [difference_over_runs(x, y) for x, y in experiments(rng, 60, runs, scenes, (0.55, 0.45), 0.06)]
    assert np.mean([found.p_value <= 0.05 for found in more]) > 0.5
