"""Actions decoded in parallel from blank tokens: one for each number of a chunk, read by a small residual network.

OpenVLA-OFT (arXiv 2502.19645; moojink/openvla-oft, MIT): the prompt ends in a mark, and blank tokens (zeros) follow,
one for each number. A language model tells at each token what comes next, so what is read are the states of the mark
and of all blank tokens but the last; that one, and the mark that ends the text, are only there to be read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.codecs.learned import LearnedTokens
from crossroads.codecs.spec import Latent
from crossroads.space import Normaliser, NormaliserKind
from crossroads.streams import ViewKind, linear_flops, linear_parameters
from crossroads.types import NOTHING, Batch, Observation, Window


@dataclass(frozen=True, kw_only=True)
class ActionSlices:
    """A chunk of ``num_actions`` actions of ``action_size`` numbers, each number a token; the first token is a learned
    mark, the others are zeros. ``hidden`` and ``blocks``: width and residual blocks of the network that reads an
    action from the states of its tokens."""

    num_actions: int
    action_size: int
    control_hz: float
    hidden: int
    blocks: int = 2
    normaliser: NormaliserKind = "quantile"

    @property
    def views(self) -> tuple[ViewKind, ...]:
        return ("noised",)

    def num_tokens(self, view: ViewKind) -> int:
        return self.num_actions * self.action_size

    def window(self) -> Window:
        asked = {"num_actions": self.num_actions, "action_size": self.action_size, "control_hz": self.control_hz}
        return Window(**{**vars(NOTHING), **asked})

    def num_parameters(self, width: int) -> int:
        joined, hidden = self.action_size * width, self.hidden
        ends = 2 * joined + linear_parameters(joined, hidden) + 2 * hidden + linear_parameters(hidden, self.action_size)
        return width + ends + self.blocks * (2 * hidden + linear_parameters(hidden, hidden))

    def embed_flops(self, view: ViewKind, width: int) -> int:
        return 0

    def read_flops(self, view: ViewKind, width: int) -> int:
        ends = linear_flops(self.num_actions, self.action_size * width, self.hidden)
        ends += linear_flops(self.num_actions, self.hidden, self.action_size)
        return ends + self.blocks * linear_flops(self.num_actions, self.hidden, self.hidden)

    def encode_flops(self, view: ViewKind) -> int:
        return 0

    def decode_flops(self) -> int:
        return 0


class Residual(nn.Module):
    """``x + relu(linear(norm x))``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "b n h"]) -> Float[Tensor, "b n h"]:
        return x + functional.relu(self.linear(self.norm(x)))


class SliceCodec(nn.Module):
    """The module of :class:`ActionSlices`; a latent holds one number per token."""

    def __init__(self, spec: ActionSlices, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.normaliser = Normaliser(spec.action_size)
        joined = spec.action_size * width
        self.mark = nn.Parameter(torch.randn(1, width) / width**0.5)
        self.norm_in, self.enter = nn.LayerNorm(joined), nn.Linear(joined, spec.hidden)
        self.blocks = nn.ModuleList([Residual(spec.hidden) for _ in range(spec.blocks)])
        self.norm_out, self.leave = nn.LayerNorm(spec.hidden), nn.Linear(spec.hidden, spec.action_size)

    def observe(self, obs: Observation) -> Latent:
        raise AssertionError("actions are never observed: a recipe with a 'now' view of actions is refused")

    def target(self, batch: Batch) -> Latent:
        values = rearrange(self.normaliser.normalise(batch.actions), "b n a -> b (n a) 1")
        return Latent(values=values, valid=repeat(batch.actions_valid, "b n -> b (n a)", a=self.spec.action_size))

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (self.spec.num_tokens(view), 1)

    def embed(self, latent: Float[Tensor, "b n 1"], level: Tensor) -> Float[Tensor, "b n w"]:
        blank = self.mark.new_zeros(latent.shape[1] - 1, self.mark.shape[1])
        return repeat(torch.cat([self.mark, blank]), "n w -> b n w", b=len(latent))

    def read(self, hidden: Float[Tensor, "b n w"]) -> Float[Tensor, "b n 1"]:
        x = rearrange(hidden, "b (n a) w -> b n (a w)", a=self.spec.action_size)
        x = functional.relu(self.enter(self.norm_in(x)))
        for block in self.blocks:
            x = block(x)
        return rearrange(self.leave(self.norm_out(x)), "b n a -> b (n a) 1")

    def decode(self, latent: Float[Tensor, "b n 1"]) -> Float[Tensor, "b k a"]:
        return self.normaliser.restore(rearrange(latent, "b (n a) 1 -> b n a", a=self.spec.action_size))

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        places = torch.full((num_tokens, 3), math.nan)
        places[:, 0] = torch.arange(num_tokens) // self.spec.action_size
        return places


@dataclass(frozen=True, kw_only=True)
class BlankTokens(LearnedTokens):
    """Learned tokens behind ``blank`` tokens that are zeros."""

    blank: int = 0

    def num_tokens(self, view: ViewKind) -> int:
        return self.blank + self.num
