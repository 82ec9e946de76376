"""Still images through several vision transformers at once, whose features stand side by side in each token.

Prismatic VLMs (arXiv 2402.07865), OpenVLA (arXiv 2406.09246): DINOv2 and SigLIP over the same patches, states before
the last layer, and a network of three layers into the language model. timm's networks: exact GELU, a class token and
registers without places (DINOv2 with registers, arXiv 2309.16588), layer scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.codecs.inputs import InputCodec, InputTokens
from crossroads.codecs.pixels import VisionLayer, sincos_places
from crossroads.codecs.spec import Latent
from crossroads.streams import ViewKind, linear_flops, linear_parameters
from crossroads.types import NOTHING, Observation, Window


@dataclass(frozen=True, kw_only=True)
class VisionTower:
    """One vision transformer; ``depth`` counts the layers that are run. ``class_token``, ``registers``: learned tokens
    before the patches; ``mean`` and ``std``: of pixels from 0 to 1."""

    width: int
    mlp: int
    depth: int
    heads: int
    class_token: bool = False
    registers: int = 0
    layer_scale: bool = False
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    @property
    def marks(self) -> int:
        """Learned tokens before the patches."""
        return self.class_token + self.registers

    def num_parameters(self, patch: int, num_patches: int) -> int:
        w = self.width
        layer = 4 * w + linear_parameters(w, 3 * w) + linear_parameters(w, w) + (2 * w if self.layer_scale else 0)
        layer += linear_parameters(w, self.mlp) + linear_parameters(self.mlp, w)
        return linear_parameters(3 * patch**2, w) + (num_patches + self.marks) * w + self.depth * layer

    def flops(self, patch: int, num_patches: int) -> int:
        """One picture."""
        w, num = self.width, num_patches + self.marks
        layer = linear_flops(num, w, 4 * w + 2 * self.mlp) + 2 * linear_flops(num, w, num)
        return linear_flops(num_patches, 3 * patch**2, w) + self.depth * layer


@dataclass(frozen=True, kw_only=True)
class FusedPatches(InputTokens):
    """``towers`` over each camera, ``patch`` pixels square; ``hidden``: of the network into the language model."""

    cameras: tuple[str, ...]
    image_hw: tuple[int, int]
    patch: int
    towers: tuple[VisionTower, ...]
    hidden: int

    @property
    def patches_hw(self) -> tuple[int, int]:
        return self.image_hw[0] // self.patch, self.image_hw[1] // self.patch

    @property
    def patches_per_camera(self) -> int:
        return self.patches_hw[0] * self.patches_hw[1]

    @property
    def vision_width(self) -> int:
        return sum(tower.width for tower in self.towers)

    def num_tokens(self, view: ViewKind) -> int:
        return len(self.cameras) * self.patches_per_camera

    def window(self) -> Window:
        return Window(**{**vars(NOTHING), "cameras": self.cameras, "image_hw": self.image_hw})

    def num_parameters(self, width: int) -> int:
        towers = sum(tower.num_parameters(self.patch, self.patches_per_camera) for tower in self.towers)
        into = linear_parameters(self.vision_width, self.hidden) + linear_parameters(self.hidden, width)
        return towers + into + linear_parameters(width, width)

    def embed_flops(self, view: ViewKind, width: int) -> int:
        num = self.patches_per_camera
        towers = sum(tower.flops(self.patch, num) for tower in self.towers)
        into = linear_flops(num, self.vision_width, self.hidden) + linear_flops(num, self.hidden, width)
        return len(self.cameras) * (towers + into + linear_flops(num, width, width))


class ExactLayer(VisionLayer):
    """Pre-norm attention and an exact GELU; each half times a learned vector, where there is one."""

    def __init__(self, spec: VisionTower) -> None:
        super().__init__(spec.width, spec.mlp, spec.heads)
        self.scales = nn.Parameter(torch.full((2, spec.width), 1e-5)) if spec.layer_scale else None

    def forward(self, x: Float[Tensor, "b n w"]) -> Float[Tensor, "b n w"]:
        first, second = (1.0, 1.0) if self.scales is None else self.scales
        qkv = rearrange(self.qkv(self.norm_attention(x)), "b n (three h d) -> three b h n d", three=3, h=self.heads)
        attended = functional.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        x = x + first * self.out(rearrange(attended, "b h n d -> b n (h d)"))
        return x + second * self.down(functional.gelu(self.up(self.norm_mlp(x))))


class VisionTransformer(nn.Module):
    """The module of :class:`VisionTower`; pixels from 0 to 1."""

    def __init__(self, spec: VisionTower, patch: int, patches_hw: tuple[int, int]) -> None:
        super().__init__()
        self.spec = spec
        self.enter = nn.Conv2d(3, spec.width, patch, stride=patch)
        self.position = nn.Parameter(0.5 * sincos_places(*patches_hw, spec.width))
        sizes = {"class_token": int(spec.class_token), "registers": spec.registers}
        self.marks = nn.ParameterDict({n: 0.02 * torch.randn(num, spec.width) for n, num in sizes.items() if num})
        self.layers = nn.ModuleList([ExactLayer(spec) for _ in range(spec.depth)])

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n d"]:
        return self.with_marks(pixels)[:, self.spec.marks :]

    def with_marks(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n d"]:
        """The states of the marks, then those of the patches."""
        mean, std = (pixels.new_tensor(part).view(3, 1, 1) for part in (self.spec.mean, self.spec.std))
        return self.all_states((pixels - mean) / std)

    def states(self, normalised: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n d"]:
        """The states of the patches."""
        return self.all_states(normalised)[:, self.spec.marks :]

    def all_states(self, normalised: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n d"]:
        """The same of pixels that are normalised."""
        x = rearrange(self.enter(normalised), "b w h1 w1 -> b (h1 w1) w") + self.position
        marks = [repeat(mark, "n w -> b n w", b=len(x)) for mark in self.marks.values()]
        x = torch.cat([*marks, x], dim=1) if marks else x
        for layer in self.layers:
            x = layer(x)
        return x


class FusedPatchCodec(InputCodec):
    """The module of :class:`FusedPatches`."""

    def __init__(self, spec: FusedPatches, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.towers = nn.ModuleList([VisionTransformer(tower, spec.patch, spec.patches_hw) for tower in spec.towers])
        self.project = nn.ModuleList(
            [nn.Linear(spec.vision_width, spec.hidden), nn.Linear(spec.hidden, width), nn.Linear(width, width)]
        )

    def observe(self, obs: Observation) -> Latent:
        values = torch.stack([obs.images[camera] for camera in self.spec.cameras], dim=1)
        num = self.spec.num_tokens("now")
        return Latent(values=values, valid=torch.ones(len(values), num, dtype=torch.bool, device=values.device))

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (len(self.spec.cameras), *self.spec.image_hw, 3)

    def embed(self, latent: Tensor, level: Tensor) -> Float[Tensor, "b n w"]:
        pixels = rearrange(latent, "b v h w c -> (b v) c h w").to(next(self.project.parameters()).dtype) / 255
        seen = torch.cat([tower(pixels) for tower in self.towers], dim=-1)
        return rearrange(self.projected(seen), "(b v) n w -> b (v n) w", v=len(self.spec.cameras))

    def projected(self, seen: Float[Tensor, "b n v"]) -> Float[Tensor, "b n w"]:
        """Features of patches as tokens of the language model."""
        first, second, third = self.project
        return third(functional.gelu(second(functional.gelu(first(seen)))))

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        rows, columns = self.spec.patches_hw
        return torch.cartesian_prod(
            torch.arange(len(self.spec.cameras)), torch.arange(rows), torch.arange(columns)
        ).float()
