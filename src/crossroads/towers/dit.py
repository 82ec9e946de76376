"""The diffusion transformer (Peebles and Xie 2023, arXiv 2212.09748, "adaLN-Zero") as UWM and PAD have it.

What the blocks are told shifts, scales and gates each of their two halves: noise levels, told as whole steps of a
discrete process, beside or on top of what was seen (UWM: Zhu et al. 2025, arXiv 2504.02792; PAD: Guo et al. 2024, arXiv
2411.18179). Tokens are known by vectors for their places, which are added on entry.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from crossroads.codecs.banks import ACTIVATIONS
from crossroads.diffusion import step_at
from crossroads.errors import InputError
from crossroads.streams import linear_flops, linear_parameters
from crossroads.towers.spec import QKV, Context, Crossed, Heads, Places, context_of, sinusoid


@dataclass(frozen=True, kw_only=True)
class Dit:
    """Sizes.

    ``num_steps``: of the processes whose levels are told. ``num_levels``: how many streams' levels the tower hears
    (``Stream.hears``); 0: each token is told its own. ``context_width`` and ``num_seen``: of the tokens that are read
    across and stand, one behind the other, in what the blocks are told; ``worded``: so does what modulates the tower.
    Where the tower hears nothing, that is added to the level instead (PAD's words). ``level_sizes``: of a level's
    waves, of the layer behind them and of what comes out. ``num_places``: learned vectors of places on one line; 0:
    fixed waves of row and column, of a token without those of its place on the line.
    ``num_ends``: so many groups have a last norm of their own, in the order of their names; 0: all have one, with a
    linear map behind it.
    """

    width: int
    mlp: int
    depth: int
    heads: int
    num_steps: int
    level_sizes: tuple[int, int, int]
    num_places: int
    num_levels: int = 0
    context_width: int = 0
    num_seen: int = 0
    worded: bool = False
    num_ends: int = 0
    gelu: Literal["none", "tanh"] = "none"
    eps: float = 1e-6

    @property
    def geometry(self) -> Heads:
        return Heads(depth=self.depth, heads=self.heads, kv_heads=self.heads, head_dim=self.width // self.heads)

    @property
    def told_width(self) -> int:
        """Of what the blocks are told."""
        if not self.num_levels:
            return self.level_sizes[2]
        return self.context_width * self.num_seen + (self.width if self.worded else 0) + self.level_sizes[2]

    @property
    def wave_width(self) -> int:
        """Of the waves of all levels together."""
        return max(1, self.num_levels) * self.level_sizes[0]

    def num_parameters(self) -> int:
        w, c = self.width, self.told_width
        layer = linear_parameters(c, 6 * w) + linear_parameters(w, 3 * w) + linear_parameters(w, w)
        layer += linear_parameters(w, self.mlp) + linear_parameters(self.mlp, w)
        told = linear_parameters(self.wave_width, self.level_sizes[1]) + linear_parameters(*self.level_sizes[1:])
        ends = max(1, self.num_ends) * linear_parameters(c, 2 * w) + (0 if self.num_ends else linear_parameters(w, w))
        return self.depth * layer + told + ends + self.num_places * w

    def key_flops(self, num_tokens: int) -> int:
        return linear_flops(num_tokens, self.width, 3 * self.width)

    def layer_flops(self, num_tokens: int, context: Crossed) -> int:
        return linear_flops(num_tokens, self.width, 4 * self.width + 2 * self.mlp)

    def frame_flops(self, num_levels: int, context: Crossed) -> int:
        """The levels, and what every half of a block and the last norms are told."""
        num = 1 if self.num_levels else num_levels
        told = linear_flops(num, self.wave_width, self.level_sizes[1]) + linear_flops(num, *self.level_sizes[1:])
        ends = linear_flops(self.num_ends or num, self.told_width, 2 * self.width)
        return told + ends + self.depth * linear_flops(num, self.told_width, 6 * self.width)

    def end_flops(self, num_tokens: int) -> int:
        """The map behind the last norm, of every token."""
        return 0 if self.num_ends else linear_flops(num_tokens, self.width, self.width)


@dataclass(frozen=True, kw_only=True)
class DitCondition:
    """What the blocks are told (after SiLU), one row for each run of tokens with a level of its own; the places."""

    told: Float[Tensor, "b g c"]
    counts: tuple[int, ...]
    places: Float[Tensor, "n 3"]

    def parts(self, told_by: nn.Module, num: int) -> tuple[Tensor, ...]:
        """``num`` modulating vectors for each token."""
        found = told_by(self.told)
        if found.shape[1] > 1:
            found = found.repeat_interleave(torch.tensor(self.counts, device=found.device), dim=1)
        return found.chunk(num, dim=-1)


class DitFrame(nn.Module):
    """Levels, places, and the last norm."""

    def __init__(self, spec: Dit) -> None:
        super().__init__()
        self.spec = spec
        w, (_, hidden, out) = spec.width, spec.level_sizes
        self.level_in, self.level_out = nn.Linear(spec.wave_width, hidden), nn.Linear(hidden, out)
        self.places = nn.Parameter(0.02 * torch.randn(spec.num_places, w)) if spec.num_places else None
        self.ends = nn.ModuleList(telling(spec.told_width, 2 * w) for _ in range(max(1, spec.num_ends)))
        self.out = nn.Identity() if spec.num_ends else nn.Linear(w, w)

    def condition(
        self,
        level: Float[Tensor, "b g"],
        counts: tuple[int, ...],
        places: Places,
        contexts: tuple[Context, ...],
        modulation: Tensor | None,
        heard: Float[Tensor, "b o"] | None = None,
    ) -> DitCondition:
        spec, weight = self.spec, self.level_in.weight
        levels = level if heard is None else heard
        waves = self._waves(step_at(levels, spec.num_steps)).to(weight.dtype)
        bend = ACTIVATIONS["mish" if spec.num_levels else "silu"]
        if heard is None:
            told = self.level_out(bend(self.level_in(waves)))
            told = told if modulation is None else told + modulation
        else:
            assert (modulation is not None) == spec.worded, "Dit.worded, and no modulate edge, or the other way round"
            beside = self._seen(contexts) + ([] if modulation is None else [modulation])
            told = self.level_out(bend(self.level_in(rearrange(waves, "b o w -> b 1 (o w)"))))
            told = torch.cat([*beside, told], dim=-1)
        return DitCondition(told=functional.silu(told), counts=counts, places=places.grid)

    def _waves(self, step: Int[Tensor, "b g"]) -> Float[Tensor, "b g w"]:
        """UWM: ``[sin, cos](t / 10000^(i / (half - 1)))``; PAD: ``[cos, sin](t / 10000^(i / half))``."""
        if not self.spec.num_levels:
            return sinusoid(step.double(), self.spec.level_sizes[0])
        half = self.spec.level_sizes[0] // 2
        steps = torch.arange(half, dtype=torch.float64, device=step.device) / (half - 1)
        angle = step.double().unsqueeze(-1) * torch.exp(-math.log(1e4) * steps)
        return torch.cat([angle.sin(), angle.cos()], dim=-1).float()

    def _seen(self, contexts: tuple[Context, ...]) -> list[Tensor]:
        """What is read across, as one vector."""
        width, num = self.spec.context_width, self.spec.num_seen
        context = context_of(contexts, width)
        if (context is None and num) or (context is not None and context.hidden.shape[1] != num):
            raise InputError(
                where="Dit tower",
                expected=f"{num} tokens {width} wide that are read across",
                got="none" if context is None else f"{context.hidden.shape[1]}",
                do="Give Dit.num_seen and context_width the number and width of what its streams read across.",
            )
        return [] if context is None else [rearrange(context.hidden, "b n w -> b 1 (n w)")]

    def enter(self, x: Float[Tensor, "b n w"], condition: DitCondition) -> Float[Tensor, "b n w"]:
        return x + self.placed(condition.places).to(x.dtype)

    def placed(self, places: Float[Tensor, "n 3"]) -> Float[Tensor, "n w"]:
        """The vector of each place: learned; or MAE's fixed ones (arXiv 2111.06377), of the column, then of the row."""
        if self.places is not None:
            return self.places[places[:, 0].long()]
        width = self.spec.width
        flat = torch.cat([_waves_of(places[:, axis].nan_to_num(), width // 2) for axis in (2, 1)], dim=-1)
        on_line = places[:, 1].isnan()
        return torch.where(on_line[:, None], _waves_of(places[:, 0], width), flat).to(places.device)

    def finish(self, x: Float[Tensor, "b n w"], condition: DitCondition) -> Float[Tensor, "b n w"]:
        if not self.spec.num_ends:
            shift, scale = condition.parts(self.ends[0], 2)
            return self.out(modulated(x, shift, scale, self.spec.eps))
        parts = []
        for run, (end, part) in enumerate(zip(self.ends, x.split(condition.counts, dim=1), strict=True)):
            told = condition.told[:, min(run, condition.told.shape[1] - 1), None]
            shift, scale = end(told).chunk(2, dim=-1)
            parts.append(modulated(part, shift, scale, self.spec.eps))
        return torch.cat(parts, dim=1)


class DitBlock(nn.Module):
    """One layer, cut in two around the softmax."""

    def __init__(self, spec: Dit) -> None:
        super().__init__()
        self.spec = spec
        w = spec.width
        self.told = telling(spec.told_width, 6 * w)
        self.qkv, self.out = nn.Linear(w, 3 * w), nn.Linear(w, w)
        self.up, self.down = nn.Linear(w, spec.mlp), nn.Linear(spec.mlp, w)

    def before(self, x: Float[Tensor, "b n w"], condition: DitCondition) -> tuple[QKV, tuple[Tensor, ...]]:
        shift, scale, *rest = condition.parts(self.told, 6)
        y = self.qkv(modulated(x, shift, scale, self.spec.eps))
        q, k, v = rearrange(y, "b n (three h d) -> three b n h d", three=3, h=self.spec.heads)
        return QKV(q=q, k=k, v=v), tuple(rest)

    def after(
        self,
        x: Float[Tensor, "b n w"],
        attended: Float[Tensor, "b n e"],
        carry: tuple[Tensor, ...],
        condition: DitCondition,
    ) -> Float[Tensor, "b n w"]:
        gate, shift, scale, gate_mlp = carry
        x = torch.addcmul(x, gate, self.out(attended))
        y = self.up(modulated(x, shift, scale, self.spec.eps))
        return torch.addcmul(x, gate_mlp, self.down(functional.gelu(y, approximate=self.spec.gelu)))


def _waves_of(place: Float[Tensor, " n"], width: int) -> Float[Tensor, "n w"]:
    """``[sin, cos](p / 10000^(i / half))``."""
    cos, sin = sinusoid(place[None], width)[0].chunk(2, dim=-1)
    return torch.cat([sin, cos], dim=-1)


def telling(inputs: int, outputs: int) -> nn.Linear:
    """What tells a norm: small at first, so that the blocks change little; published starts from exactly nothing."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer


def modulated(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """Layer norm without weights, then scale and shift."""
    return torch.addcmul(shift, functional.layer_norm(x, x.shape[-1:], eps=eps), 1 + scale)
