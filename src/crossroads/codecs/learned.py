"""Learned tokens that stand for no data: registers (Motus), future tokens (GR00T N1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor, nn

from crossroads.codecs.inputs import InputCodec, InputTokens, on_a_line
from crossroads.codecs.spec import Latent, all_valid
from crossroads.streams import ViewKind
from crossroads.types import Observation


@dataclass(frozen=True, kw_only=True)
class LearnedTokens(InputTokens):
    """``num`` tokens that the tower may write to; ``first_place``: where the first stands in its sequence.

    Motus has 4 behind the actions (arXiv 2512.13030, ``ActionExpert.registers``), drawn at first with ``std``.
    """

    num: int
    first_place: int = 0
    std: float = 0.02

    def num_tokens(self, view: ViewKind) -> int:
        return self.num

    def num_parameters(self, width: int) -> int:
        return self.num * width


class LearnedCodec(InputCodec):
    """The module of :class:`LearnedTokens`; its latent is empty."""

    def __init__(self, spec: LearnedTokens, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.total = spec.num_tokens("now")
        self.tokens = nn.Parameter(spec.std * torch.randn(spec.num, width))

    def observe(self, obs: Observation) -> Latent:
        return all_valid(torch.zeros(obs.batch_size, self.total, 0, device=obs.state.device))

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (self.total, 0)

    def embed(self, latent: Float[Tensor, "b n 0"], level: Tensor) -> Float[Tensor, "b n w"]:
        blank = self.tokens.new_zeros(self.total - self.spec.num, self.tokens.shape[1])
        return repeat(torch.cat([blank, self.tokens]), "n w -> b n w", b=len(latent))

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        return on_a_line(num_tokens, self.spec.first_place)
