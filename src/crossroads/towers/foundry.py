"""The transformer of VLA Foundry (TRI 2026, arXiv 2604.19728; MIT): a language model's block without biases.

Layer norms of several kinds before attention and network, rotary places over the running index, a gated or a plain
network. As an action head its last norm and its vocabulary are not used: what is read is the last layer's output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.errors import InputError
from crossroads.rotary import HalfTurns, rotate_halves
from crossroads.streams import linear_flops
from crossroads.towers.gemma import rms_normed
from crossroads.towers.spec import QKV, Context, Crossed, Heads, Places

NormKind = Literal["layer", "gain", "bare", "rms"]
NUM_WEIGHTS: dict[NormKind, int] = {"layer": 2, "gain": 1, "bare": 0, "rms": 1}
"""Vectors of weights in a norm: a layer norm's gain and shift, its gain alone, none; a root mean square's gain."""


@dataclass(frozen=True, kw_only=True)
class Foundry:
    """Sizes. ``norm``: of which kind all norms are; ``gated``: SwiGLU, else exact GELU; ``norm_heads``: queries and
    keys are normed, across all heads; ``norm_in``: so is what enters; ``rotary``: tokens have places."""

    width: int
    mlp: int
    depth: int
    heads: int
    norm: NormKind = "layer"
    eps: float = 1e-5
    gated: bool = True
    norm_heads: bool = False
    norm_in: bool = False
    rotary: bool = True
    theta: float = 1e4

    @property
    def geometry(self) -> Heads:
        return Heads(depth=self.depth, heads=self.heads, kv_heads=self.heads, head_dim=self.width // self.heads)

    @property
    def num_maps(self) -> int:
        """Maps of the network in a layer."""
        return 3 if self.gated else 2

    def num_parameters(self) -> int:
        w, norm = self.width, NUM_WEIGHTS[self.norm] * self.width
        layer = 4 * w * w + self.num_maps * w * self.mlp + (4 if self.norm_heads else 2) * norm
        return self.depth * layer + (norm if self.norm_in else 0)

    def key_flops(self, num_tokens: int) -> int:
        return linear_flops(num_tokens, self.width, 2 * self.width)

    def layer_flops(self, num_tokens: int, context: Crossed) -> int:
        return linear_flops(num_tokens, self.width, 4 * self.width + self.num_maps * self.mlp)

    def frame_flops(self, num_levels: int, context: Crossed) -> int:
        return 0


class FoundryNorm(nn.Module):
    """A norm of one kind."""

    def __init__(self, spec: Foundry) -> None:
        super().__init__()
        self.spec = spec
        num = NUM_WEIGHTS[spec.norm]
        self.weight = nn.Parameter(torch.ones(spec.width)) if num else None
        self.bias = nn.Parameter(torch.zeros(spec.width)) if num > 1 else None

    def forward(self, x: Float[Tensor, "b n w"]) -> Float[Tensor, "b n w"]:
        if self.spec.norm == "rms":
            assert self.weight is not None
            return (rms_normed(x, self.spec.eps) * self.weight.float()).to(x.dtype)
        return functional.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.spec.eps)


@dataclass(frozen=True, kw_only=True)
class FoundryCondition:
    """The rotation of each token; None where tokens have no places."""

    turns: HalfTurns | None


class FoundryFrame(nn.Module):
    """The rotary angles, perhaps a norm on entry, nothing at the end."""

    def __init__(self, spec: Foundry) -> None:
        super().__init__()
        self.spec = spec
        self.norm_in = FoundryNorm(spec) if spec.norm_in else nn.Identity()

    def condition(
        self,
        level: Tensor,
        counts: tuple[int, ...],
        places: Places,
        contexts: tuple[Context, ...],
        modulation: Tensor | None,
    ) -> FoundryCondition:
        if contexts or modulation is not None:
            raise InputError(
                where="Foundry tower",
                expected="joint edges only",
                got="a cross or modulate edge",
                do="Read the other group by a joint edge, or hand its states on as tokens.",
            )
        if not self.spec.rotary:
            return FoundryCondition(turns=None)
        size = self.spec.geometry.head_dim
        steps = torch.arange(0, size, 2, dtype=torch.float32, device=places.index.device) / size
        return FoundryCondition(turns=HalfTurns.of(places.index.unsqueeze(-1) * self.spec.theta**-steps))

    def enter(self, x: Float[Tensor, "b n w"], condition: FoundryCondition) -> Float[Tensor, "b n w"]:
        return self.norm_in(x)

    def finish(self, x: Float[Tensor, "b n w"], condition: FoundryCondition) -> Float[Tensor, "b n w"]:
        return x


class FoundryBlock(nn.Module):
    """One layer, cut in two around the softmax."""

    def __init__(self, spec: Foundry) -> None:
        super().__init__()
        self.spec = spec
        w = spec.width
        self.norm_attention, self.norm_mlp = FoundryNorm(spec), FoundryNorm(spec)
        self.norm_q = FoundryNorm(spec) if spec.norm_heads else nn.Identity()
        self.norm_k = FoundryNorm(spec) if spec.norm_heads else nn.Identity()
        self.qkv, self.out = nn.Linear(w, 3 * w, bias=False), nn.Linear(w, w, bias=False)
        self.up = nn.Linear(w, (2 if spec.gated else 1) * spec.mlp, bias=False)
        self.down = nn.Linear(spec.mlp, w, bias=False)

    def before(self, x: Float[Tensor, "b n w"], condition: FoundryCondition) -> tuple[QKV, None]:
        q, k, v = self.qkv(self.norm_attention(x)).chunk(3, dim=-1)
        q, k, v = (
            rearrange(part, "b n (h d) -> b n h d", h=self.spec.heads) for part in (self.norm_q(q), self.norm_k(k), v)
        )
        if condition.turns is not None:
            q, k = rotate_halves(q, condition.turns), rotate_halves(k, condition.turns)
        return QKV(q=q, k=k, v=v), None

    def after(
        self, x: Float[Tensor, "b n w"], attended: Float[Tensor, "b n e"], carry: None, condition: FoundryCondition
    ) -> Float[Tensor, "b n w"]:
        x = x + self.out(attended)
        y = self.up(self.norm_mlp(x))
        if not self.spec.gated:
            return x + self.down(functional.gelu(y))
        gate, up = y.chunk(2, dim=-1)
        return x + self.down(functional.silu(gate) * up)
