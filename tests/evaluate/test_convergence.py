"""Steps to the plateau are those of the curve behind the noise, and their ratio covers the truth over runs."""

from __future__ import annotations

import numpy as np
import pytest

from crossroads.errors import InputError
from crossroads.evaluate.convergence import Plateau, steps_over_runs, steps_ratio, steps_to_plateau

STEPS = np.arange(0.0, 5001.0, 50.0)


def loss(time_constant: float) -> np.ndarray:
    return 0.2 + np.exp(-STEPS / time_constant)


def runs(rng: np.random.Generator, num: int, steps: float, own: np.ndarray | float = 0.0) -> list[Plateau]:
    found = steps * np.exp(own + 0.2 * rng.normal(size=num))
    return [Plateau(steps=float(x), value=0.2, share=0.9, of_steps=5000, still_moving=False) for x in found]


@pytest.mark.parametrize("noise", [0.0, 0.03])
@pytest.mark.parametrize("time_constant", [200.0, 600.0])
def test_ninety_percent_of_an_exponential_takes_2_3_time_constants(time_constant: float, noise: float) -> None:
    values = loss(time_constant) + noise * np.random.default_rng(0).normal(size=len(STEPS))
    found = steps_to_plateau(STEPS, values, better="lower")
    assert found.steps == pytest.approx(np.log(10) * time_constant, rel=0.02 if noise == 0 else 0.25)
    assert found.value == pytest.approx(0.2, abs=0.03)
    assert not found.still_moving


def test_a_rising_success_is_read_as_its_falling_failure() -> None:
    falling = steps_to_plateau(STEPS, loss(400.0), better="lower")
    rising = steps_to_plateau(STEPS, 1 - loss(400.0), better="higher")
    assert rising.steps == pytest.approx(falling.steps)
    assert rising.value == pytest.approx(1 - falling.value)


def test_a_curve_cut_off_before_its_plateau_is_said_to_be_still_moving() -> None:
    assert steps_to_plateau(STEPS, loss(5000.0), better="lower").still_moving


def test_a_run_that_did_not_learn_has_no_plateau() -> None:
    with pytest.raises(InputError, match="learned at all"):
        steps_to_plateau(STEPS, -loss(400.0), better="lower")
    with pytest.raises(InputError, match="rising steps"):
        steps_to_plateau(STEPS[::-1], loss(400.0), better="lower")


@pytest.mark.parametrize(("num", "same_seeds"), [(3, True), (5, False)])
def test_the_ratio_of_steps_covers_the_truth(num: int, same_seeds: bool) -> None:
    rng = np.random.default_rng(1)
    found = []
    for _ in range(1000):
        shared = 0.3 * rng.normal(size=num) if same_seeds else 0.0
        found.append(steps_ratio(runs(rng, num, 900, shared), runs(rng, num, 600, shared), same_seeds=same_seeds))
    assert 0.93 <= np.mean([x.interval.contains(1.5) for x in found]) <= 0.97
    assert np.mean([(x.p_value <= 0.05) == (not x.interval.contains(1.0)) for x in found]) == 1.0


def test_the_steps_of_one_arm_cover_their_geometric_mean() -> None:
    rng = np.random.default_rng(2)
    hits = [steps_over_runs(runs(rng, 3, 700)).interval.contains(700) for _ in range(1000)]
    assert 0.93 <= np.mean(hits) <= 0.97


def test_one_run_or_unequal_seeds_are_refused() -> None:
    rng = np.random.default_rng(3)
    with pytest.raises(InputError, match="Train more seeds"):
        steps_over_runs(runs(rng, 1, 700))
    with pytest.raises(InputError, match="same_seeds=False"):
        steps_ratio(runs(rng, 2, 700), runs(rng, 3, 700), same_seeds=True)
