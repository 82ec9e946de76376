"""What a codec is: raw data to latent, latent to tokens, hidden states back to a latent, latent back to raw data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Shaped, UInt8
from torch import Tensor, nn

from crossroads.streams import ViewKind
from crossroads.types import Batch, Observation


@dataclass(frozen=True, kw_only=True)
class Latent:
    """A stream's raw data in the form that is corrupted and predicted; ``valid`` is per token, true = use.

    ``beside``: what enters the tower with the values and is neither corrupted nor predicted, ``b n d``.
    """

    values: Tensor
    valid: Bool[Tensor, "b n"]
    beside: Tensor | None = None

    def rows(self, rows: Tensor | slice) -> Latent:
        """The latents of some samples."""
        beside = None if self.beside is None else self.beside[rows]
        return Latent(values=self.values[rows], valid=self.valid[rows], beside=beside)

    def then(self, later: Latent) -> Latent:
        """This one's tokens and another's behind them."""
        beside = None
        if self.beside is not None and later.beside is not None:
            beside = torch.cat([self.beside, later.beside], dim=1)
        values = torch.cat([self.values, later.values], dim=1)
        return Latent(values=values, valid=torch.cat([self.valid, later.valid], dim=1), beside=beside)

    @property
    def shown(self) -> Tensor:
        """All that a codec embeds."""
        return self.values if self.beside is None else torch.cat([self.values, self.beside], dim=-1)


def all_valid(values: Shaped[Tensor, "b n *c"]) -> Latent:
    """A latent of which every token counts."""
    return Latent(values=values, valid=torch.ones(values.shape[:2], dtype=torch.bool, device=values.device))


class NeverTrained(nn.Module):
    """Weights that no phase of any recipe moves (a frozen autoencoder); they are trained by their own command."""


class HiddenInTraining(nn.Module):
    """What is not shown in some of the training samples (the state of mimic-video, the goal picture of Play-LMP)."""

    def masked(self, latent: Latent, generator: torch.Generator) -> Latent:
        """The same with some samples' hidden."""
        raise NotImplementedError  # abstract


class ShownToOthers(nn.Module):
    """A codec whose settled value other groups observe, as pictures under the names by which they ask for them."""

    def pictures(self, latent: Tensor) -> dict[str, UInt8[Tensor, "b h w 3"]]:
        """What acting shows: a latent as pictures."""
        raise NotImplementedError  # abstract

    def recorded(self, batch: Batch, generator: torch.Generator) -> dict[str, UInt8[Tensor, "b h w 3"]]:
        """What training shows in its place."""
        raise NotImplementedError  # abstract


class Codec(Protocol):
    """Raw <-> latent <-> tokens. ``level`` is ``b 1`` or ``b n``; codecs of towers that are told levels ignore it."""

    def observe(self, obs: Observation) -> Latent: ...

    def target(self, batch: Batch) -> Latent: ...

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        """The shape of one sample's latent in a view."""
        ...

    def embed(self, latent: Tensor, level: Tensor) -> Float[Tensor, "b n w"]: ...

    def read(self, hidden: Float[Tensor, "b n w"]) -> Tensor: ...

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]: ...
