"""Robot state, one token per block: normalise, one linear map or a small network (pi0, arXiv 2410.24164; Fast-WAM)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from crossroads.codecs.banks import Activation, end_flops, end_parameters, make_end
from crossroads.codecs.inputs import InputCodec, InputTokens
from crossroads.codecs.spec import Latent, all_valid
from crossroads.space import Normaliser, NormaliserKind
from crossroads.streams import ViewKind
from crossroads.types import NOTHING, Batch, Observation, Window


@dataclass(frozen=True, kw_only=True)
class StateToken(InputTokens):
    """The state vector as a single token, and in training one more at each of ``later_s`` (the starts of the blocks
    that follow); ``hidden``, ``robots`` and ``activation`` as in ``ActionTokens``."""

    num_state: int
    normaliser: NormaliserKind = "mean_std"
    hidden: tuple[int, ...] = ()
    robots: tuple[str, ...] = ()
    later_s: tuple[float, ...] = ()
    activation: Activation = "gelu"

    @property
    def throughout(self) -> bool:
        """Whether every layer of the network is there per robot, and not its first alone."""
        return False

    def num_tokens(self, view: ViewKind) -> int:
        return 1 + len(self.later_s)

    def window(self) -> Window:
        return Window(**{**vars(NOTHING), "num_state": self.num_state, "later_state_s": self.later_s})

    def num_parameters(self, width: int) -> int:
        return end_parameters(self.num_state, width, self.hidden, len(self.robots), throughout=self.throughout)

    def embed_flops(self, view: ViewKind, width: int) -> int:
        return end_flops(self.num_tokens(view), self.num_state, width, self.hidden)


@dataclass(frozen=True, kw_only=True)
class EmbodiedState(StateToken):
    """A state whose whole network is there per robot (GR00T N1, arXiv 2503.14734, ``CategorySpecificMLP``)."""

    @property
    def throughout(self) -> bool:
        return True


class StateCodec(InputCodec):
    """The module of :class:`StateToken`."""

    def __init__(self, spec: StateToken, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.normaliser = Normaliser(spec.num_state)
        self.enter = make_end(
            spec.num_state, width, spec.hidden, spec.robots, activation=spec.activation, throughout=spec.throughout
        )

    def observe(self, obs: Observation) -> Latent:
        values = rearrange(self.normaliser.normalise(obs.state), "b s -> b 1 s")
        return all_valid(values)

    def target(self, batch: Batch) -> Latent:
        """The state of now and those at the times of ``later_s``."""
        now = self.observe(batch.obs)
        if not self.spec.later_s:
            return now
        values = torch.cat([now.values, self.normaliser.normalise(batch.later_state)], dim=1)
        return all_valid(values)

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (self.spec.num_tokens(view), self.spec.num_state)

    def embed(self, latent: Float[Tensor, "b n s"], level: Tensor) -> Float[Tensor, "b n w"]:
        return self.enter(latent)

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        places = torch.full((num_tokens, 3), math.nan)
        places[:, 0] = torch.arange(num_tokens)
        return places
