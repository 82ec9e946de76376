"""Draws over runs and scenes have the spread that training again on other scenes would have."""

from __future__ import annotations

import numpy as np
import pytest

from crossroads.errors import InputError
from crossroads.evaluate.bootstrap import hierarchical_bootstrap, mean_draws
from crossroads.evaluate.simulate import experiments


@pytest.mark.parametrize(("runs", "run_std"), [(1, 0.0), (3, 0.0), (3, 0.1)])
def test_the_interval_of_a_difference_covers_with_few_runs(runs: int, run_std: float) -> None:
    rng = np.random.default_rng(1)
    arms = experiments(rng, num=1000, runs=runs, scenes=100, shares=(0.5, 0.4), run_std=run_std)
    hits = [
        hierarchical_bootstrap(
            [a[:, None], b[:, None]], lambda x, y: (x - y)[:, 0], generator=rng, num_draws=300
        ).contains(0.1)
        for a, b in zip(*arms, strict=True)
    ]
    assert 0.93 <= np.mean(hits) <= (0.97 if runs == 1 else 1.0)


def test_conditions_that_share_scenes_move_together() -> None:
    rng = np.random.default_rng(2)
    scenes = (rng.random(200) < 0.5).astype(float)
    same = np.stack([scenes, scenes])[None]
    (draws,) = mean_draws([same], generator=rng, num_draws=500)
    np.testing.assert_allclose(draws[:, 0], draws[:, 1], atol=1e-12)
    first, second = mean_draws([same, 1 - same], generator=rng, num_draws=500)
    np.testing.assert_allclose(first + second, 1.0, atol=1e-12)


def test_the_spread_of_many_runs_is_that_of_the_formula() -> None:
    rng = np.random.default_rng(3)
    x = (rng.random((60, 1, 50)) < np.clip(0.5 + 0.2 * rng.normal(size=(60, 1, 1)), 0, 1)).astype(float)
    (draws,) = mean_draws([x], generator=rng, num_draws=20_000)
    assert draws.std() == pytest.approx(x.mean(axis=(1, 2)).std(ddof=1) / np.sqrt(60), rel=0.1)
    assert draws.mean() == pytest.approx(x.mean(), abs=2e-3)


def test_groups_on_other_scenes_are_refused() -> None:
    with pytest.raises(InputError, match="same scenes"):
        mean_draws([np.zeros((2, 1, 9)), np.zeros((2, 1, 10))], generator=np.random.default_rng(0))
