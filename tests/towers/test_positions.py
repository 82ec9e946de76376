"""Rotary positions: lengths stay, only differences of positions matter, and both ways to pair channels are one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crossroads.rotary import HalfTurns, rotate_halves
from crossroads.towers.spec import axis_angles, level_sinusoid, rotate_adjacent, turns


def vectors(num: int) -> torch.Tensor:
    return torch.randn(1, num, 1, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def adjacent(x: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    return rotate_adjacent(x, turns(angle, torch.complex128))


def halves(x: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    return rotate_halves(x, HalfTurns.of(angle))


@pytest.mark.parametrize("rotate", [adjacent, halves])
@given(place=st.tuples(*[st.integers(-50, 50)] * 3), moved=st.tuples(*[st.integers(-50, 50)] * 3))
def test_scores_depend_on_differences_alone(rotate, place: tuple[int, ...], moved: tuple[int, ...]) -> None:
    q, k = vectors(2).split(1, dim=1)

    def score(at: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        angles = [axis_angles(where[None].double(), (4, 4, 4), 1e4) for where in (at, other)]
        return (rotate(q, angles[0]) * rotate(k, angles[1])).sum()

    here, there, step = torch.tensor(place), torch.tensor([3, -2, 7]), torch.tensor(moved)
    torch.testing.assert_close(score(here, there), score(here + step, there + step))
    turned = rotate(q, axis_angles(here[None].double(), (4, 4, 4), 1e4))
    torch.testing.assert_close(turned.norm(), q.norm())


def test_each_axis_turns_its_own_share_of_the_head() -> None:
    angle = axis_angles(torch.tensor([[5.0, 0.0, 2.0]]), (4, 6, 2), 1e4)
    assert angle.shape == (1, 6)
    assert bool((angle[0, :2] != 0).all())
    assert not angle[0, 2:5].any()
    assert angle[0, 5] == 2.0
    torch.testing.assert_close(angle[0, 1], torch.tensor(5.0 * 1e4**-0.5, dtype=torch.float64))


def test_adjacent_and_half_split_pairs_are_one_rotation_in_another_order() -> None:
    x = vectors(3)
    angle = axis_angles(torch.arange(3.0)[:, None], (12,), 1e4)
    order = torch.cat([torch.arange(0, 12, 2), torch.arange(1, 12, 2)])
    torch.testing.assert_close(halves(x[..., order], angle), adjacent(x, angle)[..., order])


def test_the_level_sinusoid_has_openpi_periods() -> None:
    """Periods from 4e-3 to 4: at a level of one full period of a channel its sine returns to zero."""
    told = level_sinusoid(torch.tensor([[0.0, 4.0, 4e-3]]), 8)[0]
    torch.testing.assert_close(told[0], torch.tensor([0.0] * 4 + [1.0] * 4))
    torch.testing.assert_close(told[1, [3, 7]], torch.tensor([0.0, 1.0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(told[2, [0, 4]], torch.tensor([0.0, 1.0]), atol=1e-6, rtol=0)
