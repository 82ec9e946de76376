"""What a model of motion is: frames in, what changed from each to the next as few numbers, and the next frames again.

Latent actions are what such a bottleneck holds (Genie, Bruce et al. 2024, arXiv 2402.15391; LAPA, Ye et al. 2024, arXiv
2410.11758; DreamDojo, arXiv 2602.06949): video without actions is labelled by what its frames tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn


class MotionSpec(Protocol):
    """The value that describes a model of motion."""

    @property
    def image_hw(self) -> tuple[int, int]: ...

    @property
    def patch(self) -> int: ...

    @property
    def codebook(self) -> int:
        """Entries of the codebook; 0: latent actions are continuous."""
        ...

    @property
    def num_codes(self) -> int:
        """Latent tokens of one transition."""
        ...

    @property
    def code_size(self) -> int:
        """Numbers of a latent token."""
        ...

    @property
    def owes(self) -> bool:
        """Whether training adds to the squared error of the next frames (a commitment, a divergence)."""
        ...

    def num_parameters(self) -> int: ...

    def encode_flops(self, num_frames: int) -> int:
        """Frames to latent actions."""
        ...

    def flops(self, num_frames: int) -> int:
        """Frames to latent actions and to the next frames again."""
        ...


@dataclass(frozen=True, kw_only=True)
class Motion:
    """What a model of motion finds in a clip.

    ``latent``: the latent actions, ``codes``: their places in the codebook (none of a continuous one), ``next``: every
    frame but the first, made from the one before and its latent action, ``owed``: what the loss adds, per sample.
    """

    latent: Float[Tensor, "b f n c"]
    codes: Tensor
    next: Float[Tensor, "b f 3 h w"]
    owed: Float[Tensor, " b"]


class MotionNet(nn.Module):
    """A model of motion."""

    def latent(self, frames: Float[Tensor, "b t 3 h w"]) -> tuple[Float[Tensor, "b f n c"], Tensor]:
        """The latent actions of each transition, and their codes; no draws. Pixels from 0 to 1."""
        raise NotImplementedError  # abstract

    def forward(self, frames: Float[Tensor, "b t 3 h w"], noise: Float[Tensor, "b f n c"]) -> Motion:
        """Frames, and the standard normals that a model which draws replaces its draws with."""
        raise NotImplementedError  # abstract


def patches_of(frames: Float[Tensor, "b t 3 h w"], patch: int) -> Float[Tensor, "b t n p"]:
    """Squares of pixels, row by row, channels outermost."""
    return rearrange(frames, "b t c (h p) (w q) -> b t (h w) (c p q)", p=patch, q=patch)


def frames_of(patches: Float[Tensor, "b t n p"], patch: int, image_hw: tuple[int, int]) -> Float[Tensor, "b t 3 h w"]:
    """The way back from :func:`patches_of`."""
    rows = image_hw[0] // patch
    return rearrange(patches, "b t (h w) (c p q) -> b t c (h p) (w q)", h=rows, p=patch, q=patch)


def nearest_code(x: Float[Tensor, "*b c"], codebook: Float[Tensor, "k c"]) -> Tensor:
    """The number of the entry nearest to each vector."""
    distances = (codebook**2).sum(dim=-1) - 2 * x @ codebook.T
    return distances.argmin(dim=-1)


def all_reduced(counts: Tensor) -> Tensor:
    """Counts over all processes that train together."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(counts)
    return counts
