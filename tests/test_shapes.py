"""What the run-time check of hints refuses: in functions of this file, and in the library's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import torch
from jaxtyping import Float, TypeCheckError
from torch import Tensor

from crossroads.geometry import CameraPose
from shapes import once

if TYPE_CHECKING:
    from collections.abc import Hashable as Absent


@once
def product(pair: tuple[Float[Tensor, "rows inner"], Float[Tensor, "inner columns"]]) -> Float[Tensor, "rows columns"]:
    left, right = pair
    return left @ right if left.shape[1] > 1 else right.T


@once
def power(base: Absent, exponent: float) -> float:
    return base**exponent  # pyright: ignore[reportOperatorIssue]


@once
@dataclass(frozen=True)
class Pose:
    height: float
    names: tuple[str, ...] = ()


def test_an_axis_has_one_size_within_a_call_and_another_in_the_next() -> None:
    assert product((torch.ones(2, 3), torch.ones(3, 4))).shape == (2, 4)
    assert product((torch.ones(5, 2), torch.ones(2, 1))).shape == (5, 1)
    with pytest.raises(TypeCheckError, match="inner columns"):
        product((torch.ones(2, 3), torch.ones(2, 4)))
    with pytest.raises(TypeCheckError, match="return"):
        product((torch.ones(2, 1), torch.ones(1, 4)))


def test_types_are_checked_where_they_are_there() -> None:
    assert power(2, 3) == 8, "a whole number is a number, and a name that is not there at run time refuses nothing"
    with pytest.raises(TypeCheckError, match="exponent"):
        power(2, "3")  # pyright: ignore[reportArgumentType]
    assert Pose(1, ("left",)) == Pose(1.0, ("left",))
    with pytest.raises(TypeCheckError, match="names"):
        Pose(1.0, ["left"])  # pyright: ignore[reportArgumentType]


def test_the_library_is_checked() -> None:
    camera = CameraPose(camera="top", position_m=(0.0, 0.0, 1.0), right=(1, 0, 0), up=(0, 1, 0), fovy_deg=45)
    points, states = torch.zeros(2, 1, 3), torch.zeros(2, 4)
    assert camera.seen(points, states, ("x",) * 4, (8, 8)).shape == (2, 1, 3)
    with pytest.raises(TypeCheckError, match="state"):
        camera.seen(points, torch.zeros(3, 4), ("x",) * 4, (8, 8))
    with pytest.raises(TypeCheckError, match="camera"):
        CameraPose(camera=3, position_m=(0.0, 0.0, 1.0), right=(1, 0, 0), up=(0, 1, 0), fovy_deg=45)  # pyright: ignore[reportArgumentType]
