"""EDM's process: what is shown and owed, both ways, and a walk that ends where the network points."""

from __future__ import annotations

import math

import pytest
import torch

from crossroads.edm import Edm, EdmEuler
from crossroads.noise import LogLogisticLevels, sigma_from_level

LEVELS = torch.tensor([0.0, 0.001, 0.3, 0.9, 80 / 81, 1.0], dtype=torch.float64)[:, None]
KINDS = [Edm(sigma_data=0.5), Edm(sigma_data=1.0)]


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("process", KINDS)
def test_what_is_owed_says_the_clean_value_at_every_level(process: Edm) -> None:
    clean, noise = drawn(2, 6, 5)
    shown, owed = process.noised(clean, noise, LEVELS), process.owed(clean, noise, LEVELS)
    torch.testing.assert_close(process.clean(shown, owed, LEVELS), clean)
    torch.testing.assert_close(process.towards(shown[1:], clean[1:], LEVELS[1:]), owed[1:])


@pytest.mark.parametrize("process", KINDS)
def test_shown_and_owed_are_those_of_the_paper_in_its_own_variables(process: Edm) -> None:
    """Karras et al. 2022, table 1: ``c_in``, ``c_skip``, ``c_out``."""
    clean, noise = drawn(2, 4, 5)
    level, kept = LEVELS[1:-1], process.sigma_data
    sigma = level / (1 - level)
    x, spread = clean + sigma * noise, torch.sqrt(sigma**2 + kept**2)
    torch.testing.assert_close(process.noised(clean, noise, level), x / spread)
    wanted = (clean - kept**2 / spread**2 * x) / (sigma * kept / spread)
    torch.testing.assert_close(process.owed(clean, noise, level), wanted)


def test_a_walk_ends_exactly_at_the_value_to_which_every_answer_points() -> None:
    process = KINDS[0]
    clean, start = drawn(2, 3, 4)
    solver = EdmEuler(process=process, steps=5)

    def answer(shown: torch.Tensor, level: float) -> torch.Tensor:
        return process.towards(shown, clean, torch.tensor(level, dtype=torch.float64))

    torch.testing.assert_close(solver.solve(start, answer), clean)


def test_noise_scales_fall_by_one_factor_and_then_to_nothing() -> None:
    sigmas = EdmEuler(process=KINDS[0], steps=10).sigmas()
    assert (sigmas[0].item(), sigmas[-1].item()) == (pytest.approx(80.0), 0.0)
    ratios = sigmas[1:-1] / sigmas[:-2]
    torch.testing.assert_close(ratios, ratios[:1].expand_as(ratios))


def test_log_logistic_levels_keep_their_limits_and_their_median() -> None:
    levels = LogLogisticLevels(limits=(0.01, 10.0))
    ends = levels.sigma(torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(ends, torch.tensor([0.01, 10.0], dtype=torch.float64))
    wide = LogLogisticLevels(limits=(1e-9, 1e9)).sigma(torch.tensor([0.5]))
    assert wide.item() == pytest.approx(0.5, rel=1e-4)
    drawn_levels = levels.draw(100, torch.Generator().manual_seed(0))
    assert bool(((drawn_levels > 0.009) & (drawn_levels < 10 / 11 + 1e-6)).all())


def test_pure_noise_counts_as_the_largest_scale() -> None:
    assert sigma_from_level(torch.tensor([0.5, 1.0]), 700.0).tolist() == pytest.approx([1.0, 700.0])
    assert math.isfinite(sigma_from_level(torch.ones(1), 80.0).item())
