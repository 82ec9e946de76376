"""MolmoAct2's action expert (Ai2 2026; LeRobot ``molmoact2_hf_model``, Apache-2.0): a diffusion transformer of which
every layer reads the keys and values that the language model made in the layer of the same number.

Those keys, behind the language model's norms and rotation, and values pass two maps that all layers share. A layer
attends to its own tokens, then to them, then passes a gated network; each of the three is shifted, scaled and gated by
the level. Norms have no weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.errors import InputError
from crossroads.noise import level_from_data_forward
from crossroads.rotary import HalfTurns, frequencies, rotate_halves
from crossroads.streams import linear_flops, linear_parameters
from crossroads.towers.dit import telling
from crossroads.towers.gemma import rms_normed
from crossroads.towers.spec import QKV, Context, Crossed, Heads, KeyReading, Places, context_of


@dataclass(frozen=True, kw_only=True)
class MolmoExpert:
    """Sizes. ``context_width`` and ``key_width``: of the language model's states, and of its keys side by side;
    ``norm_context``: mapped keys and values are normed; ``norm_heads``: so are queries and keys by head; ``rotary``:
    its own tokens have places."""

    width: int
    mlp: int
    depth: int
    heads: int
    context_width: int
    key_width: int
    waves: int = 256
    norm_context: bool = True
    norm_heads: bool = True
    rotary: bool = True
    eps: float = 1e-6
    head_eps: float = 1e-6

    @property
    def geometry(self) -> Heads:
        return Heads(depth=self.depth, heads=self.heads, kv_heads=self.heads, head_dim=self.width // self.heads)

    def num_parameters(self) -> int:
        w = self.width
        layer = linear_parameters(w, 9 * w) + linear_parameters(w, 3 * w) + 3 * linear_parameters(w, w)
        layer += 2 * linear_parameters(w, self.mlp) + linear_parameters(self.mlp, w)
        frame = linear_parameters(self.waves, w) + linear_parameters(w, w) + linear_parameters(w, 2 * w)
        return self.depth * layer + frame + 2 * self.key_width * w

    def key_flops(self, num_tokens: int) -> int:
        return linear_flops(num_tokens, self.width, 2 * self.width)

    def mapping_flops(self, num_keys: int) -> int:
        """Keys and values of another tower through the maps, in one layer."""
        return 2 * linear_flops(num_keys, self.key_width, self.width)

    def layer_flops(self, num_tokens: int, context: Crossed) -> int:
        num = context.get(self.context_width, 0)
        own = linear_flops(num_tokens, self.width, 6 * self.width + 3 * self.mlp)
        return own + self.mapping_flops(num) + 2 * linear_flops(num_tokens, self.width, num)

    def frame_flops(self, num_levels: int, context: Crossed) -> int:
        """The levels, and what every layer and the last norm are told."""
        told = linear_flops(num_levels, self.waves, self.width)
        return told + linear_flops(num_levels, self.width, (1 + 9 * self.depth + 2) * self.width)


@dataclass(frozen=True, kw_only=True)
class MolmoCondition:
    """What the layers are told (after SiLU), one row for each run of ``repeats`` tokens (None: one for all); the
    rotation; which keys count; and of one layer the mapped keys and values."""

    told: Float[Tensor, "b g w"]
    repeats: Tensor | None
    turns: HalfTurns | None
    valid: Bool[Tensor, "b m"]
    keys: Float[Tensor, "b m h d"] | None = None
    values: Float[Tensor, "b m h d"] | None = None

    def parts(self, told_by: nn.Linear, num: int) -> tuple[Tensor, ...]:
        """``num`` modulating vectors for each token."""
        found = told_by(self.told)
        found = found if self.repeats is None else found.repeat_interleave(self.repeats, dim=1)
        return found.chunk(num, dim=-1)


class MolmoFrame(nn.Module, KeyReading):
    """The level, the shared maps of what is read, the modulated last norm."""

    def __init__(self, spec: MolmoExpert) -> None:
        super().__init__()
        self.spec = spec
        w = spec.width
        self.level_in, self.level_out = nn.Linear(spec.waves, w), nn.Linear(w, w)
        self.keys = nn.Linear(spec.key_width, w, bias=False)
        self.values = nn.Linear(spec.key_width, w, bias=False)
        self.told = telling(w, 2 * w)

    def condition(
        self,
        level: Float[Tensor, "b g"],
        counts: tuple[int, ...],
        places: Places,
        contexts: tuple[Context, ...],
        modulation: Tensor | None,
    ) -> MolmoCondition:
        context = context_of(contexts, self.spec.context_width)
        if context is None or modulation is not None:
            raise InputError(
                where="MolmoExpert tower",
                expected=f"a tower {self.spec.context_width} wide that is read across, and no modulate edge",
                got="a modulate edge" if modulation is not None else "none",
                do="Read the language model by cross edges.",
            )
        wave = self.waves(level_from_data_forward(level)).to(self.level_in.weight.dtype)
        told = functional.silu(self.level_out(functional.silu(self.level_in(wave))))
        even = len(counts) == 1 and level.shape[1] == 1
        turns = None
        if self.spec.rotary:
            frequency = frequencies(self.spec.geometry.head_dim, 1e4, places.index.device)
            turns = HalfTurns.of(places.index.unsqueeze(-1) * frequency)
        return MolmoCondition(
            told=told,
            repeats=None if even else torch.tensor(counts, device=level.device),
            turns=turns,
            valid=context.valid,
        )

    def waves(self, time: Float[Tensor, "b g"]) -> Float[Tensor, "b g v"]:
        """``[sin, cos](t / 10000^(i / (half - 1)))`` of the time itself, from noise (0) to data (1)."""
        half = self.spec.waves // 2
        slowing = torch.exp(torch.arange(half, device=time.device) * (-math.log(1e4) / max(1, half - 1)))
        angle = time.unsqueeze(-1) * slowing
        found = torch.cat([angle.sin(), angle.cos()], dim=-1)
        return functional.pad(found, (0, self.spec.waves - 2 * half))

    def reading(
        self, condition: object, keys: Float[Tensor, "b m c"], values: Float[Tensor, "b m c"]
    ) -> MolmoCondition:
        assert isinstance(condition, MolmoCondition)
        spec = self.spec
        mapped = (self.keys(keys), self.values(values))
        if spec.norm_context:
            mapped = tuple(rms_normed(part, 1e-6).to(part.dtype) for part in mapped)
        k, v = (rearrange(part, "b m (h d) -> b m h d", h=spec.heads) for part in mapped)
        return replace(condition, keys=_by_head(k, spec), values=v)

    def enter(self, x: Float[Tensor, "b n w"], condition: MolmoCondition) -> Float[Tensor, "b n w"]:
        return x

    def finish(self, x: Float[Tensor, "b n w"], condition: MolmoCondition) -> Float[Tensor, "b n w"]:
        shift, scale = condition.parts(self.told, 2)
        return _modulated(x, shift, scale, self.spec.eps)


class MolmoBlock(nn.Module):
    """One layer, cut in two around the softmax of its own tokens."""

    def __init__(self, spec: MolmoExpert) -> None:
        super().__init__()
        self.spec = spec
        w = spec.width
        self.told = telling(w, 9 * w)
        self.qkv, self.out = nn.Linear(w, 3 * w), nn.Linear(w, w)
        self.cross_q, self.cross_out = nn.Linear(w, w), nn.Linear(w, w)
        self.gate, self.up, self.down = nn.Linear(w, spec.mlp), nn.Linear(w, spec.mlp), nn.Linear(spec.mlp, w)

    def before(self, x: Float[Tensor, "b n w"], condition: MolmoCondition) -> tuple[QKV, tuple[Tensor, ...]]:
        shift, scale, *rest = condition.parts(self.told, 9)
        y = self.qkv(_modulated(x, shift, scale, self.spec.eps))
        q, k, v = rearrange(y, "b n (three h d) -> three b n h d", three=3, h=self.spec.heads)
        q, k = _by_head(q, self.spec), _by_head(k, self.spec)
        if condition.turns is not None:
            q, k = rotate_halves(q, condition.turns), rotate_halves(k, condition.turns)
        return QKV(q=q, k=k, v=v), tuple(rest)

    def after(
        self,
        x: Float[Tensor, "b n w"],
        attended: Float[Tensor, "b n e"],
        carry: tuple[Tensor, ...],
        condition: MolmoCondition,
    ) -> Float[Tensor, "b n w"]:
        gate, shift_cross, scale_cross, gate_cross, shift_mlp, scale_mlp, gate_mlp = carry
        x = torch.addcmul(x, gate, self.out(attended))
        y = _modulated(x, shift_cross, scale_cross, self.spec.eps)
        x = torch.addcmul(x, gate_cross, self.cross_out(self._read(y, condition)))
        y = _modulated(x, shift_mlp, scale_mlp, self.spec.eps)
        return torch.addcmul(x, gate_mlp, self.down(functional.silu(self.gate(y)) * self.up(y)))

    def _read(self, y: Float[Tensor, "b n w"], condition: MolmoCondition) -> Float[Tensor, "b n w"]:
        """What the language model's keys and values of this layer say."""
        assert condition.keys is not None
        assert condition.values is not None
        q = _by_head(rearrange(self.cross_q(y), "b n (h d) -> b n h d", h=self.spec.heads), self.spec)
        parts = (part.transpose(1, 2) for part in (q, condition.keys, condition.values))
        attended = functional.scaled_dot_product_attention(*parts, attn_mask=condition.valid[:, None, None, :])
        return rearrange(attended, "b h n d -> b n (h d)")


def _by_head(x: Float[Tensor, "b n h d"], spec: MolmoExpert) -> Float[Tensor, "b n h d"]:
    return rms_normed(x, spec.head_eps).to(x.dtype) if spec.norm_heads else x


def _modulated(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """A root-mean-square norm without weights, then scale and shift."""
    return torch.addcmul(shift, rms_normed(x, eps).to(x.dtype), 1 + scale)
