"""The encoder of BART (Lewis et al. 2019, arXiv 1910.13461), which is Florence-2's language encoder, and X-VLA's own
transformer behind it (arXiv 2510.10274): plain layers with learned places on entry."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.towers.plain import Plain, PlainBlock, PlainCondition, PlainFrame
from crossroads.towers.spec import Context, Places

OFFSET = 2
"""Rows of BART's table of places before the first place (``BartLearnedPositionalEmbedding``)."""


@dataclass(frozen=True, kw_only=True)
class Placed(Plain):
    """X-VLA's transformer: norms before attention and network and at the end; ``num_places`` learned places of the
    running index; a token that stands nowhere is given none."""

    num_places: int

    def num_parameters(self) -> int:
        return super().num_parameters() + self.num_places * self.width


@dataclass(frozen=True, kw_only=True)
class Bart(Placed):
    """BART's encoder: norms behind the sums, and one on entry instead of the last."""

    def num_parameters(self) -> int:
        return super().num_parameters() + OFFSET * self.width


class PlacedFrame(PlainFrame):
    """Learned places on entry."""

    def __init__(self, spec: Placed, offset: int = 0) -> None:
        super().__init__(spec)
        self.offset = offset
        self.places = nn.Parameter(0.02 * torch.randn(spec.num_places + offset, spec.width))

    def condition(
        self,
        level: Tensor,
        counts: tuple[int, ...],
        places: Places,
        contexts: tuple[Context, ...],
        modulation: Tensor | None,
    ) -> PlainCondition:
        super().condition(level, counts, places, contexts, modulation)  # refuses what is not read jointly
        found = self.places[places.index.long() + self.offset]
        return PlainCondition(position=found * ~places.grid[:, 0].isnan().unsqueeze(-1))


class BartFrame(PlacedFrame):
    """Learned places and the norm on entry."""

    def __init__(self, spec: Bart) -> None:
        super().__init__(spec, OFFSET)

    def enter(self, x: Float[Tensor, "b n w"], condition: PlainCondition) -> Float[Tensor, "b n w"]:
        return self.norm(x + condition.position.to(x.dtype))

    def finish(self, x: Float[Tensor, "b n w"], condition: PlainCondition) -> Float[Tensor, "b n w"]:
        return x


class BartBlock(PlainBlock):
    """One layer with its norms behind the sums."""

    def normed(self, x: Float[Tensor, "b n w"]) -> Float[Tensor, "b n w"]:
        return x

    def after(
        self, x: Float[Tensor, "b n w"], attended: Float[Tensor, "b n e"], carry: None, condition: PlainCondition
    ) -> Float[Tensor, "b n w"]:
        x = self.norm_attention(x + self.out(attended))
        return self.norm_mlp(x + self.down(self.bend(self.up(x))))

    def bend(self, x: Float[Tensor, "b n m"]) -> Float[Tensor, "b n m"]:
        return functional.gelu(x)
