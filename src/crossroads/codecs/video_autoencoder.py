"""A small causal video autoencoder with the geometry of Wan's: 4x in time, 8x in space, first frame on its own.

Wan 2.1 (arXiv 2503.20314, section 4.1): ``T_latent = 1 + (T - 1) / 4``, causal in time, latents normalised per
channel. Like Wan 2.2's, pixels are folded into channels before the first convolution; here 4x4, so that a CPU can pay
for it. It is deterministic (no posterior sampling); a small penalty keeps latents near unit scale while it trains.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.codecs.identity import tensors_identity
from crossroads.codecs.spec import NeverTrained
from crossroads.codecs.streaming import Past
from crossroads.streams import linear_flops, linear_parameters

TIME_FACTOR, SPACE_FACTOR, FOLD = 4, 8, 4


@dataclass(frozen=True, kw_only=True)
class NanoAutoencoder:
    """``channels`` of the latent, ``width`` of the hidden layers."""

    channels: int = 16
    width: int = 48

    @property
    def space_factor(self) -> int:
        """Pixels per latent and side."""
        return SPACE_FACTOR

    def latent_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        return image_hw[0] // SPACE_FACTOR, image_hw[1] // SPACE_FACTOR

    def encode_flops(self, num_frames: int, image_hw: tuple[int, int]) -> int:
        """One clip of ``num_frames`` through the encoder (the causal padding is counted as work, as it is done)."""
        w, places = self.width, image_hw[0] * image_hw[1] // FOLD**2
        half, quarter = 1 + (num_frames - 1) // 2, 1 + (num_frames - 1) // 4
        return (
            linear_flops(num_frames * places, 3 * FOLD**2 * 9, w)
            + linear_flops(num_frames * places, w * 9, w) * 2
            + linear_flops(half * places // 4, w * 27, w * 2) * 1
            + linear_flops(half * places // 4, 2 * w * 9, 2 * w) * 2
            + linear_flops(quarter * places // 4, 2 * w * 3, 2 * w)
            + linear_flops(quarter * places // 4, 2 * w, self.channels)
        )

    def decode_flops(self, num_latents: int, image_hw: tuple[int, int]) -> int:
        """``num_latents`` latents back to ``1 + 4 (num_latents - 1)`` frames."""
        w, coarse = self.width, image_hw[0] * image_hw[1] // SPACE_FACTOR**2
        frames, fine = 1 + TIME_FACTOR * (num_latents - 1), image_hw[0] * image_hw[1] // FOLD**2
        return (
            linear_flops(num_latents * coarse, self.channels, 2 * w)
            + linear_flops(num_latents * coarse, 2 * w * 9, 2 * w) * 2
            + linear_flops(num_latents * coarse, 2 * w, 2 * w * TIME_FACTOR)
            + linear_flops(frames * coarse, 2 * w * 3, 2 * w)
            + linear_flops(frames * coarse, 2 * w * 9, 4 * w)
            + linear_flops(frames * fine, w * 9, w) * 2
            + linear_flops(frames * fine, w * 9, 3 * FOLD**2)
        )

    def num_parameters(self) -> int:
        w, c, pixels = self.width, self.channels, 3 * FOLD**2

        def block(width: int) -> int:
            return 2 * width + 2 * linear_parameters(9 * width, width)

        encoder = linear_parameters(9 * pixels, w) + block(w) + linear_parameters(27 * w, 2 * w) + block(2 * w)
        encoder += linear_parameters(3 * 2 * w, 2 * w) + linear_parameters(2 * w, c)
        decoder = linear_parameters(c, 2 * w) + block(2 * w) + linear_parameters(2 * w, 2 * w * TIME_FACTOR)
        decoder += linear_parameters(3 * 2 * w, 2 * w) + linear_parameters(9 * 2 * w, 4 * w) + block(w)
        return encoder + decoder + linear_parameters(9 * w, pixels)


class SpaceBlock(nn.Module):
    """Two 3x3 convolutions within each frame, with a residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.first = nn.Conv3d(width, width, (1, 3, 3), padding=(0, 1, 1))
        self.second = nn.Conv3d(width, width, (1, 3, 3), padding=(0, 1, 1))

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        frames = rearrange(x, "b c t h w -> (b t) c h w")  # statistics per frame, so that the net stays causal
        normed = rearrange(self.norm(frames), "(b t) c h w -> b c t h w", b=x.shape[0])
        return x + self.second(functional.silu(self.first(functional.silu(normed))))


class CausalConv(nn.Module):
    """A 3-D convolution that sees only the past: time is padded in front by repeating the first frame."""

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.pad, self.kept = kernel[0] - 1, kernel[0] - stride[0]
        self.conv = nn.Conv3d(inputs, outputs, kernel, stride=stride, padding=(0, kernel[1] // 2, kernel[2] // 2))

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b e t2 h2 w2"]:
        return self.conv(self._behind(x, None))

    def resume(
        self, x: Float[Tensor, "b c t h w"], past: Float[Tensor, "b c p h w"] | None
    ) -> tuple[Float[Tensor, "b e t2 h2 w2"], Float[Tensor, "b c q h w"]]:
        """The next frames (a multiple of the stride, after the first) behind the past, and what the next ones need."""
        x = self._behind(x, past)
        return self.conv(x), x[:, :, x.shape[2] - self.kept :].clone()

    def _behind(self, x: Tensor, past: Tensor | None) -> Tensor:
        return torch.cat([x[:, :, :1].expand(-1, -1, self.pad, -1, -1) if past is None else past, x], dim=2)


class NanoAutoencoderNet(NeverTrained):
    """Encoder and decoder; ``mean`` and ``std`` normalise each latent channel, as Wan's configuration does."""

    mean: Tensor
    std: Tensor

    def __init__(self, spec: NanoAutoencoder) -> None:
        super().__init__()
        self.spec = spec
        w, c = spec.width, spec.channels
        self.fold_in = nn.Conv3d(3 * FOLD**2, w, (1, 3, 3), padding=(0, 1, 1))
        self.encode_fine = SpaceBlock(w)
        self.encode_down = CausalConv(w, 2 * w, (3, 3, 3), (2, 2, 2))
        self.encode_coarse = SpaceBlock(2 * w)
        self.encode_time = CausalConv(2 * w, 2 * w, (3, 1, 1), (2, 1, 1))
        self.encode_out = nn.Conv3d(2 * w, c, 1)
        self.decode_in = nn.Conv3d(c, 2 * w, 1)
        self.decode_coarse = SpaceBlock(2 * w)
        self.decode_time = nn.Conv3d(2 * w, 2 * w * 4, 1)
        self.decode_mix = CausalConv(2 * w, 2 * w, (3, 1, 1), (1, 1, 1))
        self.decode_up = nn.Conv3d(2 * w, w * 4, (1, 3, 3), padding=(0, 1, 1))
        self.decode_fine = SpaceBlock(w)
        self.fold_out = nn.Conv3d(w, 3 * FOLD**2, (1, 3, 3), padding=(0, 1, 1))
        self.register_buffer("mean", torch.zeros(c))
        self.register_buffer("std", torch.ones(c))

    def identity(self) -> str:
        """A name of the weights by their content."""
        return tensors_identity(self)

    def encode(self, pixels: Float[Tensor, "b t h w 3"]) -> Float[Tensor, "b t2 h2 w2 c"]:
        """Pixels in -1..1, ``t = 1 + 4 k`` frames, to normalised latents."""
        x = self.encode_time(self.encode_coarse(self.encode_down(self._fine(pixels))))
        return self._normalised(x)

    def encode_group(self, pixels: Float[Tensor, "b t h w 3"], past: Past) -> tuple[Float[Tensor, "b 1 h2 w2 c"], Past]:
        """The first frame of a clip (``past`` empty) or its next four, and the new past: see ``codecs.streaming``."""
        before_down, before_time = past or (None, None)
        x, before_down = self.encode_down.resume(self._fine(pixels), before_down)
        x, before_time = self.encode_time.resume(self.encode_coarse(x), before_time)
        return self._normalised(x), (before_down, before_time)

    def _fine(self, pixels: Tensor) -> Tensor:
        x = rearrange(pixels, "b t (h p) (w q) c -> b (c p q) t h w", p=FOLD, q=FOLD)
        return self.encode_fine(self.fold_in(x))

    def _normalised(self, x: Tensor) -> Tensor:
        z = self.encode_out(functional.silu(x))
        return (rearrange(z, "b c t h w -> b t h w c") - self.mean) / self.std

    def decode(self, latent: Float[Tensor, "b t2 h2 w2 c"]) -> Float[Tensor, "b t h w 3"]:
        """Normalised latents to pixels in about -1..1; the first latent gives one frame, each other gives four."""
        z = rearrange(latent * self.std + self.mean, "b t h w c -> b c t h w")
        x = rearrange(self.decode_time(self.decode_coarse(self.decode_in(z))), "b (f c) t h w -> b c (t f) h w", f=4)
        x = self.decode_mix(functional.silu(x[:, :, TIME_FACTOR - 1 :]))
        x = rearrange(self.decode_up(x), "b (c p q) t h w -> b c t (h p) (w q)", p=2, q=2)
        x = self.fold_out(functional.silu(self.decode_fine(x)))
        return rearrange(x, "b (c p q) t h w -> b t (h p) (w q) c", p=FOLD, q=FOLD)
