"""Still images as tokens through a vision transformer, projected into the language model (SigLIP as in PaliGemma).

Zhai et al. 2023, arXiv 2303.15343 (patch embedding, learned positions, no pooling); Beyer et al. 2024,
arXiv 2407.07726 (one linear projector, no scaling). Each camera gives its own run of tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.codecs.spec import Latent
from crossroads.streams import ViewKind, linear_flops, linear_parameters
from crossroads.types import NOTHING, Batch, Observation, Window, ahead


@dataclass(frozen=True, kw_only=True)
class Patches:
    """SigLIP over each camera: ``patch`` pixels square, ``depth`` layers of ``vision_width``."""

    cameras: tuple[str, ...]
    image_hw: tuple[int, int]
    patch: int
    depth: int
    vision_width: int
    vision_mlp: int
    heads: int
    ahead_s: tuple[float, ...] = ()
    """Each camera is seen again so many seconds later (for inverse models); `Observation.foreseeing` shows it."""

    @property
    def shown(self) -> tuple[str, ...]:
        """The pictures by name, in the order of their tokens: every camera now, then all at each later time."""
        return (*self.cameras, *(ahead(camera, time) for time in self.ahead_s for camera in self.cameras))

    @property
    def patches_hw(self) -> tuple[int, int]:
        return self.image_hw[0] // self.patch, self.image_hw[1] // self.patch

    @property
    def patches_per_camera(self) -> int:
        return self.patches_hw[0] * self.patches_hw[1]

    @property
    def tokens_per_camera(self) -> int:
        return self.patches_per_camera

    def project_size(self, width: int) -> tuple[int, int]:
        """Inputs and weights of the map into the language model."""
        return self.vision_width, linear_parameters(self.vision_width, width)

    @property
    def views(self) -> tuple[ViewKind, ...]:
        return ("now",)

    def num_tokens(self, view: ViewKind) -> int:
        return len(self.shown) * self.tokens_per_camera

    def window(self) -> Window:
        asked = {"cameras": self.cameras, "image_hw": self.image_hw, "future_s": self.ahead_s}
        return Window(**{**vars(NOTHING), **asked})

    def num_parameters(self, width: int) -> int:
        vision = self.vision_width
        norms = 2 * 2 * vision
        layer = norms + linear_parameters(vision, 3 * vision) + linear_parameters(vision, vision)
        layer += linear_parameters(vision, self.vision_mlp) + linear_parameters(self.vision_mlp, vision)
        ends = linear_parameters(3 * self.patch**2, vision) + 2 * vision + self.project_size(width)[1]
        return self.patches_per_camera * vision + self.depth * layer + ends

    def embed_flops(self, view: ViewKind, width: int) -> int:
        num, vision = self.patches_per_camera, self.vision_width
        per_layer = linear_flops(num, vision, 4 * vision) + 2 * linear_flops(num, vision, self.vision_mlp)
        attention = 2 * linear_flops(num, vision, num)
        ends = linear_flops(num, 3 * self.patch**2, vision)
        ends += linear_flops(self.tokens_per_camera, self.project_size(width)[0], width)
        return len(self.shown) * (self.depth * (per_layer + attention) + ends)

    def read_flops(self, view: ViewKind, width: int) -> int:
        return 0

    def encode_flops(self, view: ViewKind) -> int:
        return 0

    def decode_flops(self) -> int:
        return 0


@dataclass(frozen=True, kw_only=True)
class ShuffledPatches(Patches):
    """The same where squares of ``shuffle`` x ``shuffle`` patches become one token, by a map without bias (Idefics3 and
    SmolVLM2, arXiv 2504.05299). ``scaled``: times the root of the width, as SmolVLA does (arXiv 2506.01844)."""

    shuffle: int
    scaled: bool = True

    @property
    def tokens_per_camera(self) -> int:
        return self.patches_per_camera // self.shuffle**2

    def project_size(self, width: int) -> tuple[int, int]:
        joined = self.vision_width * self.shuffle**2
        return joined, joined * width


@dataclass(frozen=True, kw_only=True)
class PooledPatches(Patches):
    """The same where the mean of ``pool`` x ``pool`` patches becomes one token, by a norm and a map without bias
    (Gemma 3, arXiv 2503.19786; transformers ``Gemma3MultiModalProjector``)."""

    pool: int

    @property
    def tokens_per_camera(self) -> int:
        return self.patches_per_camera // self.pool**2

    def project_size(self, width: int) -> tuple[int, int]:
        return self.vision_width, self.vision_width * (1 + width)


class VisionLayer(nn.Module):
    """Pre-norm attention and a tanh-GELU MLP."""

    def __init__(self, width: int, mlp: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width, eps=1e-6)
        self.up = nn.Linear(width, mlp)
        self.down = nn.Linear(mlp, width)

    def forward(self, x: Float[Tensor, "b n w"]) -> Float[Tensor, "b n w"]:
        qkv = rearrange(self.qkv(self.norm_attention(x)), "b n (three h d) -> three b h n d", three=3, h=self.heads)
        attended = functional.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        x = x + self.out(rearrange(attended, "b h n d -> b n (h d)"))
        return x + self.down(functional.gelu(self.up(self.norm_mlp(x)), approximate="tanh"))


class PatchCodec(nn.Module):
    """The module of :class:`Patches`; pixels 0..255 become -1..1."""

    def __init__(self, spec: Patches, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.enter = nn.Conv2d(3, spec.vision_width, spec.patch, stride=spec.patch)
        self.position = nn.Parameter(0.5 * sincos_places(*spec.patches_hw, spec.vision_width))
        self.layers = nn.ModuleList(
            [VisionLayer(spec.vision_width, spec.vision_mlp, spec.heads) for _ in range(spec.depth)]
        )
        self.norm = nn.LayerNorm(spec.vision_width, eps=1e-6)
        self.shuffle = spec.shuffle if isinstance(spec, ShuffledPatches) else 1
        self.scale = width**0.5 if isinstance(spec, ShuffledPatches) and spec.scaled else 1.0
        self.project = nn.Linear(spec.project_size(width)[0], width, bias=not isinstance(spec, ShuffledPatches))

    def observe(self, obs: Observation) -> Latent:
        values = torch.stack([obs.images[camera] for camera in self.spec.shown], dim=1)
        num = self.spec.num_tokens("now")
        return Latent(values=values, valid=torch.ones(len(values), num, dtype=torch.bool, device=values.device))

    def target(self, batch: Batch) -> Latent:
        return self.observe(batch.obs)

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (len(self.spec.shown), *self.spec.image_hw, 3)

    def embed(self, latent: Tensor, level: Tensor) -> Float[Tensor, "b n w"]:
        pixels = rearrange(latent, "b v h w c -> (b v) c h w").to(self.position.dtype) / 127.5 - 1
        x = rearrange(self.enter(pixels), "b w h1 w1 -> b (h1 w1) w") + self.position
        for layer in self.layers:
            x = layer(x)
        return rearrange(self.projected(self.norm(x)), "(b v) n w -> b (v n) w", v=len(self.spec.shown))

    def projected(self, seen: Float[Tensor, "b n d"]) -> Float[Tensor, "b m w"]:
        """States of patches as tokens of the language model."""
        joined = rearrange(
            seen,
            "b (h p w q) d -> b (h w) (p q d)",
            w=self.spec.patches_hw[1] // self.shuffle,
            p=self.shuffle,
            q=self.shuffle,
        )
        return self.scale * self.project(joined)

    def read(self, hidden: Float[Tensor, "b n w"]) -> Tensor:
        raise AssertionError("images are inputs here: validate() refuses a recipe that predicts them through Patches")

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        rows, columns = (side // self.shuffle for side in self.spec.patches_hw)
        places = torch.cartesian_prod(
            torch.arange(len(self.spec.shown)), torch.arange(rows), torch.arange(columns)
        ).float()
        return places


class PooledPatchCodec(PatchCodec):
    """The module of :class:`PooledPatches`."""

    def __init__(self, spec: PooledPatches, width: int) -> None:
        super().__init__(spec, width)
        self.shuffle = spec.pool
        self.project = nn.Linear(spec.vision_width, width, bias=False)
        self.pooled = nn.Parameter(torch.zeros(spec.vision_width))

    def projected(self, seen: Float[Tensor, "b n d"]) -> Float[Tensor, "b m w"]:
        sizes = {"p": self.shuffle, "q": self.shuffle, "w": self.spec.patches_hw[1] // self.shuffle}
        wide = reduce(seen, "b (h p w q) d -> b (h w) d", "mean", **sizes).float()
        normed = wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + 1e-6) * (1 + self.pooled.float())
        return self.project(normed.to(seen.dtype))


def sincos_places(rows: int, columns: int, width: int) -> Float[Tensor, "n w"]:
    """Two-dimensional sinusoids, where learned positions start (Beyer et al. 2022, arXiv 2205.01580): from noise of
    SigLIP's scale a small model needs hundreds of steps before it can say where anything is."""
    frequency = 100.0 ** -(torch.arange(width // 4) / (width // 4))
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = [axis.flatten()[:, None] * frequency for axis in (y, x)]
    waves = torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1)
    return functional.pad(waves, (0, width - waves.shape[1]))  # of a width that four does not divide, the rest is zero
