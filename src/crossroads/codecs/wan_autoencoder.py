"""The published video autoencoders of Wan 2.1 (16 channels, 8x in space) and Wan 2.2 (48, 16x); both 4x in time.

Wan (arXiv 2503.20314; diffusers ``AutoencoderKLWan``): mean of the posterior, latents normalised per channel with the
configuration's ``latents_mean`` and ``latents_std``. 2.1's also serves Cosmos-Predict2; 2.2's came with TI2V-5B. They
are loaded when first needed; their weights are never part of a policy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from crossroads.codecs.identity import tensors_identity
from crossroads.codecs.published import video_autoencoder
from crossroads.codecs.spec import NeverTrained
from crossroads.codecs.streaming import GROUP, Past
from crossroads.errors import InputError
from crossroads.streams import linear_flops


@dataclass(frozen=True, kw_only=True)
class WanAutoencoder:
    """``space_factor`` pixels per latent and side; ``source`` holds the weights in its folder ``vae``.

    Its cost is known for the two published forms, 16 channels at 8 and 48 at 16, and for no other.
    """

    source: str
    channels: int = 48
    space_factor: int = 16

    def latent_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        return image_hw[0] // self.space_factor, image_hw[1] // self.space_factor

    def encode_flops(self, num_frames: int, image_hw: tuple[int, int]) -> int:
        rows, columns = self.latent_hw(image_hw)
        return self._cost.encoder.clip(rows * columns, 1 + (num_frames - 1) // GROUP)

    def decode_flops(self, num_latents: int, image_hw: tuple[int, int]) -> int:
        rows, columns = self.latent_hw(image_hw)
        return self._cost.decoder.clip(rows * columns, num_latents)

    def num_parameters(self) -> int:
        return self._cost.num_parameters

    @property
    def _cost(self) -> Cost:
        if (self.channels, self.space_factor) not in COSTS:
            raise InputError(
                where=f"WanAutoencoder of {self.source}, cost",
                expected=" or ".join(f"{num} channels at {factor}x in space" for num, factor in COSTS),
                got=f"{self.channels} at {self.space_factor}x",
                do="Give one of the published forms.",
            )
        return COSTS[self.channels, self.space_factor]


@dataclass(frozen=True, kw_only=True)
class HalfCost:
    """FLOPs of one half: per place of the first latent frame and of each later one, and the middle's attention."""

    first: int
    later: int
    attention_width: int

    def clip(self, num_places: int, num_latents: int) -> int:
        attention = num_latents * 2 * linear_flops(num_places, self.attention_width, num_places)
        return num_places * (self.first + (num_latents - 1) * self.later) + attention


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one published autoencoder costs; its weights are those of both halves."""

    encoder: HalfCost
    decoder: HalfCost
    num_parameters: int


# Counted by torch's FlopCounterMode on diffusers' class at the published configuration, on the meta device, 1 to 13
# frames at three sizes: 2.2 on diffusers 0.35.2, 2.1 on 0.42.1 (its default configuration is 2.1's).
COSTS: Mapping[tuple[int, int], Cost] = {
    (16, 8): Cost(
        encoder=HalfCost(first=426039296, later=1280731136, attention_width=384),
        decoder=HalfCost(first=687882752, later=2161889792, attention_width=384),
        num_parameters=126_892_531,
    ),
    (48, 16): Cost(
        encoder=HalfCost(first=1188800512, later=3574556672, attention_width=640),
        decoder=HalfCost(first=5830775296, later=18835608064, attention_width=1024),
        num_parameters=704_688_668,
    ),
}


class WanAutoencoderNet(NeverTrained):
    """Pixels to normalised latents and back, with the face of the embedded autoencoder."""

    def __init__(self, spec: WanAutoencoder) -> None:
        super().__init__()
        self.spec = spec

    def identity(self) -> str:
        """A name of the weights by their content, and of the statistics that normalise the latents."""
        net = self._net(torch.device("cpu"))
        told = f"{tensors_identity(net)} {list(net.config.latents_mean)} {list(net.config.latents_std)}"
        return hashlib.sha256(told.encode()).hexdigest()

    @torch.no_grad()
    def encode(self, pixels: Float[Tensor, "b t h w 3"]) -> Float[Tensor, "b t2 h2 w2 c"]:
        """Pixels in -1..1, ``t = 1 + 4 k`` frames, to normalised latents (the posterior's mean)."""
        net = self._net(pixels.device)
        z = net.encode(rearrange(pixels, "b t h w c -> b c t h w").to(net.dtype)).latent_dist.mode()
        return self._normalised(z)

    @torch.no_grad()
    def encode_group(self, pixels: Float[Tensor, "b t h w 3"], past: Past) -> tuple[Float[Tensor, "b 1 h2 w2 c"], Past]:
        """The first frame of a clip (``past`` empty) or its next four, and the new past: see ``codecs.streaming``.

        Raises ``InputError`` where this release of diffusers does not stream as the ones that we know.
        """
        net = self._net(pixels.device)
        _require_streaming(net)
        z, past = _group(net, pixels.to(net.dtype), past)
        return self._normalised(z), past

    @torch.no_grad()
    def decode(self, latent: Float[Tensor, "b t2 h2 w2 c"]) -> Float[Tensor, "b t h w 3"]:
        """Normalised latents to pixels in -1..1."""
        net = self._net(latent.device)
        z = rearrange(latent, "b t h w c -> b c t h w").float()
        mean, std = self._statistics(net, z)
        pixels = net.decode((z * std + mean).to(net.dtype)).sample
        return rearrange(pixels.float(), "b c t h w -> b t h w c")

    def _net(self, device: torch.device) -> Any:
        """The loaded network, which must be of the form that the description says."""
        net = video_autoencoder(self.spec.source, "vae")
        found = net.config.z_dim, _space_factor(net)
        if found != (self.spec.channels, self.spec.space_factor):
            raise InputError(
                where=f"video autoencoder of {self.spec.source}",
                expected=f"{self.spec.channels} channels at {self.spec.space_factor}x in space",
                got=f"{found[0]} at {found[1]}x",
                do="Give the recipe's autoencoder the numbers of its weights, or other weights.",
            )
        return net.to(device)

    def _normalised(self, z: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b t h w c"]:
        mean, std = self._statistics(self._net(z.device), z)
        return rearrange((z.float() - mean) / std, "b c t h w -> b t h w c")

    @staticmethod
    def _statistics(net: Any, z: Tensor) -> tuple[Tensor, Tensor]:
        given = (net.config.latents_mean, net.config.latents_std)
        mean, std = (rearrange(torch.tensor(values, device=z.device), "c -> 1 c 1 1 1") for values in given)
        return mean, std


def _space_factor(net: Any) -> int:
    """From the layers: diffusers 0.35 says 8 of both forms in ``spatial_compression_ratio``."""
    return 2 ** (len(net.config.dim_mult) - 1) * (net.config.patch_size or 1)


def _group(net: Any, pixels: Float[Tensor, "b t h w 3"], past: Past) -> tuple[Float[Tensor, "b c 1 h2 w2"], Past]:
    """One group through diffusers' encoder, whose feature cache is a list that we hand in and take back.

    As ``AutoencoderKLWan._encode`` of diffusers 0.35.2 and 0.42.1 does with its own list: a slot for each causal
    convolution (some stay empty), replaced and never written into, and the number of the next slot.
    """
    fold = net.config.patch_size or 1
    x = rearrange(pixels, "b t (h p) (w q) c -> b (c q p) t h w", p=fold, q=fold)  # diffusers ``patchify``
    slots = list(past) or [None] * sum(isinstance(part, nn.Conv3d) for part in net.encoder.modules())
    moments = net.quant_conv(net.encoder(x, feat_cache=slots, feat_idx=[0]))
    return moments.chunk(2, dim=1)[0], tuple(slots)  # mean and logarithm of the variance; the mode is the mean


@cache
def _require_streaming(net: Any) -> None:
    """Once for each network: three groups of noise streamed must be what diffusers' own encode makes of them."""
    import diffusers  # pyright: ignore[reportMissingImports]

    side = _space_factor(net)
    noise = torch.rand(1, 1 + 2 * GROUP, side, side, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    pixels = noise.to(net.device, net.dtype)
    whole = net.encode(rearrange(pixels, "b t h w c -> b c t h w")).latent_dist.mode().float()
    why, past, parts = "", (), []
    try:
        for group in (pixels[:, :1], *pixels[:, 1:].split(GROUP, dim=1)):
            z, past = _group(net, group, past)
            parts.append(z.float())
        streamed = torch.cat(parts, dim=2)
    except (TypeError, AttributeError, IndexError, RuntimeError) as error:
        why = f"{type(error).__name__}: {error}"
    else:
        allowed = (1e-4 if net.dtype == torch.float32 else 5e-2) * whole.abs().max()
        if streamed.shape != whole.shape or not (streamed - whole).abs().max() <= allowed:
            why = "other latents than of the whole clip"
    if why:
        raise InputError(
            where=f"streaming encode, diffusers {diffusers.__version__}",
            expected="an encoder that takes its feature cache as a list (diffusers 0.35 to 0.42)",
            got=why,
            do="Encode whole clips, or install a release of diffusers in that range.",
        )
