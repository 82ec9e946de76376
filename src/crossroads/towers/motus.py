"""The two narrow experts that Motus joins to a Wan video model: one that acts and is told levels, one that understands.

Bi et al. 2025, arXiv 2512.13030; thu-ml/Motus ``models/action_expert.py`` and ``models/und_expert.py``. Queries, keys
and values go bias-free into the video model's heads, normalised over the whole attention width; no rotation. The
acting expert adds fixed sinusoids of the place in its sequence and is modulated as Wan is; the understanding expert has
plain layer norms, no places and no final norm.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.errors import InputError
from crossroads.streams import linear_flops, linear_parameters
from crossroads.towers.spec import QKV, Context, Crossed, Heads, Places, axis_angles, sinusoid


@dataclass(frozen=True, kw_only=True)
class MotusExpert:
    """Sizes. ``acts``: the expert is told levels and places (Motus' action expert); otherwise neither (its
    understanding expert)."""

    width: int
    mlp: int
    depth: int
    heads: int
    head_dim: int
    acts: bool
    frequency_width: int = 256
    eps: float = 1e-6

    @property
    def geometry(self) -> Heads:
        return Heads(depth=self.depth, heads=self.heads, kv_heads=self.heads, head_dim=self.head_dim)

    @property
    def attention_width(self) -> int:
        return self.heads * self.head_dim

    def num_parameters(self) -> int:
        w, e = self.width, self.attention_width
        layer = 4 * w * e + 2 * e + linear_parameters(w, self.mlp) + linear_parameters(self.mlp, w)
        if not self.acts:
            return self.depth * layer
        frame = linear_parameters(self.frequency_width, w) + linear_parameters(w, w) + linear_parameters(w, 6 * w)
        return self.depth * (layer + 6 * w) + frame + 2 * w

    def key_flops(self, num_tokens: int) -> int:
        """Queries too: the three come from one product."""
        return linear_flops(num_tokens, self.width, 3 * self.attention_width)

    def layer_flops(self, num_tokens: int, context: Crossed) -> int:
        return linear_flops(num_tokens, self.width, 4 * self.attention_width + 2 * self.mlp)

    def frame_flops(self, num_levels: int, context: Crossed) -> int:
        told = linear_flops(num_levels, self.frequency_width, self.width)
        return told + linear_flops(num_levels, self.width, 7 * self.width) if self.acts else 0


@dataclass(frozen=True, kw_only=True)
class MotusCondition:
    """What every layer is told (``l`` is 1 or n), and the vector of each place; nothing for an expert that only
    understands."""

    head: Float[Tensor, "b l w"]
    block: Float[Tensor, "b l six w"]
    place: Float[Tensor, "n w"]


class MotusFrame(nn.Module):
    """Level embedding, places and the modulated head of the acting expert; nothing for the other."""

    def __init__(self, spec: MotusExpert) -> None:
        super().__init__()
        self.spec = spec
        if spec.acts:
            w = spec.width
            self.level_in = nn.Linear(spec.frequency_width, w)
            self.level_out = nn.Linear(w, w)
            self.level_project = nn.Linear(w, 6 * w)
            self.head_table = nn.Parameter(torch.randn(2, w) / w**0.5)

    def condition(
        self,
        level: Float[Tensor, "b g"],
        counts: tuple[int, ...],
        places: Places,
        contexts: tuple[Context, ...],
        modulation: Tensor | None,
    ) -> MotusCondition | None:
        if contexts or modulation is not None:
            raise InputError(
                where="MotusExpert tower",
                expected="joint edges only",
                got="a cross or modulate edge",
                do="Read the other group by a joint edge.",
            )
        if not self.spec.acts:
            return None
        wave = sinusoid(level.double() * 1000, self.spec.frequency_width)  # the reference counts levels to 1000
        told = self.level_out(functional.silu(self.level_in(wave)))
        block = rearrange(self.level_project(functional.silu(told)), "b n (six w) -> b n six w", six=6)
        if len(counts) > 1:
            repeats = torch.tensor(counts, device=told.device)
            told, block = told.repeat_interleave(repeats, dim=1), block.repeat_interleave(repeats, dim=1)
        angle = axis_angles(places.grid, (self.spec.width,), 1e4)
        return MotusCondition(head=told, block=block, place=torch.cat([angle.sin(), angle.cos()], dim=-1).float())

    def enter(self, x: Float[Tensor, "b n w"], condition: MotusCondition | None) -> Float[Tensor, "b n w"]:
        return x if condition is None else x + condition.place.to(x.dtype)

    def finish(self, x: Float[Tensor, "b n w"], condition: MotusCondition | None) -> Float[Tensor, "b n w"]:
        if condition is None:
            return x
        shift, scale = (self.head_table.float() + condition.head.float().unsqueeze(-2)).unbind(dim=-2)
        return _modulated(x, shift, scale, self.spec.eps)


class MotusBlock(nn.Module):
    """One layer, cut in two around the joint softmax."""

    def __init__(self, spec: MotusExpert) -> None:
        super().__init__()
        self.spec = spec
        w, e = spec.width, spec.attention_width
        self.qkv, self.out = nn.Linear(w, 3 * e, bias=False), nn.Linear(e, w, bias=False)
        self.norm_q, self.norm_k = nn.RMSNorm(e, eps=spec.eps), nn.RMSNorm(e, eps=spec.eps)
        self.up, self.down = nn.Linear(w, spec.mlp), nn.Linear(spec.mlp, w)
        if spec.acts:
            self.table = nn.Parameter(torch.randn(6, w) / w**0.5)

    def before(self, x: Float[Tensor, "b n w"], condition: MotusCondition | None) -> tuple[QKV, tuple[Tensor, ...]]:
        told = ()
        if condition is not None:
            told = (self.table.float() + condition.block.float()).to(x.dtype).unbind(dim=-2)
        q, k, v = self.qkv(self._normed(x, told[:2])).chunk(3, dim=-1)
        q, k, v = (flat.unflatten(-1, (self.spec.heads, -1)) for flat in (self.norm_q(q), self.norm_k(k), v))
        return QKV(q=q, k=k, v=v), told

    def after(
        self,
        x: Float[Tensor, "b n w"],
        attended: Float[Tensor, "b n e"],
        carry: tuple[Tensor, ...],
        condition: MotusCondition | None,
    ) -> Float[Tensor, "b n w"]:
        x = _added(x, self.out(attended), carry[2:3])
        y = functional.gelu(self.up(self._normed(x, carry[3:5])), approximate="tanh")
        return _added(x, self.down(y), carry[5:6])

    def _normed(self, x: Tensor, told: tuple[Tensor, ...]) -> Tensor:
        """Layer norm without weights, shifted and scaled where the expert is told a level."""
        if told:
            return _modulated(x, told[0], told[1], self.spec.eps)
        return functional.layer_norm(x.float(), x.shape[-1:], eps=self.spec.eps).to(x.dtype)


def _added(x: Tensor, more: Tensor, gate: tuple[Tensor, ...]) -> Tensor:
    return torch.addcmul(x, gate[0], more) if gate else x + more


def _modulated(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """Layer norm without weights in float32, then scale and shift."""
    return torch.addcmul(shift, functional.layer_norm(x.float(), x.shape[-1:], eps=eps), 1 + scale).to(x.dtype)
