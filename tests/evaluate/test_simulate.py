"""Synthetic experiments have the truth that they claim."""

from __future__ import annotations

import numpy as np
import pytest

from crossroads.errors import InputError
from crossroads.evaluate.simulate import experiments


def test_shares_run_noise_and_shared_difficulty_are_as_asked() -> None:
    rng = np.random.default_rng(0)
    a, b = experiments(rng, num=2000, runs=3, scenes=100, shares=(0.3, 0.8), run_std=0.1)
    assert (a.mean(), b.mean()) == pytest.approx((0.3, 0.8), abs=0.01)
    of_runs = a.mean(axis=2)
    assert np.cov(of_runs.T)[0, 1] < 0.002  # only scenes are shared
    assert of_runs.var() == pytest.approx(0.1**2 + 0.3 * 0.7 / 100, rel=0.15)
    alike = experiments(rng, num=200, runs=1, scenes=100, shares=(0.5, 0.5), difficulty=0.9, taste=0.05)
    apart = experiments(rng, num=200, runs=1, scenes=100, shares=(0.5, 0.5), difficulty=0.0, taste=0.5)
    assert (alike[0] != alike[1]).mean() < 0.2 < 0.45 < (apart[0] != apart[1]).mean()
    with pytest.raises(InputError, match="leaves no room"):
        experiments(rng, num=1, runs=1, scenes=2, shares=(0.01,), run_std=0.2)
