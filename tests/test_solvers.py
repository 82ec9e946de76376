"""Solvers: exact where the exact answer is known, and as good as their order says where it is not."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from crossroads.noise import clean_from_velocity
from crossroads.solvers import (
    Euler,
    ExponentialMultistep,
    Skipping,
    SkippingWhileAlike,
    Solver,
    UniPC,
    Velocity,
)

SOLVERS = (Euler(steps=4, factor=5.0), UniPC(steps=6, factor=5.0), ExponentialMultistep(steps=5))
NEVER = SkippingWhileAlike(rules=((1.1, 4),))
every_solver = pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: type(solver).__name__)


class Counted:
    """A velocity and the steps at which it was asked for, by their level."""

    def __init__(self, velocity: Velocity, solver: Solver) -> None:
        self.velocity, self.levels, self.asked = velocity, solver.levels().tolist(), list[int]()

    def __call__(self, x: Tensor, level: float) -> Tensor:
        self.asked.append(min(range(len(self.levels)), key=lambda step: abs(self.levels[step] - level)))
        return self.velocity(x, level)


@every_solver
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


@every_solver
def test_skipping_nothing_changes_nothing(solver: Solver) -> None:
    x = torch.randn(3, 5, dtype=torch.float64)
    whole = solver.solve(x, gaussian)
    for skipping in (Skipping(evaluated=tuple(range(solver.steps))), NEVER):
        found = Counted(gaussian, solver)
        assert torch.equal(solver.solve(x, skipping.over(found)), whole)
        assert found.asked == list(range(solver.steps))


@every_solver
def test_where_the_velocity_never_turns_skipping_costs_no_accuracy(solver: Solver) -> None:
    noise, clean = torch.randn(2, 5), torch.randn(2, 5)

    def straight(x: Tensor, level: float) -> Tensor:
        return noise - clean

    whole = solver.solve(noise, straight)
    for skipping in (Skipping(evaluated=(0,)), Skipping(evaluated=(0, 2)), SkippingWhileAlike()):
        found = Counted(straight, solver)
        torch.testing.assert_close(solver.solve(noise, skipping.over(found)), whole, rtol=0, atol=0)
        assert len(found.asked) < solver.steps


def test_a_skipped_step_goes_on_by_the_velocity_before_it() -> None:
    """Four steps of a quarter without the third; the network sees every state it is asked about as it is there."""
    solver, skipping = Euler(steps=4), Skipping(evaluated=(0, 1, 3))

    def velocity(x: Tensor, level: float) -> Tensor:
        return x * level

    x = torch.randn(2, 3)
    found = Counted(velocity, solver)
    second = x - velocity(x, 1.0) / 4
    fourth = second - 2 * velocity(second, 0.75) / 4
    torch.testing.assert_close(
        solver.solve(x, skipping.over(found)), fourth - velocity(fourth, 0.25) / 4, rtol=1e-6, atol=1e-6
    )
    assert found.asked == [0, 1, 3]


def turning(*degrees: float) -> Velocity:
    """Velocities in a plane that turn by so many degrees from answer to answer, one for each sample."""
    angles = torch.tensor(degrees).deg2rad()
    answers = iter(range(100))

    def velocity(x: Tensor, level: float) -> Tensor:
        at = next(answers) * angles
        return torch.stack([at.cos(), at.sin()], dim=1)

    return velocity


@pytest.mark.parametrize(
    ("degrees", "asked"),
    [
        (10.0, [0, 1, 6, 11]),  # cosine 0.985: four steps without
        (20.0, [0, 1, 4, 7, 10, 13]),  # cosine 0.940: two
        (25.0, list(range(16))),  # cosine 0.906: none
    ],
)
def test_the_more_alike_two_velocities_are_the_longer_nothing_is_asked(degrees: float, asked: list[int]) -> None:
    solver = UniPC(steps=16, factor=5.0)
    found = Counted(turning(degrees), solver)
    solver.solve(torch.zeros(1, 2), SkippingWhileAlike().over(found))
    assert found.asked == asked


def test_a_sample_skips_the_same_steps_alone_and_in_company() -> None:
    """One field bends, one hardly does; together they are asked wherever one of them would be alone."""
    solver = Euler(steps=16)
    bends = torch.tensor([0.5, 6.0])

    def field(rows: slice) -> Velocity:
        def velocity(x: Tensor, level: float) -> Tensor:
            angle = bends[rows] * (1 - level) + 0.1 * x[:, 0]
            return torch.stack([angle.cos(), angle.sin()], dim=1)

        return velocity

    x = torch.randn(2, 2, generator=torch.Generator().manual_seed(0))
    asked, found = [], []
    for rows in (slice(0, 1), slice(1, 2), slice(0, 2)):
        counted = Counted(field(rows), solver)
        found.append(solver.solve(x[rows], SkippingWhileAlike().over(counted)))
        asked.append(set(counted.asked))
    torch.testing.assert_close(found[2], torch.cat(found[:2]), rtol=0, atol=1e-6)
    assert asked[0] != asked[1]
    assert asked[2] == asked[0] | asked[1]
