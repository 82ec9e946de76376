"""Frames as latents that enter a tower as they are, one token for each place: those to come, or in their places the
frame of now (UVA, arXiv 2503.00200, whose transformer fuses frames seen and to come place by place)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from crossroads.codecs.spec import Latent, all_valid
from crossroads.codecs.stacked_latents import StackedCodec, StackedLatents
from crossroads.errors import InputError
from crossroads.streams import ViewKind
from crossroads.types import Observation


@dataclass(frozen=True, kw_only=True)
class BareLatents(StackedLatents):
    """The frames at ``future_s`` in the view that is noised; in the one that is observed, as often the frame of now."""

    @property
    def views(self) -> tuple[ViewKind, ...]:
        return ("now", "noised")

    def num_parameters(self, width: int) -> int:
        return 0

    def embed_flops(self, view: ViewKind, width: int) -> int:
        return 0

    def read_flops(self, view: ViewKind, width: int) -> int:
        return 0

    def encode_flops(self, view: ViewKind) -> int:
        num = 1 if view == "now" else len(self.future_s)
        return num * len(self.cameras) * self.autoencoder.encode_flops(1, self.image_hw)


class BareLatentCodec(StackedCodec):
    """The module of :class:`BareLatents`; it has no weights of the policy."""

    spec: BareLatents  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, spec: BareLatents, width: int) -> None:
        super().__init__(spec, width)
        if width != spec.patch_size:
            raise InputError(
                where="BareLatents",
                expected=f"a tower as wide as a token has numbers ({spec.patch_size})",
                got=str(width),
                do="Give the tower that width.",
            )
        del self.enter, self.leave

    @torch.no_grad()
    def observe(self, obs: Observation) -> Latent:
        """The frame of now, once for each frame to come."""
        z = torch.stack([self._encoded(obs.images[camera][:, None]) for camera in self.spec.cameras], dim=1)
        return all_valid(self.patched(z.expand(-1, -1, len(self.spec.future_s), -1, -1, -1)))

    def embed(self, latent: Float[Tensor, "b n c"], level: Tensor) -> Float[Tensor, "b n w"]:
        return latent

    def read(self, hidden: Float[Tensor, "b n w"]) -> Float[Tensor, "b n c"]:
        return hidden
