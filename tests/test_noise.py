"""Noise levels: inverses, composition of shifts, grids, samplers, the bell weight, and foreign time directions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crossroads.noise import (
    BellWeight,
    BetaLevels,
    EvenWeight,
    LevelSampler,
    UniformLevels,
    clean_from_velocity,
    corrupt,
    grid,
    level_from_data_forward,
    level_from_edm,
    noise_from_velocity,
    shift,
    velocity,
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
