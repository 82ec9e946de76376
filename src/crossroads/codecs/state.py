"""Robot state as one token: normalise, one linear map or a small network (pi0, arXiv 2410.24164; Fast-WAM)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from crossroads.codecs.banks import Between, end_flops, end_parameters, make_end
from crossroads.codecs.spec import Latent
from crossroads.space import Normaliser, NormaliserKind
from crossroads.streams import ViewKind
from crossroads.types import NOTHING, Batch, Observation, Window


@dataclass(frozen=True, kw_only=True)
class StateToken:
    """The state vector as a single token; ``hidden``, ``between`` and ``robots`` as in ``ActionTokens``."""

    num_state: int
    normaliser: NormaliserKind = "mean_std"
    hidden: tuple[int, ...] = ()
    between: Between = "gelu"
    robots: tuple[str, ...] = ()

    @property
    def views(self) -> tuple[ViewKind, ...]:
        return ("now",)

    def num_tokens(self, view: ViewKind) -> int:
        return 1

    def window(self) -> Window:
        return Window(**{**vars(NOTHING), "num_state": self.num_state})

    def num_parameters(self, width: int) -> int:
        return end_parameters(self.num_state, width, self.hidden, len(self.robots))

    def embed_flops(self, view: ViewKind, width: int) -> int:
        return end_flops(1, self.num_state, width, self.hidden)

    def read_flops(self, view: ViewKind, width: int) -> int:
        return 0

    def encode_flops(self, view: ViewKind) -> int:
        return 0

    def decode_flops(self) -> int:
        return 0


class StateCodec(nn.Module):
    """The module of :class:`StateToken`."""

    def __init__(self, spec: StateToken, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.normaliser = Normaliser(spec.num_state)
        self.enter = make_end(spec.num_state, width, spec.hidden, spec.robots, between=spec.between)

    def observe(self, obs: Observation) -> Latent:
        values = rearrange(self.normaliser.normalise(obs.state), "b s -> b 1 s")
        return Latent(values=values, valid=torch.ones(values.shape[:2], dtype=torch.bool, device=values.device))

    def target(self, batch: Batch) -> Latent:
        return self.observe(batch.obs)

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (1, self.spec.num_state)

    def embed(self, latent: Float[Tensor, "b n s"], level: Tensor) -> Float[Tensor, "b n w"]:
        return self.enter(latent)

    def read(self, hidden: Float[Tensor, "b n w"]) -> Tensor:
        raise AssertionError("the state is an input: validate() refuses a recipe that predicts it through StateToken")

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        return torch.zeros(num_tokens, 3)
