"""BEAST: a chunk of actions as the control points of a clamped B-spline, each in 256 steps.

Zhou et al. 2025, arXiv 2506.06072; ``bspline_tokenizer.py`` of intuitive-robots/beast_calvin (MIT). Control points come
from a least-squares fit, are cut off at the bounds met in fitting and written point by point, all dimensions of one
together. The number of tokens does not depend on the length of the chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from crossroads.errors import InputError
from crossroads.space import Fitted
from crossroads.streams import linear_flops

BOUND, MARGIN = 0.02, 1e-4
"""Bounds before any data, and by how much a control point must pass its bound to move it (as published)."""


@dataclass(frozen=True, kw_only=True)
class Beast:
    """``num_points`` control points a dimension; the last ``num_steplike`` dimensions (a gripper) are piecewise
    constant, the others of ``degree``. ``size``: steps between the bounds."""

    num_points: int = 10
    degree: int = 4
    num_steplike: int = 1
    size: int = 256
    ridge: float = 1e-9

    def __post_init__(self) -> None:
        if not 0 <= self.degree < self.num_points:
            raise InputError(
                where="Beast.degree",
                expected=f"0 to {self.num_points - 1}, less than the number of control points",
                got=str(self.degree),
                do="Give more control points, or a lower degree.",
            )

    def longest(self, num_actions: int, action_size: int) -> int:
        return self.num_points * action_size

    def encode_flops(self, num_actions: int, action_size: int) -> int:
        """The two normal matrices and what they are solved for; solving is a few hundred operations."""
        return linear_flops(2 * self.num_points + action_size, num_actions, self.num_points)

    def decode_flops(self, num_actions: int, action_size: int) -> int:
        return linear_flops(action_size, self.num_points, num_actions)


class BeastTokeniser(Fitted):
    """The module of :class:`Beast`; the bounds of each control point are saved with the policy's weights."""

    low: Tensor
    high: Tensor

    def __init__(self, spec: Beast, num_actions: int, action_size: int) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("low", torch.zeros(action_size, spec.num_points))
        self.register_buffer("high", torch.zeros(action_size, spec.num_points))
        self.reset()

    def reset(self) -> None:
        self.low.fill_(-BOUND)
        self.high.fill_(BOUND)

    def points(self, chunk: Float[Tensor, "b n a"]) -> Float[Tensor, "b a p"]:
        """Control points by least squares: ``(B'B + ridge) w = B'x`` for each dimension, in double precision."""
        parts = []
        for degree, part in self._by_degree(chunk.double()):
            basis = self._basis(part.shape[1], degree).to(part)
            normal = basis.T @ basis + self.spec.ridge * torch.eye(self.spec.num_points).to(part)
            parts.append(rearrange(torch.linalg.solve(normal, basis.T @ part), "b p a -> b a p"))
        return torch.cat(parts, dim=1)

    def curve(
        self, points: Float[Tensor, "b a p"], num_actions: int, start: Float[Tensor, "b a"] | None = None
    ) -> Float[Tensor, "b n a"]:
        """The splines of some control points. ``start``: where the robot is; a clamped spline begins at its first
        control point, so that replacing it joins the chunk to what was done before (but for steplike dimensions)."""
        smooth, points = points.shape[1] - self.spec.num_steplike, points.double()
        if start is not None:
            points = points.clone()
            points[:, :smooth, 0] = start[:, :smooth]
        parts = [
            torch.einsum("np,bap->bna", self._basis(num_actions, degree).to(part), part)
            for degree, part in ((self.spec.degree, points[:, :smooth]), (0, points[:, smooth:]))
        ]
        return torch.cat(parts, dim=2)

    def steps(self, points: Float[Tensor, "b a p"]) -> Int[Tensor, "b p a"]:
        """The nearest of ``size`` steps between the bounds, ties to even, point by point."""
        return rearrange((self.scaled(points) * (self.spec.size - 1)).round().long(), "b a p -> b p a")

    def scaled(self, points: Float[Tensor, "b a p"]) -> Float[Tensor, "b a p"]:
        """Control points cut off at their bounds, from 0 to 1 between them."""
        return (points.clamp(self.low, self.high) - self.low) / (self.high - self.low)

    def unscaled(self, share: Float[Tensor, "b a p"]) -> Float[Tensor, "b a p"]:
        """The way back of :meth:`scaled`."""
        return share * (self.high - self.low) + self.low

    def points_of(self, steps: Int[Tensor, "b p a"]) -> Float[Tensor, "b a p"]:
        """The control points that some steps mean."""
        return self.unscaled(rearrange(steps, "b p a -> b a p") / (self.spec.size - 1))

    def encode(self, chunk: Float[Tensor, "b n a"]) -> list[list[int]]:
        """The tokens of each chunk, of unit scale."""
        return self.steps(self.points(chunk.to(self.low.device))).flatten(1).tolist()

    def decode(self, rows: list[list[int]], num_actions: int, action_size: int) -> Float[Tensor, "b n a"]:
        """The chunks that some tokens mean; rows of another length mean zeros."""
        num = self.spec.longest(num_actions, action_size)
        steps = torch.tensor([row if len(row) == num else [0] * num for row in rows], device=self.low.device)
        whole = torch.tensor([len(row) == num for row in rows], device=self.low.device)
        steps = steps.reshape(-1, self.spec.num_points, action_size)
        return self.curve(self.points_of(steps), num_actions) * whole[:, None, None]

    def fit(self, chunks: Sequence[Float[Tensor, "_ _"]] | Float[Tensor, "c n a"]) -> None:
        """Widen the bounds to the control points of some chunks of one length."""
        points = self.points(torch.stack(list(chunks)).to(self.low.device)).to(self.low)
        least, most = points.amin(dim=0), points.amax(dim=0)
        self.low.copy_(torch.where(least < self.low - MARGIN, least, self.low))
        self.high.copy_(torch.where(most > self.high + MARGIN, most, self.high))

    def _by_degree(self, chunk: Float[Tensor, "b n a"]) -> tuple[tuple[int, Tensor], tuple[int, Tensor]]:
        smooth = chunk.shape[2] - self.spec.num_steplike
        return (self.spec.degree, chunk[..., :smooth]), (0, chunk[..., smooth:])

    def _basis(self, num_steps: int, degree: int) -> Float[Tensor, "n p"]:
        return spline_basis(torch.linspace(0, 1, num_steps), knots(self.spec.num_points, degree), degree)


def knots(num_points: int, degree: int) -> Float[Tensor, " k"]:
    """Clamped knots from 0 to 1: as many more at each end as the degree."""
    inner = torch.linspace(0, 1, num_points - degree + 1)
    return torch.cat([torch.zeros(degree), inner, torch.ones(degree)])


def spline_basis(time: Float[Tensor, " n"], knots: Float[Tensor, " k"], degree: int) -> Float[Tensor, "n p"]:
    """The B-splines at some times by Cox and de Boor's recursion; the last span is closed on the right."""
    num_points = len(knots) - degree - 1
    time = time[:, None]
    basis = ((knots[:-1] <= time) & (time < knots[1:])).to(time)
    basis[:, num_points - 1] += (time[:, 0] == knots[-1]).to(time)
    for order in range(1, degree + 1):
        rising = _ratio(time - knots[: -order - 1], knots[order:-1] - knots[: -order - 1])
        falling = _ratio(knots[order + 1 :] - time, knots[order + 1 :] - knots[1:-order])
        basis = rising * basis[:, :-1] + falling * basis[:, 1:]
    return basis


def _ratio(above: Float[Tensor, "n p"], below: Float[Tensor, " p"]) -> Float[Tensor, "n p"]:
    """0 where two knots are one."""
    return torch.where(below == 0, 0.0, above / torch.where(below == 0, 1.0, below))
