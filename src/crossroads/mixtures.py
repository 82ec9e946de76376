"""Numbers told as a mixture of logistic distributions, over even bins between two bounds.

Salimans et al. 2017, arXiv 1701.05517, section 2.1 (PixelCNN++), as the decoders of Play-LMP (Lynch et al. 2019, arXiv
1903.01973), MCIL (arXiv 2005.07648; mees/calvin, MIT) and HULC (arXiv 2204.06252; lukashermann/hulc, MIT) tell actions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

EDGE = 1e-3
"""Nearer to a bound than this a number lies in the first or the last bin (mees/calvin)."""
THIN = 1e-5
"""Below this mass a bin's logarithm is taken from the density at its number."""
EVEN = (1 - 1e-5, 1e-5)
"""Into which even draws are mapped, 0 first, so that no logarithm is infinite."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """What is told of ``a`` numbers: scores, log scales and means of ``k`` parts each, and two scores for each number
    that is shut or open."""

    scores: Float[Tensor, "*b a k"]
    log_scales: Float[Tensor, "*b a k"]
    means: Float[Tensor, "*b a k"]
    sides: Float[Tensor, "*b s 2"]


@dataclass(frozen=True, kw_only=True)
class Logistics:
    """``num`` logistic parts for each number, over ``bins`` bins between the bounds ``low`` and ``high`` (empty: -1 and
    1); no log scale is below ``least``.

    Of each row the last ``binary`` numbers are at one bound or the other, told by two scores, learned by cross-entropy,
    which counts ``binary_weight`` times (HULC's gripper).
    """

    num: int = 10
    bins: int = 256
    least: float = -7.0
    binary: int = 0
    binary_weight: float = 1.0
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    @property
    def num_sides(self) -> int:
        """How many scores tell of the binary numbers."""
        return 2 * self.binary

    def num_told(self, size: int) -> int:
        """How many numbers tell of ``size`` of them."""
        return 3 * self.num * (size - self.binary) + self.num_sides

    def parts(self, told: Float[Tensor, "*b t"]) -> Told:
        """Scores, log scales, means, one behind the other, then the sides."""
        cut = told.shape[-1] - self.num_sides
        found = rearrange(told[..., :cut], "... (three a k) -> three ... a k", three=3, k=self.num)
        sides = rearrange(told[..., cut:], "... (s two) -> ... s two", two=2)
        return Told(scores=found[0], log_scales=found[1].clamp(min=self.least), means=found[2], sides=sides)

    def loss(self, told: Float[Tensor, "*b t"], values: Float[Tensor, "*b a"]) -> Float[Tensor, "*b"]:
        """What the numbers cost: ``-log p`` of their bins, summed over them, in float32; that of the binary ones is
        the mean over them."""
        parts = self.parts(told.float())
        cut = values.shape[-1] - self.binary
        cost = -self.log_mass(parts, values[..., :cut].float()).sum(dim=-1)
        if not self.binary:
            return cost
        above = values[..., cut:] > self._bounds(values, slice(cut, None)).mean(dim=0)
        chosen = parts.sides.log_softmax(dim=-1).gather(-1, above.long().unsqueeze(-1)).squeeze(-1)
        return cost - self.binary_weight * chosen.mean(dim=-1)

    def log_mass(self, parts: Told, values: Float[Tensor, "*b a"]) -> Float[Tensor, "*b a"]:
        """The logarithm of the mass of each number's bin: open towards the bounds, and where the bin holds next to
        nothing, the density at the number times its width at bounds of -1 and 1, as published."""
        low, high = self._bounds(values, slice(0, values.shape[-1]))
        half = ((high - low) / 2 / (self.bins - 1)).unsqueeze(-1)
        low, high, x = low.unsqueeze(-1), high.unsqueeze(-1), values.unsqueeze(-1)
        centred, sharp = x - parts.means, (-parts.log_scales).exp()
        above, below, middle = sharp * (centred + half), sharp * (centred - half), sharp * centred
        mass = above.sigmoid() - below.sigmoid()
        density = middle - parts.log_scales - 2 * functional.softplus(middle)
        inside = torch.where(mass > THIN, mass.clamp(min=1e-12).log(), density - math.log((self.bins - 1) / 2))
        first, last = above - functional.softplus(above), -functional.softplus(below)
        found = torch.where(x < low + EDGE, first, torch.where(x > high - EDGE, last, inside))
        return (found + parts.scores.log_softmax(dim=-1)).logsumexp(dim=-1)

    def drawn(self, told: Float[Tensor, "b n t"], generator: torch.Generator) -> Float[Tensor, "b n a"]:
        """Numbers drawn from what is told."""
        parts = self.parts(told)
        shape, device = parts.means.shape, told.device
        choosing = torch.rand(shape, generator=generator, device=device)
        return self.placed(parts, choosing, torch.rand(shape[:-1], generator=generator, device=device))

    def placed(
        self, parts: Told, choosing: Float[Tensor, "*b a k"], placing: Float[Tensor, "*b a"]
    ) -> Float[Tensor, "*b _"]:
        """Numbers made of even draws: the part of the largest score plus Gumbel noise, then the place at which its
        distribution reaches a share. Sides take the larger score."""
        first, last = EVEN
        choosing, placing = (first + (last - first) * even for even in (choosing, placing))
        chosen = (parts.scores - (-choosing.log()).log()).argmax(dim=-1, keepdim=True)
        mean, log_scale = (part.gather(-1, chosen).squeeze(-1) for part in (parts.means, parts.log_scales))
        values = mean + log_scale.exp() * (placing.log() - (1 - placing).log())
        if not self.binary:
            return values
        low, high = self._bounds(values, slice(values.shape[-1], values.shape[-1] + self.binary))
        sides = torch.where(parts.sides.argmax(dim=-1) > 0, high, low).to(values.dtype)
        return torch.cat([values, sides], dim=-1)

    def _bounds(self, like: Tensor, of: slice) -> Float[Tensor, "2 a"]:
        """The bounds of some numbers."""
        if not self.low:
            return torch.tensor([[-1.0], [1.0]], device=like.device)
        return torch.tensor([self.low[of], self.high[of]], device=like.device)
