"""Pictures as one vector each: a residual network whose last map is averaged (UWM, arXiv 2504.02792, ResNet-18 with
group norms, one vector of 768 numbers for each frame of each camera)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from crossroads.codecs.inputs import InputCodec, InputTokens
from crossroads.codecs.resnet import ResNet, ResNetMaps
from crossroads.codecs.spec import Latent
from crossroads.streams import ViewKind, linear_flops, linear_parameters
from crossroads.types import NOTHING, Observation, Window


@dataclass(frozen=True, kw_only=True)
class PictureVectors(InputTokens):
    """One token for each camera."""

    cameras: tuple[str, ...]
    image_hw: tuple[int, int]
    network: ResNet

    def num_tokens(self, view: ViewKind) -> int:
        return len(self.cameras)

    def window(self) -> Window:
        return Window(**{**vars(NOTHING), "cameras": self.cameras, "image_hw": self.image_hw})

    def pixel_flops(self) -> int:
        """The part of embedding whose input is pixels, which owe no gradient."""
        return self.num_tokens("now") * self.network.convolutions(self.image_hw)[0].flops

    def num_parameters(self, width: int) -> int:
        return self.network.num_parameters() + linear_parameters(self.network.widths[-1], width)

    def embed_flops(self, view: ViewKind, width: int) -> int:
        seen = len(self.cameras) * self.network.flops(self.image_hw)
        return seen + linear_flops(len(self.cameras), self.network.widths[-1], width)


class PictureVectorCodec(InputCodec):
    """The module of :class:`PictureVectors`."""

    def __init__(self, spec: PictureVectors, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.network = ResNetMaps(spec.network)
        self.project = nn.Linear(spec.network.widths[-1], width)

    def observe(self, obs: Observation) -> Latent:
        values = torch.stack([obs.images[camera] for camera in self.spec.cameras], dim=1)
        valid = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
        return Latent(values=values, valid=valid)

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (len(self.spec.cameras), *self.spec.image_hw, 3)

    def embed(self, latent: Tensor, level: Tensor) -> Float[Tensor, "b n w"]:
        pixels = rearrange(latent, "b v h w c -> (b v) c h w").to(self.project.weight.dtype)
        vectors = self.project(self.network(pixels).mean(dim=(-2, -1)))
        return rearrange(vectors, "(b v) w -> b v w", v=len(self.spec.cameras))
