"""A whole chunk of actions as one token, beside the state of now (PAD: Guo et al. 2024, arXiv 2411.18179)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from crossroads.codecs.spec import Latent
from crossroads.space import Normaliser, NormaliserKind
from crossroads.streams import ViewKind, linear_flops, linear_parameters
from crossroads.types import NOTHING, Batch, Observation, Window


@dataclass(frozen=True, kw_only=True)
class ChunkToken:
    """``num_actions`` actions in one token; ``num_state`` numbers of the state enter beside them (0: none). The token
    counts where all of its actions do. ``spread``: variances are answered behind the values."""

    num_actions: int
    action_size: int
    control_hz: float
    num_state: int = 0
    normaliser: NormaliserKind = "mean_std"
    spread: bool = False

    @property
    def size(self) -> int:
        return self.num_actions * self.action_size

    @property
    def answered(self) -> int:
        return self.size * (2 if self.spread else 1)

    @property
    def views(self) -> tuple[ViewKind, ...]:
        return ("noised",)

    def num_tokens(self, view: ViewKind) -> int:
        return 1

    def window(self) -> Window:
        asked = {"num_actions": self.num_actions, "action_size": self.action_size, "control_hz": self.control_hz}
        return Window(**{**vars(NOTHING), **asked, "num_state": self.num_state})

    def num_parameters(self, width: int) -> int:
        return linear_parameters(self.size + self.num_state, width) + linear_parameters(width, self.answered)

    def embed_flops(self, view: ViewKind, width: int) -> int:
        return linear_flops(1, self.size + self.num_state, width)

    def read_flops(self, view: ViewKind, width: int) -> int:
        return linear_flops(1, width, self.answered)

    def encode_flops(self, view: ViewKind) -> int:
        return 0

    def decode_flops(self) -> int:
        return 0


class ChunkCodec(nn.Module):
    """The module of :class:`ChunkToken`."""

    def __init__(self, spec: ChunkToken, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.normaliser, self.state_normaliser = Normaliser(spec.action_size), Normaliser(spec.num_state)
        self.enter = nn.Linear(spec.size + spec.num_state, width)
        self.leave = nn.Linear(width, spec.answered)

    def observe(self, obs: Observation) -> Latent:
        raise AssertionError("actions are never observed: a recipe with a 'now' view of actions is refused")

    def target(self, batch: Batch) -> Latent:
        values = rearrange(self.normaliser.normalise(batch.actions), "b n a -> b 1 (n a)")
        found = Latent(values=values, valid=batch.actions_valid.all(dim=1, keepdim=True))
        return replace(found, beside=self.beside(batch.obs))

    def beside(self, obs: Observation) -> Float[Tensor, "b 1 s"] | None:
        """The state of now."""
        return self.state_normaliser.normalise(obs.state).unsqueeze(1) if self.spec.num_state else None

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (1, self.spec.size)

    def embed(self, latent: Float[Tensor, "b 1 c"], level: Tensor) -> Float[Tensor, "b 1 w"]:
        return self.enter(latent)

    def read(self, hidden: Float[Tensor, "b 1 w"]) -> Float[Tensor, "b 1 c"]:
        return self.leave(hidden)

    def decode(self, latent: Float[Tensor, "b 1 c"]) -> Float[Tensor, "b n a"]:
        return self.normaliser.restore(rearrange(latent, "b 1 (n a) -> b n a", a=self.spec.action_size))

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        return torch.tensor([[0.0, math.nan, math.nan]])
