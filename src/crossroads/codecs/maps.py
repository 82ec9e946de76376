"""Pictures as the places of a convolutional feature map, one token each (DETR, arXiv 2005.12872; ACT, 2304.13705).

The cameras' maps stand side by side, so that tokens go row by row through all of them; each camera has the places of a
picture of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from crossroads.codecs.inputs import InputCodec, InputTokens
from crossroads.codecs.resnet import ResNet, ResNetMaps
from crossroads.codecs.spec import Latent
from crossroads.streams import ViewKind, linear_flops, linear_parameters
from crossroads.types import NOTHING, Observation, Window


@dataclass(frozen=True, kw_only=True)
class FeatureMaps(InputTokens):
    """The last feature map of each camera, mapped to the tower's width by a 1 x 1 convolution."""

    cameras: tuple[str, ...]
    image_hw: tuple[int, int]
    network: ResNet = field(default_factory=ResNet)

    @property
    def sides(self) -> tuple[int, int]:
        return self.network.sides(self.image_hw)

    def num_tokens(self, view: ViewKind) -> int:
        return len(self.cameras) * math.prod(self.sides)

    def window(self) -> Window:
        return Window(**{**vars(NOTHING), "cameras": self.cameras, "image_hw": self.image_hw})

    def num_parameters(self, width: int) -> int:
        return self.network.num_parameters() + linear_parameters(self.network.widths[-1], width)

    def pixel_flops(self) -> int:
        """The part of embedding whose input is pixels, which owe no gradient."""
        return len(self.cameras) * self.network.convolutions(self.image_hw)[0].flops

    def embed_flops(self, view: ViewKind, width: int) -> int:
        seen = len(self.cameras) * self.network.flops(self.image_hw)
        return seen + linear_flops(self.num_tokens(view), self.network.widths[-1], width)


class FeatureMapCodec(InputCodec):
    """The module of :class:`FeatureMaps`."""

    def __init__(self, spec: FeatureMaps, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.network = ResNetMaps(spec.network)
        self.project = nn.Linear(spec.network.widths[-1], width)

    def observe(self, obs: Observation) -> Latent:
        values = torch.stack([obs.images[camera] for camera in self.spec.cameras], dim=1)
        num = self.spec.num_tokens("now")
        return Latent(values=values, valid=torch.ones(len(values), num, dtype=torch.bool, device=values.device))

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (len(self.spec.cameras), *self.spec.image_hw, 3)

    def embed(self, latent: Tensor, level: Tensor) -> Float[Tensor, "b n w"]:
        pixels = rearrange(latent, "b v h w c -> (b v) c h w").to(self.project.weight.dtype)
        maps = rearrange(self.network(pixels), "(b v) c h w -> b v c h w", v=len(self.spec.cameras))
        return self.placed(maps)

    def placed(self, maps: Float[Tensor, "b v c rows columns"]) -> Float[Tensor, "b n w"]:
        """Feature maps as tokens."""
        return self.project(rearrange(maps, "b v c h w -> b (h v w) c"))

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        """Camera, row and column; the last two run from 0 to 2 pi over a picture and stand at the far edge of a place
        (DETR's ``PositionEmbeddingSine``, normalised)."""
        (rows, columns), views = self.spec.sides, len(self.spec.cameras)
        down, right = (2 * math.pi * (torch.arange(side) + 1) / (side + 1e-6) for side in (rows, columns))
        places = (
            repeat(torch.arange(views).float(), "v -> (h v w)", h=rows, w=columns),
            repeat(down, "h -> (h v w)", v=views, w=columns),
            repeat(right, "w -> (h v w)", h=rows, v=views),
        )
        return torch.stack(places, dim=-1)
