"""The Gemma decoder block: RMSNorm ``(1 + w)``, grouped-query softmax, gated tanh-GELU.

Gemma (arXiv 2403.08295) as PaliGemma and pi0 (arXiv 2410.24164) use it: statistics in float32, half-split rotary
positions over the running sequence index, no biases, softmax scale ``head_dim ** -0.5``. The action expert of pi0.5
(arXiv 2504.16054; openpi ``GemmaRMSNorm`` with a condition) is the same block with norms that are told the level.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.errors import InputError
from crossroads.rotary import HalfTurns, frequencies, rotate_halves
from crossroads.streams import linear_flops, linear_parameters
from crossroads.towers.spec import QKV, Context, Crossed, Heads, Places, Unlevelled, level_sinusoid


@dataclass(frozen=True, kw_only=True)
class Gemma:
    """Sizes of a Gemma decoder. ``adaptive``: its norms have no weights of their own, but a scale, a shift and a gate
    that the token's level gives them (adaRMS). ``normed``: queries and keys pass a norm over each head
    (Gemma 3, Qwen3)."""

    width: int
    mlp: int
    depth: int
    heads: int
    kv_heads: int
    head_dim: int
    eps: float = 1e-6
    theta: float = 1e4
    adaptive: bool = False
    normed: bool = False

    @property
    def geometry(self) -> Heads:
        return Heads(depth=self.depth, heads=self.heads, kv_heads=self.kv_heads, head_dim=self.head_dim)

    def num_parameters(self) -> int:
        w = self.width
        attention = 2 * w * self.head_dim * (self.heads + self.kv_heads)
        norm = linear_parameters(w, 3 * w) if self.adaptive else w
        told = 2 * linear_parameters(w, w) if self.adaptive else 0
        attention += 2 * self.head_dim if self.normed else 0
        return self.depth * (attention + 3 * w * self.mlp + 2 * norm) + norm + told

    def key_flops(self, num_tokens: int) -> int:
        return linear_flops(num_tokens, self.width, 2 * self.kv_heads * self.head_dim)

    def layer_flops(self, num_tokens: int, context: Crossed) -> int:
        projections = 2 * linear_flops(num_tokens, self.width, self.heads * self.head_dim)
        projections += 2 * linear_flops(num_tokens, self.width, self.kv_heads * self.head_dim)
        return projections + 3 * linear_flops(num_tokens, self.width, self.mlp)

    def frame_flops(self, num_levels: int, context: Crossed) -> int:
        """The level's embedding, and what it gives the norms of every layer and the last one."""
        if not self.adaptive:
            return 0
        return linear_flops(num_levels, self.width, (2 + 3 * (2 * self.depth + 1)) * self.width)


@dataclass(frozen=True, kw_only=True)
class GemmaCondition:
    """The rotation of each token; for an adaptive decoder the embedded level, one row per run of ``repeats`` tokens
    (None: one row for all tokens)."""

    turns: HalfTurns
    told: Float[Tensor, "b g w"] | None = None
    repeats: Tensor | None = None


class UntoldCondition(GemmaCondition, Unlevelled):
    """That of a decoder which is not adaptive."""


def rms_normed(x: Float[Tensor, "*b w"], eps: float) -> Float[Tensor, "*b w"]:
    """``x / rms(x)`` in float32."""
    wide = x.float()
    return wide * torch.rsqrt(wide.pow(2).mean(dim=-1, keepdim=True) + eps)


class GemmaNorm(nn.Module):
    """``x / rms(x) * (1 + w)`` over the last axis, in float32; there is no gate (None)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, x: Tensor, condition: GemmaCondition) -> tuple[Tensor, None]:
        return (rms_normed(x, self.eps) * (1 + self.weight.float())).to(x.dtype), None


class AdaptiveNorm(nn.Module):
    """``x / rms(x) * (1 + scale) + shift`` in float32, and the gate of what follows; all three are linear in the
    embedded level and start at zero, so that a fresh decoder passes its tokens on unchanged."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.told = nn.Linear(width, 3 * width)
        nn.init.zeros_(self.told.weight)
        nn.init.zeros_(self.told.bias)
        self.eps = eps

    def forward(self, x: Tensor, condition: GemmaCondition) -> tuple[Tensor, Tensor]:
        found = self.told(condition.told)
        found = found if condition.repeats is None else found.repeat_interleave(condition.repeats, dim=1)
        scale, shift, gate = found.chunk(3, dim=-1)
        return torch.addcmul(shift.float(), rms_normed(x, self.eps), 1 + scale.float()).to(x.dtype), gate


def gemma_norm(spec: Gemma, plain: type[GemmaNorm]) -> GemmaNorm | AdaptiveNorm:
    """The kind of norm that a decoder has; ``plain`` where it is not told the level."""
    return (AdaptiveNorm if spec.adaptive else plain)(spec.width, spec.eps)


def added(x: Tensor, change: Tensor, gate: Tensor | None) -> Tensor:
    """The residual stream after a sub-layer."""
    return x + change if gate is None else torch.addcmul(x, gate, change)


class GemmaFrame(nn.Module):
    """The final norm, the rotary angles and, for an adaptive decoder, the level's embedding."""

    norm_of: type[GemmaNorm] = GemmaNorm

    def __init__(self, spec: Gemma) -> None:
        super().__init__()
        self.spec = spec
        self.norm = gemma_norm(spec, self.norm_of)
        if spec.adaptive:
            self.level_in, self.level_out = nn.Linear(spec.width, spec.width), nn.Linear(spec.width, spec.width)

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
        turns = self.turned(places)
        if not self.spec.adaptive:
            return UntoldCondition(turns=turns)
        even = len(counts) == 1 and level.shape[1] == 1
        repeats = None if even else torch.tensor(counts, device=level.device)
        return GemmaCondition(turns=turns, told=self.told(level), repeats=repeats)

    def turned(self, places: Places) -> HalfTurns:
        """By how much each token is rotated."""
        frequency = frequencies(self.spec.head_dim, self.spec.theta, places.index.device)
        return HalfTurns.of(places.index.unsqueeze(-1) * frequency)

    def told(self, level: Float[Tensor, "b g"]) -> Float[Tensor, "b g w"]:
        """The embedded level that all norms are given (openpi ``time_mlp_in``, ``time_mlp_out``)."""
        wave = level_sinusoid(level, self.spec.width).to(self.level_in.weight.dtype)
        return functional.silu(self.level_out(functional.silu(self.level_in(wave))))

    def enter(self, x: Float[Tensor, "b n w"], condition: GemmaCondition) -> Float[Tensor, "b n w"]:
        return x

    def finish(self, x: Float[Tensor, "b n w"], condition: GemmaCondition) -> Float[Tensor, "b n w"]:
        return self.norm(x, condition)[0]


class GemmaBlock(nn.Module):
    """One layer, cut in two around the joint softmax."""

    norm_of: type[GemmaNorm] = GemmaNorm

    def __init__(self, spec: Gemma) -> None:
        super().__init__()
        self.spec = spec
        w, e, g = spec.width, spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
        self.norm_attention = gemma_norm(spec, self.norm_of)
        self.q, self.k = nn.Linear(w, e, bias=False), nn.Linear(w, g, bias=False)
        self.v, self.out = nn.Linear(w, g, bias=False), nn.Linear(e, w, bias=False)
        if spec.normed:
            self.norm_q, self.norm_k = self.norm_of(spec.head_dim, spec.eps), self.norm_of(spec.head_dim, spec.eps)
        self.norm_mlp = gemma_norm(spec, self.norm_of)
        self.gate, self.up = nn.Linear(w, spec.mlp, bias=False), nn.Linear(w, spec.mlp, bias=False)
        self.down = nn.Linear(spec.mlp, w, bias=False)

    def before(self, x: Float[Tensor, "b n w"], condition: GemmaCondition) -> tuple[QKV, Tensor | None]:
        """What is carried on is the gate of the attention, where there is one."""
        y, gate = self.norm_attention(x, condition)
        of_head = (*y.shape[:2], -1, self.spec.head_dim)
        q, k, v = self.q(y).view(of_head), self.k(y).view(of_head), self.v(y).view(of_head)
        if self.spec.normed:
            q, k = self.norm_q(q, condition)[0], self.norm_k(k, condition)[0]
        turns = self.turning(condition)
        return QKV(q=rotate_halves(q, turns), k=rotate_halves(k, turns), v=v), gate

    def turning(self, condition: GemmaCondition) -> HalfTurns:
        """By how much this layer rotates."""
        return condition.turns

    def after(
        self,
        x: Float[Tensor, "b n w"],
        attended: Float[Tensor, "b n e"],
        carry: Tensor | None,
        condition: GemmaCondition,
    ) -> Float[Tensor, "b n w"]:
        x = added(x, self.out(attended), carry)
        y, gate = self.norm_mlp(x, condition)
        return added(x, self.down(self.activated(self.gate(y)) * self.up(y)), gate)

    def activated(self, gate: Tensor) -> Tensor:
        return functional.gelu(gate, approximate="tanh")
