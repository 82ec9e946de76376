"""Still images as tokens through InternVL's vision transformer, squares of patches joined into one token each.

Chen et al. 2023, arXiv 2312.14238 (InternViT, MIT): a class token with a place of its own, layer scale, exact GELU, no
last norm, and by kind layer norms or RMS norms, biases of queries, keys and values, and norms of queries and keys over
all heads. The class token is dropped behind the last layer; patches are joined and mapped by a norm and two layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.codecs.banks import ACTIVATIONS, Activation
from crossroads.codecs.pixels import PatchCodec, Patches, sincos_places
from crossroads.codecs.resampled import MEAN, STD
from crossroads.streams import ViewKind, linear_flops, linear_parameters


@dataclass(frozen=True, kw_only=True)
class InternPictures(Patches):
    """InternViT over each camera; ``depth`` counts the layers that are run.

    ``shuffle``: so many by so many patches become one token. ``places``: rows (and columns) of the learned places,
    which are drawn over the patches of a picture of another size. ``rms``: RMS norms, not layer norms. ``biased``,
    ``normed``: biases and norms of queries and keys (of values no norm).
    """

    places: int
    shuffle: int = 2
    rms: bool = False
    biased: bool = True
    normed: bool = False
    eps: float = 1e-6
    activation: Activation = "gelu"

    @property
    def tokens_per_camera(self) -> int:
        return self.patches_per_camera // self.shuffle**2

    @property
    def joined(self) -> int:
        """Numbers of the patches that become one token."""
        return self.vision_width * self.shuffle**2

    def project_size(self, width: int) -> tuple[int, int]:
        return self.joined, 2 * self.joined + linear_parameters(self.joined, width) + linear_parameters(width, width)

    def num_parameters(self, width: int) -> int:
        v = self.vision_width
        norm = v if self.rms else 2 * v
        layer = 2 * norm + 3 * v * v + (3 * v if self.biased else 0) + (2 * v if self.normed else 0)
        layer += linear_parameters(v, v) + 2 * v
        layer += linear_parameters(v, self.vision_mlp) + linear_parameters(self.vision_mlp, v)
        ends = linear_parameters(3 * self.patch**2, v) + v + self.project_size(width)[1]
        return (self.places**2 + 1) * v + self.depth * layer + ends

    def embed_flops(self, view: ViewKind, width: int) -> int:
        num, v = self.patches_per_camera + 1, self.vision_width
        layer = linear_flops(num, v, 4 * v + 2 * self.vision_mlp) + 2 * linear_flops(num, v, num)
        ends = linear_flops(num - 1, 3 * self.patch**2, v) + linear_flops(self.tokens_per_camera, self.joined, width)
        ends += linear_flops(self.tokens_per_camera, width, width)
        return len(self.shown) * (self.depth * layer + ends)


class InternLayer(nn.Module):
    """Pre-norm attention and an MLP, each times a learned vector."""

    def __init__(self, spec: InternPictures) -> None:
        super().__init__()
        v, self.heads, self.activation = spec.vision_width, spec.heads, ACTIVATIONS[spec.activation]
        norm = nn.RMSNorm if spec.rms else nn.LayerNorm
        self.norm_attention, self.norm_mlp = norm(v, eps=spec.eps), norm(v, eps=spec.eps)
        self.qkv, self.out = nn.Linear(v, 3 * v, bias=spec.biased), nn.Linear(v, v)
        self.up, self.down = nn.Linear(v, spec.vision_mlp), nn.Linear(spec.vision_mlp, v)
        self.scales = nn.Parameter(torch.full((2, v), 0.1))
        self.norm_q = nn.RMSNorm(v, eps=spec.eps) if spec.normed else nn.Identity()
        self.norm_k = nn.RMSNorm(v, eps=spec.eps) if spec.normed else nn.Identity()

    def forward(self, x: Float[Tensor, "b n v"]) -> Float[Tensor, "b n v"]:
        q, k, v = self.qkv(self.norm_attention(x)).chunk(3, dim=-1)
        of_head = (
            rearrange(part, "b n (h d) -> b h n d", h=self.heads) for part in (self.norm_q(q), self.norm_k(k), v)
        )
        attended = functional.scaled_dot_product_attention(*of_head)
        x = x + self.scales[0] * self.out(rearrange(attended, "b h n d -> b n (h d)"))
        return x + self.scales[1] * self.down(self.activation(self.up(self.norm_mlp(x))))


class InternPictureCodec(PatchCodec):
    """The module of :class:`InternPictures`; pixels 0..255 are normed as ImageNet's."""

    def __init__(self, spec: InternPictures, width: int) -> None:
        nn.Module.__init__(self)
        self.spec: InternPictures = spec
        v, self.shuffle = spec.vision_width, spec.shuffle
        self.enter = nn.Conv2d(3, v, spec.patch, stride=spec.patch)
        self.class_token = nn.Parameter(0.02 * torch.randn(1, v))
        start = torch.cat([torch.zeros(1, v), 0.5 * sincos_places(spec.places, spec.places, v)])
        self.position = nn.Parameter(start)
        self.layers = nn.ModuleList([InternLayer(spec) for _ in range(spec.depth)])
        self.norm = nn.LayerNorm(spec.joined)
        self.first, self.second = nn.Linear(spec.joined, width), nn.Linear(width, width)

    def embed(self, latent: Tensor, level: Tensor) -> Float[Tensor, "b n w"]:
        """The tokens of each picture, one picture after the other; there may be fewer than the cameras."""
        mean, std = (torch.tensor(part, device=latent.device)[:, None, None] for part in (MEAN, STD))
        pixels = (rearrange(latent, "b v h w c -> (b v) c h w").float() / 255 - mean) / std
        x = rearrange(self.enter(pixels.to(self.position.dtype)), "b w h1 w1 -> b (h1 w1) w")
        first = repeat(self.class_token + self.position[:1], "1 w -> b 1 w", b=len(x))
        x = torch.cat([first, x + self.drawn_places()], dim=1)
        for layer in self.layers:
            x = layer(x)
        return rearrange(self.projected(x[:, 1:]), "(b v) n w -> b (v n) w", v=latent.shape[1])

    def drawn_places(self) -> Float[Tensor, "n v"]:
        """The learned places of the patches."""
        square = rearrange(self.position[1:].float(), "(r c) v -> 1 v r c", r=self.spec.places)
        drawn = functional.interpolate(square, size=self.spec.patches_hw, mode="bicubic", align_corners=False)
        return rearrange(drawn, "1 v r c -> (r c) v").to(self.position.dtype)

    def projected(self, seen: Float[Tensor, "b n d"]) -> Float[Tensor, "b m w"]:
        sizes = {"p": self.shuffle, "q": self.shuffle, "w": self.spec.patches_hw[1] // self.shuffle}
        joined = rearrange(seen, "b (h p w q) d -> b (h w) (p q d)", **sizes)
        return self.second(functional.gelu(self.first(self.norm(joined))))

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        return super().grid(view, num_tokens)[:num_tokens]
