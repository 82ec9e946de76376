"""The transformer of DETR: places added to queries and keys in every layer, norms behind the sums or before them.

Carion et al. 2020, arXiv 2005.12872, as ACT (Zhao et al. 2023, arXiv 2304.13705) has it three times: a style encoder,
an encoder and a decoder. A decoder reads an encoder's last states across, at the places where they stand.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.errors import InputError
from crossroads.streams import linear_flops, linear_parameters
from crossroads.towers.spec import QKV, Context, Crossed, Heads, Places, Stands, context_of


@dataclass(frozen=True, kw_only=True)
class Classic:
    """Sizes. ``num_places``: learned places for so many tokens on a line beside the pictures; 0: fixed sinusoids of
    the running index. Tokens of a picture stand at fixed sinusoids of row and column. ``context_width``: of what is
    read across; 0: an encoder. ``norm_first``: norms stand before attention and network, not behind the sums.
    ``last_norm``: one more norm at the end (DETR's decoder)."""

    width: int
    mlp: int
    depth: int
    heads: int
    num_places: int = 0
    context_width: int = 0
    norm_first: bool = False
    last_norm: bool = False

    def __post_init__(self) -> None:
        if self.context_width not in (0, self.width) or self.width % self.heads or self.width % 4:
            raise InputError(
                where="Classic tower",
                expected="a width that 4 and the heads divide, and a context of the same width",
                got=f"width {self.width}, heads {self.heads}, context_width {self.context_width}",
                do="Change one of them.",
            )

    @property
    def geometry(self) -> Heads:
        return Heads(depth=self.depth, heads=self.heads, kv_heads=self.heads, head_dim=self.width // self.heads)

    @property
    def attention_width(self) -> int:
        return self.width

    def num_parameters(self) -> int:
        w = self.width
        attention = linear_parameters(w, 3 * w) + linear_parameters(w, w) + 2 * w
        layer = attention * (2 if self.context_width else 1)
        layer += linear_parameters(w, self.mlp) + linear_parameters(self.mlp, w) + 2 * w
        return self.depth * layer + self.num_places * w + (2 * w if self.last_norm else 0)

    def key_flops(self, num_tokens: int) -> int:
        return linear_flops(num_tokens, self.width, 2 * self.width)

    def layer_flops(self, num_tokens: int, context: Crossed) -> int:
        own = linear_flops(num_tokens, self.width, 4 * self.width + 2 * self.mlp)
        if not (num := sum(context.values())):
            return own
        cross = 2 * linear_flops(num_tokens, self.width, self.width) + linear_flops(num, self.width, 2 * self.width)
        return own + cross + 2 * linear_flops(num_tokens, self.width, num)

    def frame_flops(self, num_levels: int, context: Crossed) -> int:
        return 0


@dataclass(frozen=True, kw_only=True)
class ClassicCondition(Stands):
    """The place of each token, and what is read across."""

    context: Context | None


class ClassicFrame(nn.Module):
    """Where tokens stand, and perhaps a norm at the end."""

    def __init__(self, spec: Classic) -> None:
        super().__init__()
        self.spec = spec
        if spec.num_places:
            self.places = nn.Parameter(torch.randn(spec.num_places, spec.width))
        if spec.last_norm:
            self.norm = nn.LayerNorm(spec.width)

    def condition(
        self,
        level: Tensor,
        counts: tuple[int, ...],
        places: Places,
        contexts: tuple[Context, ...],
        modulation: Tensor | None,
    ) -> ClassicCondition:
        context = context_of(contexts, self.spec.context_width)
        if modulation is not None or (contexts and context is None):
            raise InputError(
                where="Classic tower",
                expected="joint edges, and cross edges of context_width",
                got="a modulate edge" if modulation is not None else "a context of another width",
                do="Read the other group by a joint or a cross edge.",
            )
        return ClassicCondition(where=self.where(places), context=context)

    def where(self, places: Places) -> Float[Tensor, "b n w"]:
        """The place of each token as a vector."""
        grid, width = places.grid, self.spec.width
        pictured = ~grid[:, 1].isnan()
        if self.spec.num_places:
            line = self.places[places.index.long().clamp(max=self.spec.num_places - 1)]
        else:
            line = interleaved(places.index, width)
        if not bool(pictured.any()):
            return line
        spread = torch.cat([interleaved(grid[None, :, axis].nan_to_num(), width // 2) for axis in (1, 2)], dim=-1)
        return torch.where(pictured[:, None], spread.to(line.dtype), line)

    def enter(self, x: Float[Tensor, "b n w"], condition: ClassicCondition) -> Float[Tensor, "b n w"]:
        return x

    def finish(self, x: Float[Tensor, "b n w"], condition: ClassicCondition) -> Float[Tensor, "b n w"]:
        return self.norm(x) if self.spec.last_norm else x


class ClassicBlock(nn.Module):
    """One layer, cut in two around the softmax."""

    def __init__(self, spec: Classic) -> None:
        super().__init__()
        self.spec = spec
        w = spec.width
        self.qkv, self.out, self.norm_attention = nn.Linear(w, 3 * w), nn.Linear(w, w), nn.LayerNorm(w)
        if spec.context_width:
            self.cross_qkv, self.cross_out, self.norm_cross = nn.Linear(w, 3 * w), nn.Linear(w, w), nn.LayerNorm(w)
        self.up, self.down, self.norm_mlp = nn.Linear(w, spec.mlp), nn.Linear(spec.mlp, w), nn.LayerNorm(w)

    def before(self, x: Float[Tensor, "b n w"], condition: ClassicCondition) -> tuple[QKV, None]:
        inner = self.norm_attention(x) if self.spec.norm_first else x
        placed = inner + condition.where.to(x.dtype)
        q, k, v = self._mapped(self.qkv, placed, placed, inner)
        return QKV(q=q, k=k, v=v), None

    def after(
        self, x: Float[Tensor, "b n w"], attended: Float[Tensor, "b n e"], carry: None, condition: ClassicCondition
    ) -> Float[Tensor, "b n w"]:
        context = condition.context
        if self.spec.norm_first:
            x = x + self.out(attended)
            if context is not None:
                x = x + self.cross_out(self._cross(self.norm_cross(x), condition, context))
            return x + self.down(functional.relu(self.up(self.norm_mlp(x))))
        x = self.norm_attention(x + self.out(attended))
        if context is not None:
            x = self.norm_cross(x + self.cross_out(self._cross(x, condition, context)))
        return self.norm_mlp(x + self.down(functional.relu(self.up(x))))

    def _mapped(self, maps: nn.Linear, *parts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each of its own input."""
        weights, biases = maps.weight.chunk(3), maps.bias.chunk(3)
        q, k, v = (
            rearrange(functional.linear(part, weight, bias), "b n (h d) -> b n h d", h=self.spec.heads)
            for part, weight, bias in zip(parts, weights, biases, strict=True)
        )
        return q, k, v

    def _cross(self, x: Tensor, condition: ClassicCondition, context: Context) -> Float[Tensor, "b n w"]:
        """Keys stand where they stood in the tower that is read; values do not."""
        placed = context.hidden if context.where is None else context.hidden + context.where.to(context.hidden.dtype)
        q, k, v = self._mapped(self.cross_qkv, x + condition.where.to(x.dtype), placed, context.hidden)
        seen: Bool[Tensor, "b 1 1 m"] = rearrange(context.valid, "b m -> b 1 1 m")
        heads = (part.transpose(1, 2) for part in (q, k, v))
        attended = functional.scaled_dot_product_attention(*heads, attn_mask=seen)
        return rearrange(attended, "b h n d -> b n (h d)")


def interleaved(value: Float[Tensor, "b n"], width: int) -> Float[Tensor, "b n w"]:
    """``sin, cos, sin, cos ...`` of ``value / 10000^(2 i / width)``, each frequency twice; angles in float64."""
    step = torch.arange(width // 2, dtype=torch.float64, device=value.device) * 2 / width
    angle = value.double().unsqueeze(-1) * 1e4**-step
    return rearrange(torch.stack([angle.sin(), angle.cos()], dim=-1), "b n i two -> b n (i two)").float()
