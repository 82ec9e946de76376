"""The ends of mimic-video's action transformer (Pai et al. 2025, arXiv 2512.15692).

Noised actions enter with unit variance, ``x / sqrt((1 - t)^2 + t^2)``, and leave by a map without a bias. In a share of
the training samples the state is not shown: one learned vector stands for it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from crossroads.codecs.action_tokens import ActionCodec, ActionTokens
from crossroads.codecs.spec import HiddenInTraining, Latent
from crossroads.codecs.state import StateCodec, StateToken
from crossroads.types import Observation


@dataclass(frozen=True, kw_only=True)
class ScaledActions(ActionTokens):
    """Actions of which the noised mixture enters with unit variance."""

    def num_parameters(self, width: int) -> int:
        return super().num_parameters(width) - self.action_size


class ScaledActionCodec(ActionCodec):
    """The module of :class:`ScaledActions`."""

    def __init__(self, spec: ScaledActions, width: int) -> None:
        super().__init__(spec, width)
        self.leave = nn.Linear(width, spec.action_size, bias=False)

    def embed(self, latent: Float[Tensor, "b n a"], level: Tensor) -> Float[Tensor, "b n w"]:
        spread = ((1 - level) ** 2 + level**2).sqrt().unsqueeze(-1)
        return super().embed(latent / spread.to(latent.dtype), level)


@dataclass(frozen=True, kw_only=True)
class MaskedState(StateToken):
    """A state that is hidden in ``masked_share`` of the training samples."""

    masked_share: float = 0.2

    def num_parameters(self, width: int) -> int:
        return super().num_parameters(width) + width


class MaskedStateCodec(StateCodec, HiddenInTraining):
    """The module of :class:`MaskedState`; what enters beside a state says whether it is hidden (1) or shown (0)."""

    def __init__(self, spec: MaskedState, width: int) -> None:
        super().__init__(spec, width)
        self.share = spec.masked_share
        self.mask_token = nn.Parameter(0.02 * torch.randn(width))

    def observe(self, obs: Observation) -> Latent:
        found = super().observe(obs)
        return replace(found, beside=torch.zeros_like(found.values[..., :1]))

    def masked(self, latent: Latent, generator: torch.Generator) -> Latent:
        """Hidden in some samples, as training wants it."""
        hidden = torch.rand(len(latent.values), 1, 1, generator=generator, device=latent.values.device) < self.share
        return replace(latent, beside=hidden.to(latent.values.dtype).expand_as(latent.values[..., :1]))

    def embed(self, latent: Float[Tensor, "b n s"], level: Tensor) -> Float[Tensor, "b n w"]:
        unshown = self.mask_token * len(self.mask_token) ** 0.5  # the tower divides all by that; published, not this
        return torch.where(latent[..., -1:] > 0, unshown, self.enter(latent[..., :-1]))
