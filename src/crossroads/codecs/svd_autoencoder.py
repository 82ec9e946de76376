"""The published autoencoder of Stable Video Diffusion: 4 channels, 8x in space, encoded frame by frame.

Blattmann et al. 2023, arXiv 2311.15127 (diffusers ``AutoencoderKLTemporalDecoder``): the mean of the posterior, times
the configuration's ``scaling_factor``; the decoder looks at neighbouring frames. Loaded when first needed; the weights
are never part of a policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from crossroads.codecs.published import clip_autoencoder
from crossroads.codecs.spec import NeverTrained

BLOCKS = (128, 256, 512, 512)
"""Channels of the released form, of which alone the cost is known."""


@dataclass(frozen=True, kw_only=True)
class SvdAutoencoder:
    """``source`` holds the weights in its folder ``subfolder``."""

    source: str
    subfolder: str = "vae"
    channels: int = 4
    space_factor: int = 8

    def encode_flops(self, num_frames: int, image_hw: tuple[int, int]) -> int:
        """Frame by frame."""
        return num_frames * _cost(self, 0, image_hw)

    def decode_flops(self, num_frames: int, image_hw: tuple[int, int]) -> int:
        """One clip."""
        return _cost(self, num_frames, image_hw)

    def num_parameters(self) -> int:
        with torch.device("meta"):
            return sum(weight.numel() for weight in _fresh(self).parameters())


class SvdAutoencoderNet(NeverTrained):
    """Pixels in -1..1 to latents of about unit spread, and back."""

    def __init__(self, spec: SvdAutoencoder) -> None:
        super().__init__()
        self.spec = spec

    def _net(self, device: torch.device) -> Any:
        return clip_autoencoder(self.spec.source, self.spec.subfolder).to(device)

    @torch.no_grad()
    def encode(self, pixels: Float[Tensor, "b t h w 3"]) -> Float[Tensor, "b t rows columns c"]:
        net = self._net(pixels.device)
        mean = net.encode(rearrange(pixels, "b t h w c -> (b t) c h w").to(net.dtype)).latent_dist.mean
        return rearrange(mean.float() * net.config.scaling_factor, "(b t) c h w -> b t h w c", b=len(pixels))

    @torch.no_grad()
    def decode(self, latent: Float[Tensor, "b t rows columns c"]) -> Float[Tensor, "b t h w 3"]:
        net = self._net(latent.device)
        maps = rearrange(latent, "b t h w c -> (b t) c h w").to(net.dtype) / net.config.scaling_factor
        pixels = net.decode(maps, num_frames=latent.shape[1]).sample.float()
        return rearrange(pixels, "(b t) c h w -> b t h w c", b=len(latent))


def _fresh(spec: SvdAutoencoder) -> Any:
    """The network of the released form."""
    from diffusers import AutoencoderKLTemporalDecoder  # pyright: ignore

    kinds = ("DownEncoderBlock2D",) * len(BLOCKS)
    made: Any = AutoencoderKLTemporalDecoder
    return made(down_block_types=kinds, block_out_channels=BLOCKS, layers_per_block=2, latent_channels=spec.channels)


@cache
def _cost(spec: SvdAutoencoder, num_frames: int, image_hw: tuple[int, int]) -> int:
    """Of encoding one frame (0), or of decoding a clip."""
    rows, columns = (side // spec.space_factor for side in image_hw)
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        net = _fresh(spec).to("meta")
        if num_frames:
            net.decode(torch.zeros(num_frames, spec.channels, rows, columns), num_frames=num_frames)
        else:
            net.encode(torch.zeros(1, 3, *image_hw))
    return counter.get_total_flops()
