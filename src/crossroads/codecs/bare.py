"""States and actions that enter a tower as they are, normalised: Diffusion Policy's networks (Chi et al. 2023, arXiv
2303.04137) take them without a map."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from crossroads.codecs.action_tokens import ActionCodec, ActionTokens
from crossroads.codecs.spec import Latent, all_valid
from crossroads.codecs.state import StateCodec, StateToken
from crossroads.codecs.steps import glanced
from crossroads.errors import InputError
from crossroads.streams import ViewKind
from crossroads.types import Batch, Observation


@dataclass(frozen=True, kw_only=True)
class BareState(StateToken):
    """The state at the first step and at each of ``later_s``, one token each."""

    def num_parameters(self, width: int) -> int:
        return 0

    def embed_flops(self, view: ViewKind, width: int) -> int:
        return 0


class BareStateCodec(StateCodec):
    """The module of :class:`BareState`; it has no weights."""

    def __init__(self, spec: BareState, width: int) -> None:
        super().__init__(spec, width)
        _check_width("BareState", spec.num_state, width)
        del self.enter

    def observe(self, obs: Observation) -> Latent:
        """The present and what was observed before it."""
        steps = glanced(obs, self.spec.num_tokens("now"))
        return all_valid(self.normaliser.normalise(torch.stack([one.state for one in steps], dim=1)))

    def target(self, batch: Batch) -> Latent:
        """A training window's first step and those after it."""
        states = torch.cat([batch.obs.state[:, None], batch.later_state], dim=1)
        return all_valid(self.normaliser.normalise(states))

    def embed(self, latent: Float[Tensor, "b n s"], level: Tensor) -> Float[Tensor, "b n w"]:
        return latent


@dataclass(frozen=True, kw_only=True)
class BareActions(ActionTokens):
    """A chunk of actions, one token each."""

    def num_parameters(self, width: int) -> int:
        return 0

    def embed_flops(self, view: ViewKind, width: int) -> int:
        return 0

    def read_flops(self, view: ViewKind, width: int) -> int:
        return 0


class BareActionCodec(ActionCodec):
    """The module of :class:`BareActions`; it has no weights."""

    def __init__(self, spec: BareActions, width: int) -> None:
        super().__init__(spec, width)
        _check_width("BareActions", spec.action_size, width)
        del self.enter, self.leave

    def embed(self, latent: Float[Tensor, "b n a"], level: Tensor) -> Float[Tensor, "b n w"]:
        return latent

    def read(self, hidden: Float[Tensor, "b n w"]) -> Float[Tensor, "b n a"]:
        return hidden


def _check_width(what: str, size: int, width: int) -> None:
    if size != width:
        raise InputError(
            where=what,
            expected=f"a tower as wide as a token has numbers ({size})",
            got=str(width),
            do="Give the tower that width.",
        )
