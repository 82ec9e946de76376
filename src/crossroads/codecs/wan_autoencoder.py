"""The published Wan 2.2 video autoencoder (48 channels, 4x in time, 16x in space), loaded when it is first needed.

Wan 2.2 TI2V-5B (arXiv 2503.20314; diffusers ``AutoencoderKLWan``): mean of the posterior, latents normalised per
channel with the configuration's ``latents_mean`` and ``latents_std``. Its weights are never part of a policy.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from crossroads.codecs.published import video_autoencoder
from crossroads.codecs.spec import NeverTrained
from crossroads.streams import linear_flops


@dataclass(frozen=True, kw_only=True)
class WanAutoencoder:
    """``space_factor`` pixels per latent and side; ``source`` holds the weights in its folder ``vae``."""

    source: str
    channels: int = 48
    space_factor: int = 16

    def latent_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        return image_hw[0] // self.space_factor, image_hw[1] // self.space_factor

    def encode_flops(self, num_frames: int, image_hw: tuple[int, int]) -> int:
        rows, columns = self.latent_hw(image_hw)
        return ENCODER.clip(rows * columns, 1 + (num_frames - 1) // 4)

    def decode_flops(self, num_latents: int, image_hw: tuple[int, int]) -> int:
        rows, columns = self.latent_hw(image_hw)
        return DECODER.clip(rows * columns, num_latents)

    def num_parameters(self) -> int:
        return 704_688_668


@dataclass(frozen=True, kw_only=True)
class HalfCost:
    """FLOPs of one half: per place of the first latent frame and of each later one, and the middle's attention."""

    first: int
    later: int
    attention_width: int

    def clip(self, num_places: int, num_latents: int) -> int:
        attention = num_latents * 2 * linear_flops(num_places, self.attention_width, num_places)
        return num_places * (self.first + (num_latents - 1) * self.later) + attention


# Counted once by torch's FlopCounterMode on diffusers 0.35.2 at Wan 2.2's configuration, 1 to 13 frames, three sizes.
ENCODER = HalfCost(first=1188800512, later=3574556672, attention_width=640)
DECODER = HalfCost(first=5830775296, later=18835608064, attention_width=1024)


class WanAutoencoderNet(NeverTrained):
    """Pixels to normalised latents and back, with the face of the embedded autoencoder."""

    def __init__(self, spec: WanAutoencoder) -> None:
        super().__init__()
        self.spec = spec

    @torch.no_grad()
    def encode(self, pixels: Float[Tensor, "b t h w 3"]) -> Float[Tensor, "b t2 h2 w2 c"]:
        """Pixels in -1..1, ``t = 1 + 4 k`` frames, to normalised latents (the posterior's mean)."""
        net = video_autoencoder(self.spec.source, "vae").to(pixels.device)
        z = net.encode(rearrange(pixels, "b t h w c -> b c t h w").to(net.dtype)).latent_dist.mode()
        mean, std = self._statistics(z)
        return rearrange((z.float() - mean) / std, "b c t h w -> b t h w c")

    @torch.no_grad()
    def decode(self, latent: Float[Tensor, "b t2 h2 w2 c"]) -> Float[Tensor, "b t h w 3"]:
        """Normalised latents to pixels in -1..1."""
        net = video_autoencoder(self.spec.source, "vae").to(latent.device)
        z = rearrange(latent, "b t h w c -> b c t h w").float()
        mean, std = self._statistics(z)
        pixels = net.decode((z * std + mean).to(net.dtype)).sample
        return rearrange(pixels.float(), "b c t h w -> b t h w c")

    def _statistics(self, z: Tensor) -> tuple[Tensor, Tensor]:
        config = video_autoencoder(self.spec.source, "vae").config
        mean, std = (torch.tensor(values, device=z.device) for values in (config.latents_mean, config.latents_std))
        return tuple(rearrange(values, "c -> 1 c 1 1 1") for values in (mean, std))  # pyright: ignore[reportReturnType]
