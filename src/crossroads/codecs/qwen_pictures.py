"""Still pictures through the vision towers of Qwen2.5-VL and Qwen3-VL, squares of patches merged into one token.

Bai et al. 2025, arXiv 2502.13923 (windows, RMS norms, a gated MLP), and arXiv 2511.21631 (learned places drawn over
any grid, states of several layers for the first layers of the language model: DeepStack, arXiv 2406.04334);
transformers ``Qwen2_5_VisionTransformerPretrainedModel``, ``Qwen3VLVisionModel`` (Apache-2.0). Patches turn by row and
column. A picture takes as many places in the language model's sequence as its longer side has tokens.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Real
from torch import Tensor, nn
from torch.nn import functional

from crossroads.codecs.pixels import Patches, sincos_places
from crossroads.codecs.spec import Latent
from crossroads.errors import InputError
from crossroads.rotary import HalfTurns, frequencies, rotate_halves
from crossroads.streams import ViewKind, linear_flops, linear_parameters
from crossroads.types import Batch, Observation

FRAMES = 2
"""A patch is two frames deep; a still picture is two frames alike."""
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, kw_only=True)
class QwenPictures(Patches):
    """Each camera, ``merged`` x ``merged`` patches to a token; ``marked``: between two learned marks (the tokens
    ``<|vision_start|>`` and ``<|vision_end|>``)."""

    merged: int = 2
    marked: bool = True

    def __post_init__(self) -> None:
        side = self.patch * self.merged
        if any(pixels % side for pixels in self.image_hw) or self.vision_width % (4 * self.heads):
            raise InputError(
                where=type(self).__name__,
                expected=f"pictures of whole tokens of {side} pixels, and heads that four divides",
                got=f"{self.image_hw}, heads of {self.vision_width / self.heads:g}",
                do="Pad or resize the pictures.",
            )

    @property
    def merged_hw(self) -> tuple[int, int]:
        return self.patches_hw[0] // self.merged, self.patches_hw[1] // self.merged

    @property
    def tokens_per_camera(self) -> int:
        return self.merged_hw[0] * self.merged_hw[1] + (2 if self.marked else 0)

    @property
    def joined(self) -> int:
        """Numbers of the patches that become one token."""
        return self.vision_width * self.merged**2

    @property
    @abstractmethod
    def num_deep(self) -> int:
        """How many layers of the language model are given states of the vision tower."""

    @abstractmethod
    def layer_parameters(self) -> int:
        """Weights of one layer of the vision tower."""

    @abstractmethod
    def ends_parameters(self) -> int:
        """Norms and biases of the ends, and learned places."""

    @abstractmethod
    def layer_flops(self, layer: int) -> int:
        """One layer over one picture."""

    def num_parameters(self, width: int) -> int:
        into = linear_parameters(self.joined, self.joined) + linear_parameters(self.joined, width)
        enter = FRAMES * 3 * self.patch**2 * self.vision_width
        marks = 2 * width if self.marked else 0
        return (
            enter + self.depth * self.layer_parameters() + self.ends_parameters() + (1 + self.num_deep) * into + marks
        )

    def embed_flops(self, view: ViewKind, width: int) -> int:
        num, tokens = self.patches_per_camera, self.merged_hw[0] * self.merged_hw[1]
        into = linear_flops(tokens, self.joined, self.joined + width)
        one = linear_flops(num, 3 * self.patch**2, self.vision_width) + (1 + self.num_deep) * into
        return len(self.shown) * (one + sum(self.layer_flops(layer) for layer in range(self.depth)))


@dataclass(frozen=True, kw_only=True)
class Qwen25Pictures(QwenPictures):
    """Qwen2.5-VL's: patches attend within windows of so many along a side, but for the layers ``full``."""

    window_side: int
    full: tuple[int, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window_side % self.merged:
            raise InputError(
                where="Qwen25Pictures, window_side",
                expected=f"whole tokens of {self.merged} patches",
                got=str(self.window_side),
                do="Give the window's side in patches (112 pixels: 8 of 14).",
            )

    @property
    def num_deep(self) -> int:
        return 0

    def windows(self) -> int:
        """How many windows cover a picture; those at its lower and right edges may be cut."""
        rows, columns = (-(-side // self.window_side) for side in self.patches_hw)
        return rows * columns

    def layer_parameters(self) -> int:
        v = self.vision_width
        attention = linear_parameters(v, 3 * v) + linear_parameters(v, v)
        return 2 * v + attention + 2 * linear_parameters(v, self.vision_mlp) + linear_parameters(self.vision_mlp, v)

    def ends_parameters(self) -> int:
        return self.vision_width

    def layer_flops(self, layer: int) -> int:
        num, v = self.patches_per_camera, self.vision_width
        keys = num if layer in self.full else self.window_side**2
        asked = num if layer in self.full else self.windows() * self.window_side**2
        return linear_flops(num, v, 4 * v + 3 * self.vision_mlp) + 2 * linear_flops(asked, v, keys)


@dataclass(frozen=True, kw_only=True)
class Qwen3Pictures(QwenPictures):
    """Qwen3-VL's: learned places on a square of ``places`` x ``places``, drawn over the patches; the states behind the
    layers ``deep`` enter the first layers of the language model."""

    places: int
    deep: tuple[int, ...] = ()

    @property
    def num_deep(self) -> int:
        return len(self.deep)

    def layer_parameters(self) -> int:
        v = self.vision_width
        attention = linear_parameters(v, 3 * v) + linear_parameters(v, v)
        return 4 * v + attention + linear_parameters(v, self.vision_mlp) + linear_parameters(self.vision_mlp, v)

    def ends_parameters(self) -> int:
        v = self.vision_width
        return v + self.places**2 * v + 2 * v + self.num_deep * 2 * self.joined

    def layer_flops(self, layer: int) -> int:
        num, v = self.patches_per_camera, self.vision_width
        return linear_flops(num, v, 4 * v + 2 * self.vision_mlp) + 2 * linear_flops(num, v, num)


class RmsNorm(nn.Module):
    """``x / rms(x) * w`` in float32."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Float[Tensor, "*b w"]) -> Float[Tensor, "*b w"]:
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + 1e-6) * self.weight.float()).to(x.dtype)


class TurningLayer(nn.Module):
    """Pre-norm attention over turned patches and an MLP: RMS norms and a gated one, or layer norms and a GELU."""

    def __init__(self, spec: QwenPictures) -> None:
        super().__init__()
        w, self.heads, self.gated = spec.vision_width, spec.heads, isinstance(spec, Qwen25Pictures)
        norm = RmsNorm if self.gated else lambda width: nn.LayerNorm(width, eps=1e-6)
        self.norm_attention, self.norm_mlp = norm(w), norm(w)
        self.qkv, self.out = nn.Linear(w, 3 * w), nn.Linear(w, w)
        self.up, self.down = nn.Linear(w, spec.vision_mlp), nn.Linear(spec.vision_mlp, w)
        if self.gated:
            self.gate = nn.Linear(w, spec.vision_mlp)

    def forward(
        self, x: Float[Tensor, "b n w"], turns: HalfTurns, windows: tuple[Tensor, Bool[Tensor, "g m"]] | None
    ) -> Float[Tensor, "b n w"]:
        """``windows``: the patches of each (a patch of another where it is cut), and which of these are its own."""
        qkv = rearrange(self.qkv(self.norm_attention(x)), "b n (three h d) -> three b n h d", three=3, h=self.heads)
        q, k, v = rotate_halves(qkv[0], turns), rotate_halves(qkv[1], turns), qkv[2]
        attended = _attended(q, k, v) if windows is None else _within(q, k, v, windows)
        x = x + self.out(attended)
        y = self.norm_mlp(x)
        if self.gated:
            return x + self.down(functional.silu(self.gate(y)) * self.up(y))
        return x + self.down(functional.gelu(self.up(y), approximate="tanh"))


def _attended(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Float[Tensor, "b n w"]:
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


def _within(q: Tensor, k: Tensor, v: Tensor, windows: tuple[Tensor, Tensor]) -> Float[Tensor, "b n w"]:
    """Each window by itself; what a cut window lacks is filled up and seen by nobody."""
    (order, own), batch = windows, len(q)
    q, k, v = (rearrange(part[:, order], "b g m h d -> (b g) m h d") for part in (q, k, v))
    mask = None if bool(own.all()) else repeat(own, "g m -> (b g) 1 1 m", b=batch)
    found = rearrange(_attended(q, k, v, mask), "(b g) m w -> b (g m) w", b=batch)
    back = torch.argsort(order.flatten()[own.flatten()])
    return found[:, own.flatten()][:, back]


class Merger(nn.Module):
    """A square of patches to one token; its norm over each patch, or over all of them joined."""

    def __init__(self, spec: QwenPictures, width: int, *, norm: nn.Module, over_all: bool) -> None:
        super().__init__()
        self.merged, self.columns, self.over_all = spec.merged, spec.merged_hw[1], over_all
        self.norm = norm
        self.first, self.second = nn.Linear(spec.joined, spec.joined), nn.Linear(spec.joined, width)

    def forward(self, x: Float[Tensor, "b n v"]) -> Float[Tensor, "b m w"]:
        sizes = {"p": self.merged, "q": self.merged, "w": self.columns}
        joined = rearrange(x if self.over_all else self.norm(x), "b (h p w q) d -> b (h w) (p q d)", **sizes)
        return self.second(functional.gelu(self.first(self.norm(joined) if self.over_all else joined)))


class QwenPictureCodec(nn.Module):
    """The module of both kinds; pixels 0..255 are normed as Qwen2.5-VL's (CLIP's statistics) or Qwen3-VL's (-1..1)."""

    def __init__(self, spec: Qwen25Pictures | Qwen3Pictures, width: int) -> None:
        super().__init__()
        self.spec = spec
        v, size = spec.vision_width, 3 * FRAMES * spec.patch**2
        self.enter = nn.Linear(size, v, bias=isinstance(spec, Qwen3Pictures))
        self.layers = nn.ModuleList([TurningLayer(spec) for _ in range(spec.depth)])
        if isinstance(spec, Qwen3Pictures):
            self.position = nn.Parameter(0.5 * sincos_places(spec.places, spec.places, v))
            self.merge = Merger(spec, width, norm=nn.LayerNorm(v, eps=1e-6), over_all=False)
            self.deep = nn.ModuleList(
                [Merger(spec, width, norm=nn.LayerNorm(spec.joined, eps=1e-6), over_all=True) for _ in spec.deep]
            )
        else:
            self.merge = Merger(spec, width, norm=RmsNorm(v), over_all=False)
        if spec.marked:
            self.start, self.end = (nn.Parameter(width**-0.5 * torch.randn(1, width)) for _ in range(2))

    def observe(self, obs: Observation) -> Latent:
        values = torch.stack([obs.images[camera] for camera in self.spec.shown], dim=1)
        num = self.spec.num_tokens("now")
        return Latent(values=values, valid=torch.ones(len(values), num, dtype=torch.bool, device=values.device))

    def target(self, batch: Batch) -> Latent:
        return self.observe(batch.obs)

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (len(self.spec.shown), *self.spec.image_hw, 3)

    def embed(self, latent: Tensor, level: Tensor) -> Float[Tensor, "b n w"]:
        return self.embed_deep(latent)[0]

    def embed_deep(
        self, latent: Real[Tensor, "b v r c 3"]
    ) -> tuple[Float[Tensor, "b n w"], Float[Tensor, "deep b n w"] | None]:
        """The tokens, and what the first layers of the language model add to them, layer by layer."""
        spec, views = self.spec, latent.shape[1]
        x, turns = self.entered(rearrange(latent, "b v h w c -> (b v) c h w")), self.turns(latent.device)
        windows, deep = self.windows(latent.device), []
        for index, layer in enumerate(self.layers):
            whole = not isinstance(spec, Qwen25Pictures) or index in spec.full
            x = layer(x, turns, None if whole else windows)
            if isinstance(spec, Qwen3Pictures) and index in spec.deep:
                deep.append(self.deep[spec.deep.index(index)](x))
        tokens = self._placed(self.merge(x), views, "marks")
        return tokens, torch.stack([self._placed(part, views, "zeros") for part in deep]) if deep else None

    def entered(self, pixels: Real[Tensor, "b 3 h w"]) -> Float[Tensor, "b n v"]:
        """Patches in rows. Both frames of a still picture are alike, so their weights are added up first."""
        spec = self.spec
        weight = rearrange(
            self.enter.weight, "v (c t p q) -> v c t p q", c=3, t=FRAMES, p=spec.patch, q=spec.patch
        ).sum(dim=2)
        if isinstance(spec, Qwen25Pictures):
            mean, std = (torch.tensor(part, device=pixels.device)[:, None, None] for part in (CLIP_MEAN, CLIP_STD))
            normed = (pixels / 255 - mean) / std
        else:
            normed = pixels / 127.5 - 1
        found = functional.conv2d(normed.to(weight.dtype), weight, self.enter.bias, stride=spec.patch)
        x = rearrange(found, "b v h w -> b (h w) v")
        return x + self.places() if isinstance(spec, Qwen3Pictures) else x

    def places(self) -> Float[Tensor, "n v"]:
        """The square of learned places, drawn over the grid of patches from corner to corner."""
        assert isinstance(self.spec, Qwen3Pictures)
        square = rearrange(self.position, "(r c) v -> 1 v r c", r=self.spec.places)
        drawn = functional.interpolate(square, size=self.spec.patches_hw, mode="bilinear", align_corners=True)
        return rearrange(drawn, "1 v r c -> (r c) v")

    def turns(self, device: torch.device) -> HalfTurns:
        """A quarter of a head's channels turn by the row, a quarter by the column, each against its other half."""
        rows, columns = self.spec.patches_hw
        size = self.spec.vision_width // self.spec.heads // 2
        at = torch.cartesian_prod(torch.arange(rows, device=device), torch.arange(columns, device=device)).float()
        return HalfTurns.of((at.unsqueeze(-1) * frequencies(size, 1e4, device)).flatten(-2))

    def windows(self, device: torch.device) -> tuple[Tensor, Bool[Tensor, "g m"]] | None:
        """The patches of each window, row by row, and which of them lie in the picture."""
        if not isinstance(self.spec, Qwen25Pictures):
            return None
        side, (rows, columns) = self.spec.window_side, self.spec.patches_hw
        patches = torch.arange(rows * columns, device=device).reshape(rows, columns)
        padded = functional.pad(patches, (0, -columns % side, 0, -rows % side), value=-1)
        found = rearrange(padded, "(r p) (c q) -> (r c) (p q)", p=side, q=side)
        return found.clamp(min=0), found >= 0

    def _placed(self, x: Float[Tensor, "c m w"], views: int, around: Literal["marks", "zeros"]) -> Tensor:
        """The tokens of each camera, one camera after the other, each between its marks."""
        if self.spec.marked:
            start, end = (
                repeat(part if around == "marks" else torch.zeros_like(part), "1 w -> b 1 w", b=len(x))
                for part in (self.start, self.end)
            )
            x = torch.cat([start, x, end], dim=1)
        return rearrange(x, "(b v) n w -> b (v n) w", v=views)

    def read(self, hidden: Float[Tensor, "b n w"]) -> Tensor:
        raise AssertionError("images are inputs here: validate() refuses a recipe that predicts them")

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        rows, columns = self.spec.merged_hw
        inside = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).float()
        if self.spec.marked:
            inside = functional.pad(inside, (0, 0, 1, 1))
        cameras = torch.arange(len(self.spec.shown)).float().repeat_interleave(len(inside))
        return torch.cat([cameras[:, None], inside.repeat(len(self.spec.shown), 1)], dim=1)

    def strides(self) -> Float[Tensor, " n"]:
        """By how many places each token moves the sequence on: a picture by its longer side, at its last token."""
        rows, columns = self.spec.merged_hw
        picture = torch.zeros(rows * columns)
        picture[-1] = max(rows, columns)
        if self.spec.marked:
            picture = functional.pad(picture, (1, 1), value=1.0)
        return picture.repeat(len(self.spec.shown))
