"""The difference of differences covers the truth and finds nothing where two changes just add up."""

from __future__ import annotations

import numpy as np
import pytest

from crossroads.errors import InputError
from crossroads.evaluate.interaction import interaction
from crossroads.evaluate.simulate import experiments


@pytest.mark.parametrize(("runs", "run_std"), [(3, 0.0), (3, 0.1)])
@pytest.mark.parametrize("shared", ["none", "second factor"])
def test_the_interaction_covers_the_truth_and_changes_that_add_up_are_left_alone(
    runs: int, run_std: float, shared: str
) -> None:
    rng = np.random.default_rng(1)
    arms = experiments(rng, num=1000, runs=runs, scenes=60, shares=(0.7, 0.5, 0.5, 0.4), run_std=run_std)
    found = [interaction(*cells, shared_runs=shared) for cells in zip(*arms, strict=True)]  # pyright: ignore[reportArgumentType]
    assert 0.93 <= np.mean([x.interval.contains(0.1) for x in found]) <= 0.985
    added = experiments(rng, num=1000, runs=runs, scenes=60, shares=(0.7, 0.5, 0.6, 0.4), run_std=run_std)
    found = [interaction(*cells, shared_runs=shared) for cells in zip(*added, strict=True)]  # pyright: ignore[reportArgumentType]
    assert np.mean([x.p_value <= 0.05 for x in found]) <= 0.065


def test_one_policy_tested_in_four_ways_is_not_blamed_for_its_training() -> None:
    rng = np.random.default_rng(2)
    run = np.clip(0.4 + 0.2 * rng.normal(size=(3, 1)), 0.1, 0.7)
    cells = [(rng.random((3, 300)) < run + add).astype(float) for add in (0.3, 0.1, 0.1, 0.0)]
    together = interaction(*cells, shared_runs="both factors")
    apart = interaction(*cells, shared_runs="none")
    assert together.difference == pytest.approx(apart.difference)
    assert together.interval.width < apart.interval.width


def test_arms_of_other_shape_are_refused() -> None:
    same = np.zeros((2, 9))
    with pytest.raises(InputError, match="same scenes"):
        interaction(same, same, same, np.zeros((2, 8)), shared_runs="none")
