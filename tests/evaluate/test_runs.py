"""Training runs are a second source of noise: what sees it, what does not, and that intervals cover."""

from __future__ import annotations

import numpy as np
import pytest

from crossroads.errors import InputError
from crossroads.evaluate.statistics import (
    difference_over_runs,
    hierarchical_bootstrap,
    mcnemar_exact,
    paired_counts,
    success_interval,
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


def test_the_bootstrap_covers_the_mean_when_runs_agree_and_says_more_than_wilson_when_they_do_not() -> None:
    rng = np.random.default_rng(9)
    hits, wider = [], []
    for (a,) in experiments(rng, 250, 5, 80, (0.55,), 0.0):
        hits.append(hierarchical_bootstrap(a, generator=rng, num_draws=400).contains(0.55))
    for (a,) in experiments(rng, 60, 5, 80, (0.55,), 0.12):
        drawn = hierarchical_bootstrap(a, generator=rng, num_draws=400)
        wider.append(drawn.width > wilson(int(a.sum()), a.size).width)
    assert np.mean(hits) >= 0.93
    assert np.mean(wider) > 0.95


def test_the_drawn_interval_never_collapses_and_is_wilson_for_one_run() -> None:
    rng = np.random.default_rng(10)
    assert success_interval(np.ones((3, 20)), generator=rng).width > 0.03
    assert success_interval(np.array([[1.0, 0, 1, 1]]), generator=rng) == wilson(3, 4)


def test_one_run_cannot_speak_for_a_recipe() -> None:
    with pytest.raises(InputError, match="Train more seeds"):
        difference_over_runs(np.zeros((1, 10)), np.zeros((1, 10)))
    with pytest.raises(InputError, match="one row per training seed"):
        hierarchical_bootstrap(np.zeros((0, 10)), generator=np.random.default_rng(0))


def test_the_same_policy_on_both_sides_differs_by_nothing() -> None:
    same = (np.random.default_rng(11).random((3, 50)) < 0.5).astype(float)
    found = difference_over_runs(same, same)
    assert found.difference == 0
    assert found.p_value == 1.0
    assert found.interval.contains(0.0)


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
