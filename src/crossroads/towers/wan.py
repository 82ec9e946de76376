"""The Wan video transformer's block: level modulation, joint softmax, text cross-attention, feed-forward.

Wan 2.1/2.2 (arXiv 2503.20314; diffusers ``WanTransformer3DModel``): per-token levels, modulation in float32,
RMSNorm over the whole attention width of q and k, adjacent-pair rotary positions. The narrow action expert of
Fast-WAM (arXiv 2603.16666) is the same block with a one-axis rotary and its own width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Complex, Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.errors import InputError
from crossroads.streams import linear_flops, linear_parameters
from crossroads.towers.spec import (
    QKV,
    Context,
    Crossed,
    Heads,
    Places,
    axis_angles,
    context_of,
    rotate_adjacent,
    sinusoid,
    turns,
)


@dataclass(frozen=True, kw_only=True)
class Wan:
    """Sizes. ``context_width`` 0: no cross-attention. ``rotary``: head channels per axis (time, row, column).

    ``image_width``: of image tokens that the cross-attention reads as well, with keys and values of their own (Wan 2.1
    I2V reads 257 of CLIP's, 1280 wide); 0 where there are none.
    ``modulated_head``: the final norm is modulated by the level (Wan's head; Fast-WAM's action expert has none).
    ``beside_levels``: tokens beside the pictures, in a row below 0, are told their level through weights of their own
    (LingBot-VA's actions, arXiv 2601.21998).
    """

    width: int
    mlp: int
    depth: int
    heads: int
    head_dim: int
    rotary: tuple[int, ...]
    frequency_width: int = 256
    context_width: int = 0
    image_width: int = 0
    modulated_head: bool = True
    beside_levels: bool = False
    eps: float = 1e-6

    def __post_init__(self) -> None:
        if self.image_width and self.context_width in (0, self.image_width):
            raise InputError(
                where="Wan.image_width",
                expected="words to read across as well, of another width: sources are told apart by their widths",
                got=f"images {self.image_width} wide, words {self.context_width}",
                do="Change one of the two widths.",
            )

    @property
    def geometry(self) -> Heads:
        return Heads(depth=self.depth, heads=self.heads, kv_heads=self.heads, head_dim=self.head_dim)

    @property
    def attention_width(self) -> int:
        return self.heads * self.head_dim

    def num_parameters(self) -> int:
        w, e = self.width, self.attention_width
        attention = 3 * linear_parameters(w, e) + linear_parameters(e, w) + 2 * e
        feed_forward = linear_parameters(w, self.mlp) + linear_parameters(self.mlp, w)
        layer = attention + feed_forward + 6 * w
        frame = linear_parameters(self.frequency_width, w) + linear_parameters(w, w) + linear_parameters(w, 6 * w)
        frame *= 2 if self.beside_levels else 1
        if self.context_width:
            layer += attention + 2 * w
            frame += linear_parameters(self.context_width, w) + linear_parameters(w, w)
        if self.image_width:
            i = self.image_width
            layer += 2 * linear_parameters(w, e) + e
            frame += 2 * i + linear_parameters(i, i) + linear_parameters(i, w) + 2 * w
        return self.depth * layer + frame + (2 * w if self.modulated_head else 0)

    def key_flops(self, num_tokens: int) -> int:
        return 2 * linear_flops(num_tokens, self.width, self.attention_width)

    def layer_flops(self, num_tokens: int, context: Crossed) -> int:
        num_context = sum(context.values())
        projections = 4 * linear_flops(num_tokens, self.width, self.attention_width)
        feed_forward = 2 * linear_flops(num_tokens, self.width, self.mlp)
        if not num_context:
            return projections + feed_forward
        cross = 2 * linear_flops(num_tokens, self.width, self.attention_width)
        cross += 2 * linear_flops(num_context, self.width, self.attention_width)
        cross += 2 * linear_flops(num_tokens, self.attention_width, num_context)
        return projections + feed_forward + cross

    def frame_flops(self, num_levels: int, context: Crossed) -> int:
        num_context, num_images = context.get(self.context_width, 0), context.get(self.image_width, 0)
        told = linear_flops(num_levels, self.frequency_width, self.width)
        told += linear_flops(num_levels, self.width, 7 * self.width)
        text = linear_flops(num_context, self.context_width, self.width)
        images = linear_flops(num_images, self.image_width, self.image_width + self.width)
        return told + text + images + linear_flops(num_context, self.width, self.width)


@dataclass(frozen=True, kw_only=True)
class WanCondition:
    """What every layer is told: the level's modulation (``l`` is 1 or n), the rotation, the projected contexts; and
    which tokens lie on a line beside the pictures (None: there are none)."""

    head: Float[Tensor, "b l w"]
    block: Float[Tensor, "b l six w"]
    turn: Complex[Tensor, "n half"]
    context: Context | None
    images: Context | None
    line: Bool[Tensor, " n"] | None


class WanFrame(nn.Module):
    """Level embedding, context projection and the modulated head."""

    def __init__(self, spec: Wan) -> None:
        super().__init__()
        self.spec = spec
        w = spec.width
        self.level_in = nn.Linear(spec.frequency_width, w)
        self.level_out = nn.Linear(w, w)
        self.level_project = nn.Linear(w, 6 * w)
        if spec.beside_levels:
            self.beside_level_in = nn.Linear(spec.frequency_width, w)
            self.beside_level_out = nn.Linear(w, w)
            self.beside_level_project = nn.Linear(w, 6 * w)
        if spec.context_width:
            self.context_in = nn.Linear(spec.context_width, w)
            self.context_out = nn.Linear(w, w)
        if spec.image_width:
            i = spec.image_width
            self.image_norm_in, self.image_norm_out = nn.LayerNorm(i), nn.LayerNorm(w)
            self.image_in, self.image_out = nn.Linear(i, i), nn.Linear(i, w)
        if spec.modulated_head:
            self.head_table = nn.Parameter(torch.randn(2, w) / w**0.5)

    def condition(
        self,
        level: Float[Tensor, "b g"],
        counts: tuple[int, ...],
        places: Places,
        contexts: tuple[Context, ...],
        modulation: Tensor | None,
    ) -> WanCondition:
        told, block = self._told(level, counts, places, modulation)
        if len(counts) > 1 or told.shape[1] != 1:
            repeats = torch.tensor(counts, device=told.device)
            told, block = told.repeat_interleave(repeats, dim=1), block.repeat_interleave(repeats, dim=1)
        context = context_of(contexts, self.spec.context_width)
        if context is not None:
            hidden = self.context_out(functional.gelu(self.context_in(context.hidden), approximate="tanh"))
            context = Context(hidden=hidden, valid=context.valid)
        images = context_of(contexts, self.spec.image_width)
        if images is not None:
            hidden = self.image_out(functional.gelu(self.image_in(self.image_norm_in(images.hidden))))
            images = Context(hidden=self.image_norm_out(hidden), valid=images.valid)
        line = places.grid[:, 1].isnan()
        beside = line if len(self.spec.rotary) > 1 and bool(line.any()) else None
        turn = turns(self._angles(places.grid, beside))
        return WanCondition(head=told, block=block, turn=turn, context=context, images=images, line=beside)

    def _told(
        self, level: Float[Tensor, "b g"], counts: tuple[int, ...], places: Places, modulation: Tensor | None
    ) -> tuple[Float[Tensor, "b g w"], Float[Tensor, "b g six w"]]:
        """What each run of tokens is told: by the pictures' weights, or by those of what stands beside them."""
        pictures = (self.level_in, self.level_out, self.level_project)
        if not self.spec.beside_levels:
            return self._told_by(*pictures, level, modulation)
        beside = (self.beside_level_in, self.beside_level_out, self.beside_level_project)
        first = torch.tensor((0, *counts[:-1])).cumsum(dim=0)
        below = places.grid[first.to(level.device), 1] < 0
        runs = [(~below).nonzero().flatten(), below.nonzero().flatten()]
        parts = [
            self._told_by(*weights, level[:, run], modulation)
            for weights, run in zip((pictures, beside), runs, strict=True)
            if len(run)
        ]
        back = torch.cat(runs).argsort()
        told, block = (torch.cat(found, dim=1)[:, back] for found in zip(*parts, strict=True))
        return told, block

    @staticmethod
    def _told_by(
        into: nn.Linear, out: nn.Linear, project: nn.Linear, level: Float[Tensor, "b g"], modulation: Tensor | None
    ) -> tuple[Float[Tensor, "b g w"], Float[Tensor, "b g six w"]]:
        wave = sinusoid(level.double() * 1000, into.in_features)  # the reference counts levels to 1000
        told = out(functional.silu(into(wave)))
        if modulation is not None:
            told = told + modulation
        return told, rearrange(project(functional.silu(told)), "b n (six w) -> b n six w", six=6)

    def _angles(self, grid: Float[Tensor, "n 3"], beside: Bool[Tensor, " n"] | None) -> Float[Tensor, "n half"]:
        """Tokens on a line turn by their place along it, over the whole head (DreamZero's actions and states)."""
        angles = axis_angles(grid, self.spec.rotary, 1e4)
        if beside is None:
            return angles
        return torch.where(beside[:, None], axis_angles(grid, (sum(self.spec.rotary),), 1e4), angles)

    def enter(self, x: Float[Tensor, "b n w"], condition: WanCondition) -> Float[Tensor, "b n w"]:
        return x

    def finish(self, x: Float[Tensor, "b n w"], condition: WanCondition) -> Float[Tensor, "b n w"]:
        """The norm before the head is the pictures': what lies beside them leaves as it is (DreamZero's actions)."""
        if not self.spec.modulated_head:
            return x
        shift, scale = (self.head_table.float() + condition.head.float().unsqueeze(-2)).unbind(dim=-2)
        normed = _modulate(x, shift, scale, self.spec.eps)
        return normed if condition.line is None else torch.where(condition.line[:, None], x, normed)


class WanBlock(nn.Module):
    """One layer, cut in two around the joint softmax."""

    def __init__(self, spec: Wan) -> None:
        super().__init__()
        self.spec = spec
        w, e = spec.width, spec.attention_width
        self.q, self.k, self.v, self.out = nn.Linear(w, e), nn.Linear(w, e), nn.Linear(w, e), nn.Linear(e, w)
        self.norm_q, self.norm_k = nn.RMSNorm(e, eps=spec.eps), nn.RMSNorm(e, eps=spec.eps)
        if spec.context_width:
            self.norm_cross = nn.LayerNorm(w, eps=spec.eps)
            self.cross_q, self.cross_k = nn.Linear(w, e), nn.Linear(w, e)
            self.cross_v, self.cross_out = nn.Linear(w, e), nn.Linear(e, w)
            self.norm_cross_q, self.norm_cross_k = nn.RMSNorm(e, eps=spec.eps), nn.RMSNorm(e, eps=spec.eps)
        if spec.image_width:
            self.image_k, self.image_v = nn.Linear(w, e), nn.Linear(w, e)
            self.norm_image_k = nn.RMSNorm(e, eps=spec.eps)
        self.up, self.down = nn.Linear(w, spec.mlp), nn.Linear(spec.mlp, w)
        self.table = nn.Parameter(torch.randn(6, w) / w**0.5)

    def before(self, x: Float[Tensor, "b n w"], condition: WanCondition) -> tuple[QKV, tuple[Tensor, ...]]:
        told = (
            (self.table.float() + condition.block.float()).to(x.dtype).unbind(dim=-2)
        )  # six slices cost six zero fills
        y = _modulate(x, told[0], told[1], self.spec.eps)
        q, k, v = (
            flat.unflatten(-1, (self.spec.heads, -1))
            for flat in (self.norm_q(self.q(y)), self.norm_k(self.k(y)), self.v(y))
        )
        return QKV(q=rotate_adjacent(q, condition.turn), k=rotate_adjacent(k, condition.turn), v=v), told

    def after(
        self,
        x: Float[Tensor, "b n w"],
        attended: Float[Tensor, "b n e"],
        carry: tuple[Tensor, ...],
        condition: WanCondition,
    ) -> Float[Tensor, "b n w"]:
        told = carry
        x = torch.addcmul(x, told[2], self.out(attended))
        if condition.context is not None:
            x = x + self._cross(x, condition.context, condition.images)
        y = _modulate(x, told[3], told[4], self.spec.eps)
        return torch.addcmul(x, told[5], self.down(functional.gelu(self.up(y), approximate="tanh")))

    def _cross(self, x: Tensor, context: Context, images: Context | None) -> Tensor:
        """Cross-attention to words and, with the same queries, to images: no gate, no rotation, no modulation."""
        q = self.norm_cross_q(self.cross_q(self.norm_cross(x)))
        words = (self.norm_cross_k(self.cross_k(context.hidden)), self.cross_v(context.hidden))
        attended = self._read(q, *words, context.valid)
        if images is not None:
            pictures = (self.norm_image_k(self.image_k(images.hidden)), self.image_v(images.hidden))
            attended = attended + self._read(q, *pictures, images.valid)
        return self.cross_out(attended)

    def _read(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor) -> Tensor:
        """One softmax over one context."""
        heads = (rearrange(flat, "b n (h d) -> b h n d", h=self.spec.heads) for flat in (q, k, v))
        attended = functional.scaled_dot_product_attention(*heads, attn_mask=rearrange(valid, "b m -> b 1 1 m"))
        return rearrange(attended, "b h n d -> b n (h d)")


def _modulate(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """Layer norm without weights in float32, then scale and shift."""
    normed = functional.layer_norm(x.float(), x.shape[-1:], eps=eps)
    return torch.addcmul(shift, normed, 1 + scale).to(x.dtype)
