"""The rank correlation is scipy's, its interval covers, and what has no correlation is refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from crossroads.errors import InputError
from crossroads.evaluate.rank import rank_correlation


@pytest.mark.parametrize("episodes", [24, 60])
@pytest.mark.parametrize("rho", [0.0, 0.9])
def test_the_interval_covers_the_rank_correlation_of_normals(rho: float, episodes: int) -> None:
    rng = np.random.default_rng(1)
    truth = 6 / np.pi * np.arcsin(rho / 2)
    x, noise = rng.normal(size=(2, 2500, episodes))
    y = rho * x + np.sqrt(1 - rho**2) * noise
    hits = [rank_correlation(a, b).interval.contains(truth) for a, b in zip(x, y, strict=True)]
    assert 0.93 <= np.mean(hits) <= 0.97


def test_success_against_an_error_is_rarely_called_related_when_it_is_not() -> None:
    rng = np.random.default_rng(2)
    found = [rank_correlation(rng.normal(size=60), rng.random(60) < 0.3) for _ in range(1000)]
    assert np.mean([x.p_value <= 0.05 for x in found]) <= 0.062
    assert 0.93 <= np.mean([x.interval.contains(0.0) for x in found]) <= 0.97


def test_the_value_keeps_to_ranks_and_perfect_agreement_stays_inside_one() -> None:
    x = np.arange(20.0)
    found = rank_correlation(x, np.exp(x))
    assert found.value == pytest.approx(1.0)
    assert 0.9 < found.interval.low <= found.interval.high <= 1.0
    y = np.random.default_rng(3).normal(size=20)
    assert rank_correlation(x, y).value == pytest.approx(stats.spearmanr(x, y)[0])


def test_a_constant_figure_or_too_few_episodes_are_refused() -> None:
    with pytest.raises(InputError, match="one constant"):
        rank_correlation(np.arange(20.0), np.ones(20))
    with pytest.raises(InputError, match="ten or more"):
        rank_correlation(np.arange(5.0), np.arange(5.0))
