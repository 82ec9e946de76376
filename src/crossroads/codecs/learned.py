"""Learned tokens that stand for no data: registers (Motus), future tokens (GR00T N1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor, nn

from crossroads.codecs.spec import Latent
from crossroads.streams import ViewKind
from crossroads.types import NOTHING, Batch, Observation, Window


@dataclass(frozen=True, kw_only=True)
class LearnedTokens:
    """``num`` tokens that the tower may write to; ``first_place``: where the first stands in its sequence.

    Motus has 4 behind the actions (arXiv 2512.13030, ``ActionExpert.registers``), drawn at first with ``std``.
    """

    num: int
    first_place: int = 0
    std: float = 0.02

    @property
    def views(self) -> tuple[ViewKind, ...]:
        return ("now",)

    def num_tokens(self, view: ViewKind) -> int:
        return self.num

    def window(self) -> Window:
        return NOTHING

    def num_parameters(self, width: int) -> int:
        return self.num * width

    def embed_flops(self, view: ViewKind, width: int) -> int:
        return 0

    def read_flops(self, view: ViewKind, width: int) -> int:
        return 0

    def encode_flops(self, view: ViewKind) -> int:
        return 0

    def decode_flops(self) -> int:
        return 0


class LearnedCodec(nn.Module):
    """The module of :class:`LearnedTokens`; its latent is empty."""

    def __init__(self, spec: LearnedTokens, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.tokens = nn.Parameter(spec.std * torch.randn(spec.num, width))

    def observe(self, obs: Observation) -> Latent:
        batch, device = obs.batch_size, obs.state.device
        return Latent(
            values=torch.zeros(batch, self.spec.num, 0, device=device),
            valid=torch.ones(batch, self.spec.num, dtype=torch.bool, device=device),
        )

    def target(self, batch: Batch) -> Latent:
        return self.observe(batch.obs)

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (self.spec.num, 0)

    def embed(self, latent: Float[Tensor, "b n 0"], level: Tensor) -> Float[Tensor, "b n w"]:
        return repeat(self.tokens, "n w -> b n w", b=len(latent))

    def read(self, hidden: Float[Tensor, "b n w"]) -> Tensor:
        raise AssertionError("learned tokens are inputs: validate() refuses a recipe that predicts them")

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        places = torch.zeros(num_tokens, 3)
        places[:, 0] = torch.arange(num_tokens) + self.spec.first_place
        return places
