"""The Cosmos video transformer's block: three sub-layers, each shifted, scaled and gated by the level.

Cosmos-Predict2 (arXiv 2501.03575 and NVIDIA's release; diffusers ``CosmosTransformer3DModel``): no biases, RMSNorm per
head on q and k, half-split rotary positions stretched per axis, modulation through a narrow bottleneck (AdaLN-LoRA)
that is added to one modulation shared by all layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.rotary import HalfTurns, rotate_halves
from crossroads.streams import linear_flops
from crossroads.towers.spec import QKV, Context, Crossed, Heads, Places, axis_angles, context_of, sinusoid

BASE_HZ = 24.0
"""The frame rate at which one latent is one unit of rotary time, where the switch is on (diffusers ``base_fps``)."""


@dataclass(frozen=True, kw_only=True)
class Cosmos:
    """Sizes. ``context_width`` 0: no cross-attention. ``rotary``: head channels per axis (time, row, column).

    ``stretch``: by how much each axis was extended after pretraining at a smaller size; it enlarges that axis's rotary
    base (``10000 s^(d / (d - 2))``). ``video_hz``: the temporal-rotary switch. None counts latents; a number multiplies
    their index by ``24 / video_hz``. ``modulation_width``: the bottleneck of the modulation. ``head_eps``: of the norms
    of q and k; 1e-6 in NVIDIA's code, 1e-5 in diffusers.
    """

    width: int
    mlp: int
    depth: int
    heads: int
    head_dim: int
    rotary: tuple[int, ...]
    stretch: tuple[float, ...] = (1.0, 3.0, 3.0)
    video_hz: float | None = None
    modulation_width: int = 256
    context_width: int = 0
    eps: float = 1e-6
    head_eps: float = 1e-6

    @property
    def geometry(self) -> Heads:
        return Heads(depth=self.depth, heads=self.heads, kv_heads=self.heads, head_dim=self.head_dim)

    @property
    def attention_width(self) -> int:
        return self.heads * self.head_dim

    @property
    def num_parts(self) -> int:
        """Sub-layers of a layer: self-attention, feed-forward and, where it reads across, cross-attention."""
        return 3 if self.context_width else 2

    def num_parameters(self) -> int:
        w, e, r = self.width, self.attention_width, self.modulation_width
        layer = self.num_parts * (w * r + r * 3 * w) + 4 * w * e + 2 * self.head_dim + 2 * w * self.mlp
        if self.context_width:
            layer += 2 * w * e + 2 * self.context_width * e + 2 * self.head_dim
        return self.depth * layer + w * w + w * 3 * w + w + w * r + r * 2 * w

    def key_flops(self, num_tokens: int) -> int:
        return 2 * linear_flops(num_tokens, self.width, self.attention_width)

    def layer_flops(self, num_tokens: int, context: Crossed) -> int:
        num_context = context.get(self.context_width, 0)
        projections = 4 * linear_flops(num_tokens, self.width, self.attention_width)
        feed_forward = 2 * linear_flops(num_tokens, self.width, self.mlp)
        if not num_context:
            return projections + feed_forward
        cross = 2 * linear_flops(num_tokens, self.width, self.attention_width)
        cross += 2 * linear_flops(num_context, self.context_width, self.attention_width)
        cross += 2 * linear_flops(num_tokens, self.attention_width, num_context)
        return projections + feed_forward + cross

    def frame_flops(self, num_levels: int, context: Crossed) -> int:
        """The level's embedding, and its modulation of every sub-layer and of the head."""
        parts = self.depth * (3 if context else 2)
        told = 4 * linear_flops(num_levels, self.width, self.width)
        told += (parts + 1) * linear_flops(num_levels, self.width, self.modulation_width)
        return told + (3 * parts + 2) * linear_flops(num_levels, self.modulation_width, self.width)


@dataclass(frozen=True, kw_only=True)
class CosmosCondition:
    """What every layer is told: the level (after SiLU), the modulation all layers share, the rotation, the context.

    ``told`` and ``shared`` have one row per level; ``repeats`` says how many tokens each is for (None: all tokens).
    """

    told: Float[Tensor, "b g w"]
    shared: Float[Tensor, "b g three_w"]
    repeats: Tensor | None
    turns: HalfTurns
    context: Context | None

    def modulation(self, narrow: nn.Linear, wide: nn.Linear, num: int) -> tuple[Tensor, ...]:
        """``num`` modulating vectors for each token, from a layer's own bottleneck and the shared modulation."""
        found = wide(narrow(self.told))
        found = found + self.shared[..., : found.shape[-1]]
        found = found if self.repeats is None else found.repeat_interleave(self.repeats, dim=1)
        return found.chunk(num, dim=-1)


class CosmosFrame(nn.Module):
    """Level embedding and the modulated head."""

    def __init__(self, spec: Cosmos) -> None:
        super().__init__()
        self.spec = spec
        w, r = spec.width, spec.modulation_width
        self.level_in, self.level_out = nn.Linear(w, w, bias=False), nn.Linear(w, 3 * w, bias=False)
        self.level_norm = nn.RMSNorm(w, eps=1e-6)
        self.head_narrow, self.head_wide = nn.Linear(w, r, bias=False), nn.Linear(r, 2 * w, bias=False)

    def condition(
        self,
        level: Float[Tensor, "b g"],
        counts: tuple[int, ...],
        places: Places,
        contexts: tuple[Context, ...],
        modulation: Tensor | None,
    ) -> CosmosCondition:
        wave = sinusoid(level, self.spec.width).to(self.level_in.weight.dtype)
        told = self.level_norm(wave)
        if modulation is not None:
            told = told + modulation
        grid = places.grid.double()
        if self.spec.video_hz is not None:
            grid = grid * torch.tensor([BASE_HZ / self.spec.video_hz, 1.0, 1.0], dtype=grid.dtype, device=grid.device)
        sizes = zip(self.spec.rotary, self.spec.stretch, strict=True)
        theta = tuple(1e4 * by ** (size / (size - 2)) for size, by in sizes)
        even = len(counts) == 1 and level.shape[1] == 1
        return CosmosCondition(
            told=functional.silu(told),
            shared=self.level_out(functional.silu(self.level_in(wave))),
            repeats=None if even else torch.tensor(counts, device=level.device),
            turns=HalfTurns.of(axis_angles(grid, self.spec.rotary, theta)),
            context=context_of(contexts, self.spec.context_width),
        )

    def enter(self, x: Float[Tensor, "b n w"], condition: CosmosCondition) -> Float[Tensor, "b n w"]:
        return x

    def finish(self, x: Float[Tensor, "b n w"], condition: CosmosCondition) -> Float[Tensor, "b n w"]:
        shift, scale = condition.modulation(self.head_narrow, self.head_wide, 2)
        return _modulate(x, shift, scale, self.spec.eps)


class CosmosBlock(nn.Module):
    """One layer, cut in two around the joint softmax."""

    def __init__(self, spec: Cosmos) -> None:
        super().__init__()
        self.spec = spec
        w, e, c, r = spec.width, spec.attention_width, spec.context_width, spec.modulation_width
        self.q, self.k, self.v = (nn.Linear(w, e, bias=False) for _ in range(3))
        self.out = nn.Linear(e, w, bias=False)
        self.norm_q, self.norm_k = (nn.RMSNorm(spec.head_dim, eps=spec.head_eps) for _ in range(2))
        self.narrow, self.wide = nn.Linear(w, r, bias=False), nn.Linear(r, 3 * w, bias=False)
        if c:
            self.cross_q, self.cross_out = nn.Linear(w, e, bias=False), nn.Linear(e, w, bias=False)
            self.cross_k, self.cross_v = nn.Linear(c, e, bias=False), nn.Linear(c, e, bias=False)
            self.norm_cross_q, self.norm_cross_k = (nn.RMSNorm(spec.head_dim, eps=spec.head_eps) for _ in range(2))
            self.cross_narrow, self.cross_wide = nn.Linear(w, r, bias=False), nn.Linear(r, 3 * w, bias=False)
        self.up, self.down = nn.Linear(w, spec.mlp, bias=False), nn.Linear(spec.mlp, w, bias=False)
        self.mlp_narrow, self.mlp_wide = nn.Linear(w, r, bias=False), nn.Linear(r, 3 * w, bias=False)

    def before(self, x: Float[Tensor, "b n w"], condition: CosmosCondition) -> tuple[QKV, Tensor]:
        shift, scale, gate = condition.modulation(self.narrow, self.wide, 3)
        y = _modulate(x, shift, scale, self.spec.eps)
        q, k, v = (flat.unflatten(-1, (self.spec.heads, -1)) for flat in (self.q(y), self.k(y), self.v(y)))
        q, k = rotate_halves(self.norm_q(q), condition.turns), rotate_halves(self.norm_k(k), condition.turns)
        return QKV(q=q, k=k, v=v), gate

    def after(
        self, x: Float[Tensor, "b n w"], attended: Float[Tensor, "b n e"], carry: Tensor, condition: CosmosCondition
    ) -> Float[Tensor, "b n w"]:
        x = torch.addcmul(x, carry, self.out(attended))
        if condition.context is not None:
            shift, scale, gate = condition.modulation(self.cross_narrow, self.cross_wide, 3)
            x = torch.addcmul(x, gate, self._cross(_modulate(x, shift, scale, self.spec.eps), condition.context))
        shift, scale, gate = condition.modulation(self.mlp_narrow, self.mlp_wide, 3)
        y = _modulate(x, shift, scale, self.spec.eps)
        return torch.addcmul(x, gate, self.down(functional.gelu(self.up(y))))

    def _cross(self, y: Tensor, context: Context) -> Tensor:
        """Text cross-attention; no rotation, and unlike Wan's modulated and gated."""
        q, k, v = (
            flat.unflatten(-1, (self.spec.heads, -1))
            for flat in (self.cross_q(y), self.cross_k(context.hidden), self.cross_v(context.hidden))
        )
        attended = functional.scaled_dot_product_attention(
            self.norm_cross_q(q).transpose(1, 2),
            self.norm_cross_k(k).transpose(1, 2),
            v.transpose(1, 2),
            attn_mask=context.valid[:, None, None, :],
        )
        return self.cross_out(attended.transpose(1, 2).flatten(2))


def _modulate(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """Layer norm without weights, then scale and shift, in the tower's own precision."""
    return torch.addcmul(shift, functional.layer_norm(x, x.shape[-1:], eps=eps), 1 + scale)
