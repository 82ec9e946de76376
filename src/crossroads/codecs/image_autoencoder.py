"""The published image autoencoders of latent diffusion: 4 channels, 8x in space, frame by frame.

Rombach et al. 2022, arXiv 2112.10752 (diffusers ``AutoencoderKL``): Stable Diffusion's latents are scaled by 0.18215
(PAD), those of SDXL by 0.13025 (UWM); both have the same sizes. Loaded when first needed; never part of a policy.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from crossroads.codecs.identity import tensors_identity
from crossroads.codecs.published import image_autoencoder
from crossroads.codecs.spec import NeverTrained
from crossroads.errors import InputError
from crossroads.streams import linear_flops

SPACE_FACTOR, MIDDLE = 8, 512
# Counted by torch's FlopCounterMode on diffusers 0.42.1's class at Stable Diffusion's configuration, on the meta
# device, at 64 and 128 pixels square: work per place of the latent, without the attention in the middle (512 wide).
ENCODE, DECODE, NUM_PARAMETERS = 264_233_088, 605_507_616, 83_653_863


@dataclass(frozen=True, kw_only=True)
class ImageAutoencoder:
    """``source`` holds the weights, in ``subfolder`` where they are a part of a whole pipeline."""

    source: str
    subfolder: str = ""
    channels: int = 4

    @property
    def space_factor(self) -> int:
        """Pixels per latent and side."""
        return SPACE_FACTOR

    def latent_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        return image_hw[0] // SPACE_FACTOR, image_hw[1] // SPACE_FACTOR

    def encode_flops(self, num_frames: int, image_hw: tuple[int, int]) -> int:
        return num_frames * self._flops(ENCODE, image_hw)

    def decode_flops(self, num_latents: int, image_hw: tuple[int, int]) -> int:
        return num_latents * self._flops(DECODE, image_hw)

    def num_parameters(self) -> int:
        return NUM_PARAMETERS

    def _flops(self, per_place: int, image_hw: tuple[int, int]) -> int:
        rows, columns = self.latent_hw(image_hw)
        return rows * columns * per_place + 2 * linear_flops(rows * columns, MIDDLE, rows * columns)


class ImageAutoencoderNet(NeverTrained):
    """Pixels to scaled latents and back, each frame on its own."""

    def __init__(self, spec: ImageAutoencoder) -> None:
        super().__init__()
        self.spec = spec

    def identity(self) -> str:
        """A name of the weights by their content, and of the scale of the latents."""
        net = self._net(torch.device("cpu"))
        return hashlib.sha256(f"{tensors_identity(net)} {net.config.scaling_factor}".encode()).hexdigest()

    @torch.no_grad()
    def encode(self, pixels: Float[Tensor, "b t h w 3"]) -> Float[Tensor, "b t h2 w2 c"]:
        """Pixels in -1..1 to the posterior's mean, scaled."""
        net = self._net(pixels.device)
        frames = rearrange(pixels, "b t h w c -> (b t) c h w").to(net.dtype)
        z = net.encode(frames).latent_dist.mode().float() * net.config.scaling_factor
        return rearrange(z, "(b t) c h w -> b t h w c", b=len(pixels))

    @torch.no_grad()
    def decode(self, latent: Float[Tensor, "b t h2 w2 c"]) -> Float[Tensor, "b t h w 3"]:
        """Scaled latents to pixels in about -1..1."""
        net = self._net(latent.device)
        z = rearrange(latent / net.config.scaling_factor, "b t h w c -> (b t) c h w").to(net.dtype)
        return rearrange(net.decode(z).sample.float(), "(b t) c h w -> b t h w c", b=len(latent))

    def _net(self, device: torch.device) -> Any:
        """The loaded network, which must be of the form that the description says."""
        net = image_autoencoder(self.spec.source, self.spec.subfolder)
        found = net.config.latent_channels, 2 ** (len(net.config.block_out_channels) - 1)
        if found != (self.spec.channels, SPACE_FACTOR):
            raise InputError(
                where=f"image autoencoder of {self.spec.source}",
                expected=f"{self.spec.channels} channels at {SPACE_FACTOR}x in space",
                got=f"{found[0]} at {found[1]}x",
                do="Give the recipe's autoencoder the numbers of its weights, or other weights.",
            )
        return net.to(device)
