"""The Gemma decoder block: RMSNorm ``(1 + w)``, grouped-query softmax, gated tanh-GELU.

Gemma (arXiv 2403.08295) as PaliGemma and pi0 (arXiv 2410.24164) use it: statistics in float32, half-split rotary
positions over the running sequence index, no biases, softmax scale ``head_dim ** -0.5``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.errors import InputError
from crossroads.streams import linear_flops
from crossroads.towers.spec import QKV, Context, Crossed, Heads, Places, rotate_halves


@dataclass(frozen=True, kw_only=True)
class Gemma:
    """Sizes of a Gemma decoder."""

    width: int
    mlp: int
    depth: int
    heads: int
    kv_heads: int
    head_dim: int
    eps: float = 1e-6
    theta: float = 1e4

    @property
    def geometry(self) -> Heads:
        return Heads(depth=self.depth, heads=self.heads, kv_heads=self.kv_heads, head_dim=self.head_dim)

    def num_parameters(self) -> int:
        attention = 2 * self.width * self.head_dim * (self.heads + self.kv_heads)
        return self.depth * (attention + 3 * self.width * self.mlp + 2 * self.width) + self.width

    def key_flops(self, num_tokens: int) -> int:
        return linear_flops(num_tokens, self.width, 2 * self.kv_heads * self.head_dim)

    def layer_flops(self, num_tokens: int, context: Crossed) -> int:
        projections = 2 * linear_flops(num_tokens, self.width, self.heads * self.head_dim)
        projections += 2 * linear_flops(num_tokens, self.width, self.kv_heads * self.head_dim)
        return projections + 3 * linear_flops(num_tokens, self.width, self.mlp)

    def frame_flops(self, num_levels: int, context: Crossed) -> int:
        return 0


class GemmaNorm(nn.Module):
    """``x / rms(x) * (1 + w)`` in float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        normed = wide * torch.rsqrt(wide.pow(2).mean(dim=-1, keepdim=True) + self.eps)
        return (normed * (1 + self.weight.float())).to(x.dtype)


@dataclass(frozen=True, kw_only=True)
class GemmaCondition:
    """The rotation of each token."""

    angle: Float[Tensor, "b n half"]


class GemmaFrame(nn.Module):
    """The final norm and the rotary angles."""

    norm_of: type[GemmaNorm] = GemmaNorm

    def __init__(self, spec: Gemma) -> None:
        super().__init__()
        self.spec = spec
        self.norm = self.norm_of(spec.width, spec.eps)

    def condition(
        self,
        level: Tensor,
        counts: tuple[int, ...],
        places: Places,
        contexts: tuple[Context, ...],
        modulation: Tensor | None,
    ) -> GemmaCondition:
        if contexts or modulation is not None:
            raise InputError(
                where="Gemma tower",
                expected="joint edges only",
                got="a cross or modulate edge",
                do="Gemma has no cross-attention and no modulation: read the other group by a joint edge.",
            )
        size = self.spec.head_dim
        frequency = self.spec.theta ** (
            -torch.arange(0, size, 2, dtype=torch.float32, device=places.index.device) / size
        )
        return GemmaCondition(angle=places.index.unsqueeze(-1) * frequency)

    def enter(self, x: Float[Tensor, "b n w"], condition: GemmaCondition) -> Float[Tensor, "b n w"]:
        return x

    def finish(self, x: Float[Tensor, "b n w"], condition: GemmaCondition) -> Float[Tensor, "b n w"]:
        return self.norm(x)


class GemmaBlock(nn.Module):
    """One layer, cut in two around the joint softmax."""

    norm_of: type[GemmaNorm] = GemmaNorm

    def __init__(self, spec: Gemma) -> None:
        super().__init__()
        self.spec = spec
        w, e, g = spec.width, spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
        self.norm_attention = self.norm_of(w, spec.eps)
        self.q, self.k = nn.Linear(w, e, bias=False), nn.Linear(w, g, bias=False)
        self.v, self.out = nn.Linear(w, g, bias=False), nn.Linear(e, w, bias=False)
        self.norm_mlp = self.norm_of(w, spec.eps)
        self.gate, self.up = nn.Linear(w, spec.mlp, bias=False), nn.Linear(w, spec.mlp, bias=False)
        self.down = nn.Linear(spec.mlp, w, bias=False)

    def before(self, x: Float[Tensor, "b n w"], condition: GemmaCondition) -> tuple[QKV, None]:
        y = self.norm_attention(x)
        q = rearrange(self.q(y), "b n (h d) -> b n h d", h=self.spec.heads)
        k = rearrange(self.k(y), "b n (g d) -> b n g d", g=self.spec.kv_heads)
        v = rearrange(self.v(y), "b n (g d) -> b n g d", g=self.spec.kv_heads)
        return QKV(q=rotate_halves(q, condition.angle), k=rotate_halves(k, condition.angle), v=v), None

    def after(
        self, x: Float[Tensor, "b n w"], attended: Float[Tensor, "b n e"], carry: None, condition: GemmaCondition
    ) -> Float[Tensor, "b n w"]:
        x = x + self.out(attended)
        y = self.norm_mlp(x)
        return x + self.down(self.activated(self.gate(y)) * self.up(y))

    def activated(self, gate: Tensor) -> Tensor:
        return functional.gelu(gate, approximate="tanh")
