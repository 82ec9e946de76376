"""Mixtures of logistic distributions: bins that share all mass, draws that follow it."""

from __future__ import annotations

import pytest
import torch

from crossroads.mixtures import Logistics

SIZE = 3


def told(law: Logistics, *, seed: int = 0, sharp: float = 0.0, num: int = 1) -> torch.Tensor:
    """Random numbers that tell of as many rows; ``sharp`` moves every log scale."""
    found = torch.randn(num, 1, law.num_told(SIZE), generator=torch.Generator().manual_seed(seed))
    parts = found[..., : law.num_told(SIZE) - law.num_sides].unflatten(-1, (3, -1))
    parts[..., 1, :] += sharp
    return found


@pytest.mark.parametrize("bounds", [((), ()), ((-2.0, 0.0, 1.0), (2.0, 0.5, 4.0))])
def test_the_mass_of_all_bins_is_one(bounds: tuple[tuple[float, ...], tuple[float, ...]]) -> None:
    """Wide enough that no bin is so thin that its density stands for it; the ends take the open tails."""
    law = Logistics(num=4, bins=16, low=bounds[0], high=bounds[1])
    low, high = (torch.tensor(side or (default,) * SIZE) for side, default in zip(bounds, (-1.0, 1.0), strict=True))
    centres = low + (high - low) * torch.linspace(0, 1, law.bins)[:, None]
    numbers = told(law, sharp=0.5).expand(law.bins, -1, -1)
    mass = law.log_mass(law.parts(numbers), centres[:, None]).exp().sum(dim=0)
    torch.testing.assert_close(mass, torch.ones(1, SIZE), rtol=0, atol=2e-5)


def test_a_likelier_number_costs_less_and_thin_bins_keep_a_slope() -> None:
    """Far from a sharp part the mass of a bin is nothing in float32; its density still says which way to go."""
    law = Logistics(num=1, bins=256)
    numbers = torch.tensor([[[0.0, -6.0, 0.0]]]).requires_grad_()
    near, far = (law.loss(numbers, torch.full((1, 1, 1), value)) for value in (0.0, 0.5))
    assert near.item() < 5 < far.item()
    (slope,) = torch.autograd.grad(far.sum(), numbers)
    assert slope[0, 0, 2] < 0, "the mean should move up, towards the number"


def test_draws_follow_the_mixture() -> None:
    """Shares of 20,000 draws in each bin, against the mass of the bin."""
    law = Logistics(num=3, bins=6)
    numbers = told(law, seed=4, sharp=-1.0).expand(20_000, -1, -1)
    drawn = law.drawn(numbers, torch.Generator().manual_seed(1))
    centres = torch.linspace(-1, 1, law.bins)
    nearest = (drawn[..., None] - centres).abs().argmin(dim=-1)
    shares = torch.nn.functional.one_hot(nearest, law.bins).float().mean(dim=0)
    mass = law.log_mass(law.parts(told(law, seed=4, sharp=-1.0)), centres[:, None, None].expand(-1, 1, SIZE)).exp()
    torch.testing.assert_close(shares[0].T, mass[:, 0], rtol=0, atol=0.015)


def test_a_binary_number_costs_the_entropy_of_its_side_and_takes_the_likelier() -> None:
    law = Logistics(num=2, binary=1, binary_weight=3.0)
    numbers = told(law)
    values = torch.tensor([[[0.2, -0.3, 1.0]]])
    free = Logistics(num=2).loss(numbers[..., :-2], values[..., :2])
    side = numbers[..., -2:].log_softmax(dim=-1)[..., 1]
    torch.testing.assert_close(law.loss(numbers, values), free - 3.0 * side)
    drawn = law.drawn(numbers, torch.Generator().manual_seed(0))
    assert drawn[0, 0, 2].item() == (1.0 if numbers[0, 0, -1] > numbers[0, 0, -2] else -1.0)


def test_no_scale_is_below_the_least() -> None:
    law = Logistics(num=1, least=-2.0)
    assert law.parts(torch.full((1, 1, 3), -9.0)).log_scales.min().item() == -2.0
