"""Pictures as the places of learned keypoints: a residual network whose last map says where each of them is.

Spatial softmax (Finn et al. 2016, arXiv 1509.06113), as Diffusion Policy (Chi et al. 2023, arXiv 2303.04137, section
3.2) has it in the place of the mean: each camera has a network of its own, with group norms, and the pictures of the
last few steps go through it alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from crossroads.codecs.inputs import InputCodec
from crossroads.codecs.keypoints import mean_places
from crossroads.codecs.picture_vectors import PictureVectors
from crossroads.codecs.resnet import ResNet, ResNetMaps
from crossroads.codecs.spec import Latent, all_valid
from crossroads.codecs.steps import glanced
from crossroads.streams import ViewKind, linear_flops, linear_parameters
from crossroads.types import Batch, Observation, Window


@dataclass(frozen=True, kw_only=True)
class KeypointVectors(PictureVectors):
    """One token for each camera, of ``num_keypoints`` places, at the first step and at each of ``later_s``."""

    num_keypoints: int = 32
    later_s: tuple[float, ...] = ()

    @property
    def num_steps(self) -> int:
        return 1 + len(self.later_s)

    def num_tokens(self, view: ViewKind) -> int:
        return self.num_steps * len(self.cameras)

    def window(self) -> Window:
        return Window(**{**vars(super().window()), "future_s": self.later_s})

    def num_parameters(self, width: int) -> int:
        ends = linear_parameters(self.network.widths[-1], self.num_keypoints)
        ends += linear_parameters(2 * self.num_keypoints, width)
        return len(self.cameras) * (self.network.num_parameters() + ends)

    def embed_flops(self, view: ViewKind, width: int) -> int:
        places = math.prod(self.network.sides(self.image_hw))
        each = self.network.flops(self.image_hw) + linear_flops(places, self.network.widths[-1], self.num_keypoints)
        return self.num_tokens(view) * (each + linear_flops(1, 2 * self.num_keypoints, width))


class Eye(nn.Module):
    """The network of one camera."""

    def __init__(self, network: ResNet, num_keypoints: int, width: int) -> None:
        super().__init__()
        self.network = ResNetMaps(network)
        self.points = nn.Conv2d(network.widths[-1], num_keypoints, 1)
        self.project = nn.Linear(2 * num_keypoints, width)

    def forward(self, pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b e"]:
        return self.project(mean_places(self.points(self.network(pictures))).flatten(1))


class KeypointCodec(InputCodec):
    """The module of :class:`KeypointVectors`."""

    def __init__(self, spec: KeypointVectors, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.eyes = nn.ModuleList(Eye(spec.network, spec.num_keypoints, width) for _ in spec.cameras)

    def observe(self, obs: Observation) -> Latent:
        """The present and what was observed before it."""
        steps = glanced(obs, self.spec.num_steps)
        return all_valid(torch.stack([one.images[camera] for one in steps for camera in self.spec.cameras], dim=1))

    def target(self, batch: Batch) -> Latent:
        """A training window's first step and those after it."""
        steps = [batch.obs.images, *({c: f[:, at] for c, f in batch.future.items()} for at in range(self._num_later))]
        return all_valid(torch.stack([shown[camera] for shown in steps for camera in self.spec.cameras], dim=1))

    @property
    def _num_later(self) -> int:
        return len(self.spec.later_s)

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (self.spec.num_tokens(view), *self.spec.image_hw, 3)

    def embed(self, latent: Tensor, level: Tensor) -> Float[Tensor, "b n w"]:
        num = len(self.eyes)
        pictures = rearrange(latent, "b (t v) h w c -> v (b t) c h w", v=num).to(level.dtype)
        found = torch.stack([eye(part) for eye, part in zip(self.eyes, pictures, strict=True)], dim=1)
        return rearrange(found, "(b t) v w -> b (t v) w", b=len(latent))
