"""Many features to a few: the Perceiver resampler of Flamingo (Alayrac et al. 2022, arXiv 2204.14198).

Learned latents read the features and themselves; nothing else is read, so the order of the features does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.streams import linear_flops


@dataclass(frozen=True, kw_only=True)
class Resampler:
    """``num`` latents after ``depth`` layers, each with a network four times as wide. ``marked``: a learned vector is
    added to every feature (Flamingo's, of the first picture of a sequence)."""

    num: int
    depth: int
    heads: int
    head_dim: int
    marked: bool = False

    @property
    def inner(self) -> int:
        return self.heads * self.head_dim

    def num_parameters(self, width: int) -> int:
        layer = 4 * width + 4 * width * self.inner + 2 * width + 8 * width**2
        return (self.num + self.marked) * width + self.depth * layer + 2 * width

    def flops(self, num_features: int, width: int) -> int:
        """One set of features."""
        keys = num_features + self.num
        layer = linear_flops(self.num, width, 2 * self.inner) + linear_flops(keys, width, 2 * self.inner)
        layer += 2 * linear_flops(self.num, self.inner, keys) + 2 * linear_flops(self.num, width, 4 * width)
        return self.depth * layer


class ResamplerLayer(nn.Module):
    """The latents read, then a network with an exact GELU; no biases outside of the norms."""

    def __init__(self, spec: Resampler, width: int) -> None:
        super().__init__()
        self.heads = spec.heads
        self.norm_features, self.norm_latents = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.kv = nn.Linear(width, spec.inner, bias=False), nn.Linear(width, 2 * spec.inner, bias=False)
        self.out = nn.Linear(spec.inner, width, bias=False)
        self.norm_mlp = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, features: Float[Tensor, "b n w"], latents: Float[Tensor, "b m w"]) -> Float[Tensor, "b m w"]:
        normed = self.norm_latents(latents)
        read = torch.cat([self.norm_features(features), normed], dim=1)
        q = rearrange(self.q(normed), "b m (h d) -> b h m d", h=self.heads)
        k, v = rearrange(self.kv(read), "b n (two h d) -> two b h n d", two=2, h=self.heads)
        attended = rearrange(functional.scaled_dot_product_attention(q, k, v), "b h m d -> b m (h d)")
        latents = latents + self.out(attended)
        return latents + self.down(functional.gelu(self.up(self.norm_mlp(latents))))


class ResamplerNet(nn.Module):
    """The module of :class:`Resampler`."""

    def __init__(self, spec: Resampler, width: int) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(spec.num, width))
        self.mark = nn.Parameter(torch.randn(width)) if spec.marked else None
        self.layers = nn.ModuleList([ResamplerLayer(spec, width) for _ in range(spec.depth)])
        self.norm = nn.LayerNorm(width)

    def forward(self, features: Float[Tensor, "b n w"]) -> Float[Tensor, "b m w"]:
        features = features if self.mark is None else features + self.mark
        latents = torch.stack((self.latents,) * len(features))
        for layer in self.layers:
            latents = layer(features, latents)
        return self.norm(latents)
