"""Noise levels: inverses, composition of shifts, grids, samplers, the bell weight, and foreign time directions."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crossroads.noise import (
    BellWeight,
    BetaLevels,
    EvenWeight,
    FixedLevel,
    LevelSampler,
    LogitNormalLevels,
    UniformLevels,
    clean_from_velocity,
    corrupt,
    diffusers_grid,
    grid,
    level_from_data_forward,
    level_from_edm,
    level_from_timestep,
    noise_from_velocity,
    shift,
    training_levels,
    unipc,
    velocity,
    wan_grid,
)

unit = st.floats(0.0, 1.0)
factors = st.floats(0.05, 20.0)
finite = st.floats(-100, 100)


def number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


@given(clean=finite, noise=finite, level=unit)
def test_clean_and_noise_come_back_from_the_velocity(clean: float, noise: float, level: float) -> None:
    x, v = corrupt(number(clean), number(noise), number(level)), velocity(number(clean), number(noise))
    torch.testing.assert_close(clean_from_velocity(x, v, number(level)), number(clean), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(noise_from_velocity(x, v, number(level)), number(noise), rtol=1e-9, atol=1e-9)


def test_level_zero_is_clean_and_level_one_is_noise() -> None:
    clean, noise = torch.randn(3, generator=torch.Generator().manual_seed(0)), torch.ones(3)
    assert torch.equal(corrupt(clean, noise, torch.tensor(0.0)), clean)
    assert torch.equal(corrupt(clean, noise, torch.tensor(1.0)), noise)


@given(level=unit, first=factors, second=factors)
def test_shifts_compose_by_multiplying_and_undo_by_the_inverse(level: float, first: float, second: float) -> None:
    once = shift(shift(number(level), first), second)
    torch.testing.assert_close(once, shift(number(level), first * second), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(shift(shift(number(level), first), 1 / first), number(level), rtol=1e-9, atol=1e-12)
    assert 0 <= shift(number(level), first) <= 1


@given(steps=st.integers(1, 60), factor=factors, start=st.floats(0.5, 1.0), stop=st.floats(0.0, 0.4))
def test_a_grid_falls_from_start_to_stop(steps: int, factor: float, start: float, stop: float) -> None:
    levels = grid(steps, factor=factor, start=start, stop=stop)
    assert levels.shape == (steps + 1,)
    torch.testing.assert_close(levels[[0, -1]], torch.tensor([start, stop]))
    assert bool((levels.diff() < 0).all())


def test_the_grid_of_wan_is_the_shifted_line() -> None:
    """Fast-WAM's inference grid (arXiv 2603.16666): s u / (1 + (s - 1) u) over linspace(1, 0, n + 1)."""
    torch.testing.assert_close(grid(4, factor=5.0), torch.tensor([1.0, 15 / 16, 5 / 6, 5 / 8, 0.0]))


@pytest.mark.parametrize(
    ("sampler", "mean"),
    [
        (UniformLevels(), 0.5),
        (UniformLevels(factor=5.0), 1.25 - 5 / 16 * math.log(5)),  # integral of 5u / (1 + 4u) over 0..1
        (BetaLevels(), 0.6 * 0.999 + 0.001),
        (BetaLevels(alpha=2.0, beta=3.0, scale=1.0, offset=0.0), 0.4),
        (LogitNormalLevels(), 0.5),
        (LogitNormalLevels(high_share=0.5, high_from=0.9), 0.25 + 0.475),
        (FixedLevel(level=0.7), 0.7),
    ],
)
def test_samplers_stay_between_zero_and_one_with_the_stated_mean_and_follow_their_generator(
    sampler: LevelSampler, mean: float
) -> None:
    levels = sampler.draw(20_000, torch.Generator().manual_seed(0))
    assert 0 <= levels.min() <= levels.max() <= 1
    assert levels.mean().item() == pytest.approx(mean, abs=0.01)
    assert torch.equal(levels, sampler.draw(20_000, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("factor", [1.0, 3.0, 5.0])
def test_the_bell_weight_averages_to_one_over_its_grid_and_vanishes_at_noise(factor: float) -> None:
    weight = BellWeight(factor=factor)
    levels = shift(torch.linspace(1, 0, 1001, dtype=torch.float64)[:-1], factor)
    assert weight.at(levels).mean().item() == pytest.approx(1.0, abs=1e-9)
    assert weight.at(torch.ones(1, dtype=torch.float64)).item() == pytest.approx(0.0, abs=1e-9)
    assert weight.at(levels).max() == weight.at(levels[(levels - 0.5).abs().argmin()])
    assert torch.equal(EvenWeight().at(levels), torch.ones_like(levels))


@given(tau=unit, clean=finite, noise=finite)
def test_data_forward_time_is_ours_read_backwards(tau: float, clean: float, noise: float) -> None:
    """GR00T and the pi papers: x = tau * data + (1 - tau) * noise, v = data - noise."""
    theirs = tau * number(clean) + (1 - tau) * number(noise)
    ours = corrupt(number(clean), number(noise), level_from_data_forward(number(tau)))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    assert -velocity(number(clean), number(noise)) == number(clean) - number(noise)


@given(sigma=st.floats(0.0, 1e4), clean=finite, noise=finite)
def test_edm_noise_is_our_path_rescaled(sigma: float, clean: float, noise: float) -> None:
    """Cosmos: x = x_0 + sigma e; divided by 1 + sigma it lies on our path."""
    theirs = (number(clean) + sigma * number(noise)) / (1 + sigma)
    ours = corrupt(number(clean), number(noise), level_from_edm(number(sigma)))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_a_timestep_of_a_thousand_is_noise() -> None:
    levels = level_from_timestep(torch.tensor([0, 625, 1000]))
    assert levels.dtype == torch.float64
    assert levels.tolist() == [0.0, 0.625, 1.0]


@given(steps=st.integers(1, 40), factor=factors)
def test_the_grids_of_published_solvers_fall_from_just_short_of_noise_to_clean(steps: int, factor: float) -> None:
    for levels in (wan_grid(steps, factor), diffusers_grid(steps, factor)):
        assert levels.shape == (steps + 1,)
        assert 0.9 < levels[0] < 1
        assert levels[-1] == 0
        assert bool((levels.diff() < 0).all())
    assert wan_grid(steps, 1.0)[0] == pytest.approx(0.999, abs=1e-7)


@given(steps=st.integers(1, 20), factor=factors)
def test_unipc_ends_on_an_estimate_that_never_changes(steps: int, factor: float) -> None:
    """With one answer for x_0, every state lies on the straight path from the first to it."""
    noise, answer = torch.tensor([1.5, -2.0], dtype=torch.float64), torch.tensor([0.3, 0.7], dtype=torch.float64)
    levels = diffusers_grid(steps, factor)
    start = corrupt(answer, noise, levels[0])
    for level, state in zip(levels, unipc(start, levels, lambda _, __: answer), strict=True):
        torch.testing.assert_close(state, corrupt(answer, noise, level), rtol=1e-6, atol=1e-6)


def test_unipc_is_of_a_higher_order_than_euler() -> None:
    """Twice the steps leave less than a third of its error, and half of Euler's; the field is that of Gaussian data."""

    def clean(x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """E[x_0 | x_t] where x_0 is normal with standard deviation 1/2."""
        return x * (1 - level) / 4 / ((1 - level) ** 2 / 4 + level**2)

    def exact(x: torch.Tensor, start: torch.Tensor, stop: torch.Tensor) -> torch.Tensor:
        return x * (((1 - stop) ** 2 / 4 + stop**2) / ((1 - start) ** 2 / 4 + start**2)).sqrt()

    errors: dict[str, list[float]] = {"unipc": [], "euler": []}
    for steps in (20, 40):
        levels = torch.linspace(0.9, 0.1, steps + 1, dtype=torch.float64)
        start = number(1.0)
        states = unipc(start, levels, lambda x, step, levels=levels: clean(x, levels[step]))
        errors["unipc"].append(abs(states[-1] - exact(start, levels[0], levels[-1])).item())
        x = start
        for now, after in pairwise(levels):
            x = x + (after - now) * (x - clean(x, now)) / now
        errors["euler"].append(abs(x - exact(start, levels[0], levels[-1])).item())
    assert errors["unipc"][0] / errors["unipc"][1] > 3
    assert 1.8 < errors["euler"][0] / errors["euler"][1] < 2.2


def test_training_levels_fall_from_noise_in_a_thousand_steps() -> None:
    assert training_levels(5.0)[0] == 1
    torch.testing.assert_close(training_levels(1.0).diff(), torch.full((999,), -0.001, dtype=torch.float64))
