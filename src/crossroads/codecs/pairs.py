"""Neighbouring frames side by side, as an inverse model sees them: the one of now, then those of a clip.

UniPi, Du et al. 2023, arXiv 2302.00111. In training the frames are recorded ones; acting hands over imagined ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from crossroads.codecs.inputs import InputCodec, InputTokens
from crossroads.codecs.spec import Latent, all_valid
from crossroads.errors import InputError
from crossroads.streams import ViewKind
from crossroads.types import NOTHING, Observation, Window, ahead


@dataclass(frozen=True, kw_only=True)
class FramePairs(InputTokens):
    """A token is a place of a pair, with the pixels of both its frames, of every camera, in -1..1; ``fold``: pixels of
    a place and side. Pairs follow each other in time: now and the first of ``ahead_s``, that and the second ..."""

    cameras: tuple[str, ...]
    image_hw: tuple[int, int]
    ahead_s: tuple[float, ...]
    fold: int = 1

    def __post_init__(self) -> None:
        if any(side % self.fold for side in self.image_hw):
            raise InputError(
                where="FramePairs.image_hw",
                expected=f"multiples of {self.fold} pixels",
                got=str(self.image_hw),
                do="Change the image size or the fold.",
            )

    @property
    def latent_hw(self) -> tuple[int, int]:
        return self.image_hw[0] // self.fold, self.image_hw[1] // self.fold

    @property
    def width(self) -> int:
        """Numbers of a token."""
        return 2 * len(self.cameras) * 3 * self.fold**2

    def num_tokens(self, view: ViewKind) -> int:
        return len(self.ahead_s) * self.latent_hw[0] * self.latent_hw[1]

    def window(self) -> Window:
        asked = {"cameras": self.cameras, "image_hw": self.image_hw, "future_s": self.ahead_s}
        return Window(**{**vars(NOTHING), **asked})


class FramePairCodec(InputCodec):
    """The module of :class:`FramePairs`; it has no weights."""

    def __init__(self, spec: FramePairs, width: int) -> None:
        super().__init__()
        if width != spec.width:
            raise InputError(
                where="FramePairs",
                expected=f"a tower of width {spec.width}, the numbers of a place",
                got=str(width),
                do="Give the tower that width.",
            )
        self.spec = spec

    def observe(self, obs: Observation) -> Latent:
        """The frames of ``obs``, those to come under the names that ``ahead`` gives them."""
        spec = self.spec
        clips = [
            torch.stack([obs.images[camera], *(obs.images[ahead(camera, time)] for time in spec.ahead_s)], dim=1)
            for camera in spec.cameras
        ]
        folded = rearrange(
            torch.stack(clips, dim=1).float() / 127.5 - 1,
            "b v t (h p) (w q) c -> b t h w (v p q c)",
            p=spec.fold,
            q=spec.fold,
        )
        return all_valid(torch.cat([folded[:, :-1], folded[:, 1:]], dim=-1).flatten(1, 3))

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (self.spec.num_tokens(view), self.spec.width)

    def embed(self, latent: Float[Tensor, "b n c"], level: Tensor) -> Float[Tensor, "b n c"]:
        return latent

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        """Pair, row and column."""
        rows, columns = self.spec.latent_hw
        pairs = torch.arange(len(self.spec.ahead_s))
        return torch.cartesian_prod(pairs, torch.arange(rows), torch.arange(columns)).float()[:num_tokens]
