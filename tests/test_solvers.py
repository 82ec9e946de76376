"""Solvers: exact where the exact answer is known, and as good as their order says where it is not."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from crossroads.noise import clean_from_velocity
from crossroads.solvers import Euler, ExponentialMultistep, Solver, UniPC

SOLVERS = (Euler(steps=4, factor=5.0), UniPC(steps=6, factor=5.0), ExponentialMultistep(steps=5))


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: type(solver).__name__)
def test_a_straight_path_is_followed_to_its_end(solver: Solver) -> None:
    """Where every velocity points at one clean value, every solver ends there, after visiting its levels."""
    noise, clean = torch.randn(2, 5), torch.randn(2, 5)
    seen: list[float] = []

    def velocity(x: Tensor, level: float) -> Tensor:
        seen.append(level)
        return (x - clean) / level

    torch.testing.assert_close(solver.solve(noise, velocity), clean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.tensor(seen).double(), solver.levels()[:-1].double(), rtol=0, atol=1e-6)
    assert solver.levels()[-1] == 0
    assert len(seen) == solver.steps


def test_two_half_ways_of_euler_are_one() -> None:
    def velocity(x: Tensor, level: float) -> Tensor:
        return x * level

    x = torch.randn(2, 3)
    half = Euler(steps=2, start=0.5).solve(Euler(steps=2, stop=0.5).solve(x, velocity), velocity)
    torch.testing.assert_close(half, Euler(steps=4).solve(x, velocity))


def gaussian(x: Tensor, level: float) -> Tensor:
    """The exact velocity where clean values are normal with a deviation of 1/2: a linear function of the state."""
    spread = 0.25
    variance = (1 - level) ** 2 * spread + level**2
    clean = (1 - level) * spread / variance * x
    return (x - clean) / level


def test_the_multistep_solver_is_of_second_order() -> None:
    """Half as long steps in the logarithm of the scale, about a quarter of the error; its first order has a half."""
    x = torch.ones(1, 1, dtype=torch.float64)
    exact = math.sqrt(0.25 + 80.0**2)

    def error(steps: int) -> float:
        solver = ExponentialMultistep(steps=steps)
        # The state at the last scale, from the prediction there, against the closed form sigma-dependent deviation.
        found = solver.solve(x, gaussian).item()
        end = 80.0 / exact * math.sqrt(0.25 + 4.0**2)
        level = 4.0 / 5.0
        wanted = clean_from_velocity(
            torch.tensor((1 - level) * end), gaussian(torch.tensor((1 - level) * end), level), level
        )
        return abs(found - wanted.item())

    errors = [error(steps) for steps in (11, 21, 41)]
    assert 3.0 < errors[0] / errors[1] < 6.0
    assert 3.0 < errors[1] / errors[2] < 6.0


def test_one_step_of_the_multistep_solver_is_the_prediction_at_its_highest_scale() -> None:
    x = torch.randn(2, 3)
    level = 80.0 / 81.0
    seen = level * x
    wanted = clean_from_velocity(seen, gaussian(seen, level), level)
    torch.testing.assert_close(ExponentialMultistep(steps=1).solve(x, gaussian), wanted)
