"""Transformers that mix a clip over space, then over time, then token by token: their work grows with the frames.

Genie (Bruce et al. 2024, arXiv 2402.15391, figure 4) builds all its parts of such blocks; so do 1X's open STMaskGIT
(``1xgpt``, Apache-2.0) and DreamDojo's latent action model (arXiv 2602.06949, Apache-2.0), which differ in their norms.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.streams import linear_flops, linear_parameters

THETA = 10_000.0


@dataclass(frozen=True, kw_only=True)
class SpaceTime:
    """``depth`` blocks. ``over_time``: else every frame is on its own. ``causal``: a frame reads those up to its own.

    ``rotary``: queries and keys over time are turned by the number of their frame. ``time_norm``: what goes into
    attention over time is normed first. ``qk_norm``: queries and keys are normed per head, and nothing else is.
    """

    width: int
    heads: int
    mlp: int
    depth: int
    over_time: bool = True
    causal: bool = True
    rotary: bool = False
    time_norm: bool = True
    qk_norm: bool = False
    qkv_bias: bool = False
    out_bias: bool = True
    mlp_bias: bool = True

    @property
    def head_dim(self) -> int:
        return self.width // self.heads

    def num_parameters(self) -> int:
        w = self.width
        attention = 4 * w * w + 3 * w * self.qkv_bias + w * self.out_bias + 2 * self.head_dim * self.qk_norm
        norms = 0 if self.qk_norm else 2 * w * (3 if self.over_time and self.time_norm else 2)
        mixing = 2 * w * self.mlp + (w + self.mlp) * self.mlp_bias
        return self.depth * ((2 if self.over_time else 1) * attention + norms + mixing)

    def flops(self, num_frames: int, num_tokens: int) -> int:
        """Of a clip; what is masked is counted, as it is done."""
        w, num = self.width, num_frames * num_tokens
        maps = linear_flops(num, w, 4 * w)
        space = maps + 2 * num_frames * linear_flops(num_tokens, w, num_tokens)
        time = maps + 2 * num_tokens * linear_flops(num_frames, w, num_frames) if self.over_time else 0
        return self.depth * (space + time + 2 * linear_flops(num, w, self.mlp))


class SpaceTimeNet(nn.Module):
    """The module of :class:`SpaceTime`."""

    def __init__(self, spec: SpaceTime) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(SpaceTimeBlock(spec) for _ in range(spec.depth))

    def forward(self, x: Float[Tensor, "b t n d"]) -> Float[Tensor, "b t n d"]:
        for block in self.blocks:
            x = block(x)
        return x


class SpaceTimeBlock(nn.Module):
    """One block; each part adds to what it reads."""

    def __init__(self, spec: SpaceTime) -> None:
        super().__init__()

        def norm(there: bool) -> nn.Module:
            return nn.LayerNorm(spec.width) if there and not spec.qk_norm else nn.Identity()

        self.space_norm, self.space = norm(True), Mixing(spec, causal=False, rotary=False)
        self.time_norm = norm(spec.over_time and spec.time_norm)
        self.time = Mixing(spec, causal=spec.causal, rotary=spec.rotary) if spec.over_time else None
        self.norm = norm(True)
        self.up = nn.Linear(spec.width, spec.mlp, bias=spec.mlp_bias)
        self.down = nn.Linear(spec.mlp, spec.width, bias=spec.mlp_bias)

    def forward(self, x: Float[Tensor, "b t n d"]) -> Float[Tensor, "b t n d"]:
        batch, num = x.shape[0], x.shape[2]
        mixed = self.space(self.space_norm(rearrange(x, "b t n d -> (b t) n d")))
        x = x + rearrange(mixed, "(b t) n d -> b t n d", b=batch)
        if self.time is not None:
            mixed = self.time(self.time_norm(rearrange(x, "b t n d -> (b n) t d")))
            x = x + rearrange(mixed, "(b n) t d -> b t n d", n=num)
        return x + self.down(functional.gelu(self.up(self.norm(x))))


class Mixing(nn.Module):
    """Attention of each row of tokens to itself."""

    def __init__(self, spec: SpaceTime, *, causal: bool, rotary: bool) -> None:
        super().__init__()
        self.heads, self.causal, self.rotary = spec.heads, causal, rotary
        self.qkv = nn.Linear(spec.width, 3 * spec.width, bias=spec.qkv_bias)
        self.out = nn.Linear(spec.width, spec.width, bias=spec.out_bias)
        self.qk_norm = nn.LayerNorm(spec.head_dim) if spec.qk_norm else nn.Identity()

    def forward(self, x: Float[Tensor, "g n d"]) -> Float[Tensor, "g n d"]:
        q, k, v = rearrange(self.qkv(x), "g n (three h c) -> three g h n c", three=3, h=self.heads)
        q, k = self.qk_norm(q), self.qk_norm(k)
        if self.rotary:
            q, k = turned(q), turned(k)
        attended = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(rearrange(attended, "g h n c -> g n (h c)"))


def turned(x: Float[Tensor, "g h n c"]) -> Float[Tensor, "g h n c"]:
    """Adjacent channels turned by the number of their token (RoFormer, arXiv 2104.09864)."""
    num, size = x.shape[-2:]
    frequency = THETA ** -(torch.arange(0, size, 2, dtype=torch.float64, device=x.device) / size)
    angle = torch.arange(num, device=x.device)[:, None] * frequency
    cos, sin = (part.to(x.dtype).repeat_interleave(2, dim=-1) for part in (angle.cos(), angle.sin()))
    even, odd = x[..., ::2], x[..., 1::2]
    return x * cos + torch.stack([-odd, even], dim=-1).flatten(-2) * sin


def places(num: int, width: int, device: torch.device) -> Float[Tensor, "n d"]:
    """A sinusoid of the number of each token: sine on even channels, cosine on odd ones (arXiv 1706.03762)."""
    frequency = THETA ** -(torch.arange(0, width, 2, dtype=torch.float64, device=device) / width)
    angle = torch.arange(num, device=device)[:, None] * frequency
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)[:, :width].float()


class Entering(nn.Module):
    """Numbers of a patch to a token that knows its number: normed, mapped, normed again."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.norm, self.enter, self.norm_after = nn.LayerNorm(size), nn.Linear(size, width), nn.LayerNorm(width)

    def forward(self, x: Float[Tensor, "b t n p"]) -> Float[Tensor, "b t n d"]:
        x = self.norm_after(self.enter(self.norm(x)))
        return x + places(x.shape[2], x.shape[3], x.device)

    @staticmethod
    def parameters_of(size: int, width: int) -> int:
        return 2 * size + linear_parameters(size, width) + 2 * width
