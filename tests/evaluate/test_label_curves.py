"""The label multiplier is what the curves say, covers the truth, and says "at least" where the curves stop short."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import isotonic_regression

from crossroads.errors import InputError
from crossroads.evaluate.label_curves import crossing, monotone, ratio_interval
from crossroads.evaluate.simulate import experiments

LABELS = np.array([25.0, 50.0, 100.0, 200.0])
FIRST, SECOND = (0.15, 0.25, 0.4, 0.6), (0.3, 0.45, 0.6, 0.7)


def measured(rng: np.random.Generator, num: int, runs: int, scenes: int, run_std: float):
    """Arrays (num, runs, numbers, scenes) of both recipes."""
    arms = experiments(rng, num=num, runs=runs, scenes=scenes, shares=(*FIRST, *SECOND), run_std=run_std)
    return np.stack(arms[:4], axis=2), np.stack(arms[4:], axis=2)


@given(arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(2, 7)), elements=st.floats(0, 1, width=32)))
@settings(max_examples=50, deadline=None)
def test_the_rising_fit_is_that_of_isotonic_regression(curves: np.ndarray) -> None:
    expected = np.stack([isotonic_regression(row).x for row in curves])
    np.testing.assert_allclose(monotone(curves), expected, atol=1e-9)


def test_a_curve_that_is_the_other_one_at_twice_the_labels_needs_half_of_them() -> None:
    low, high = crossing(np.array([[0.1, 0.3, 0.5, 0.7], [0.3, 0.5, 0.7, 0.9]]), LABELS, 0.6)
    assert low == pytest.approx(high)
    assert low[0] / low[1] == pytest.approx(2.0)


def test_a_curve_that_never_gets_there_gives_a_bound_and_not_a_number() -> None:
    rng = np.random.default_rng(0)
    weak = (rng.random((3, 4, 300)) < 0.1).astype(float)
    strong = (rng.random((3, 4, 300)) < np.array([0.2, 0.8, 0.9, 0.9])[:, None]).astype(float)
    found = ratio_interval(weak, strong, labels=LABELS, level=0.5, generator=rng)
    assert found.bound == "at least"
    assert math.isinf(found.interval.high)
    assert 4.5 < found.ratio.low < 7
    assert str(found).startswith("at least 5")
    assert found.p_value < 0.05
    turned = ratio_interval(strong, weak, labels=LABELS, level=0.5, generator=rng)
    assert turned.bound == "at most"
    assert turned.interval.low == 0
    neither = ratio_interval(weak, weak, labels=LABELS, level=0.5, generator=rng)
    assert neither.bound == "unknown"
    assert (neither.interval.low, neither.interval.high, neither.p_value) == (0, math.inf, 1.0)


@pytest.mark.parametrize(("runs", "run_std"), [(1, 0.0), (3, 0.0), (3, 0.05)])
def test_the_interval_of_the_multiplier_covers_the_truth(runs: int, run_std: float) -> None:
    rng = np.random.default_rng(1)
    (first,), (second,) = (crossing(np.array([curve]), LABELS, 0.5)[0] for curve in (FIRST, SECOND))
    hits, closed = [], []
    for a, b in zip(*measured(rng, 300, runs, 150, run_std), strict=True):
        found = ratio_interval(a, b, labels=LABELS, level=0.5, generator=rng, num_draws=300)
        hits.append(found.interval.contains(first / second))
        closed.append(math.isfinite(found.interval.high) and found.interval.low > 0)
    assert np.mean(hits) >= 0.93
    assert np.mean(closed) > 0.5


def test_equal_recipes_are_rarely_said_to_need_different_numbers_of_labels() -> None:
    rng = np.random.default_rng(2)
    arms = experiments(rng, num=300, runs=3, scenes=100, shares=(*FIRST, *FIRST), run_std=0.05)
    pairs = zip(np.stack(arms[:4], axis=2), np.stack(arms[4:], axis=2), strict=True)
    found = [ratio_interval(a, b, labels=LABELS, level=0.4, generator=rng, num_draws=300).p_value for a, b in pairs]
    assert np.mean(np.array(found) <= 0.05) <= 0.06


def test_curves_that_cannot_be_compared_are_refused() -> None:
    good = np.zeros((2, 4, 10))
    for a, b, labels in ((good, good[:, :3], LABELS), (good, good, LABELS[::-1]), (good[0], good, LABELS)):
        with pytest.raises(InputError, match="same numbers of labels"):
            ratio_interval(a, b, labels=labels, level=0.5, generator=np.random.default_rng(0))
