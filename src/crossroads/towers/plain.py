"""A plain pre-norm transformer: the nano text encoder, and the tower of cloning from scratch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.errors import InputError
from crossroads.streams import linear_flops, linear_parameters
from crossroads.towers.spec import QKV, Context, Crossed, Heads, Places, axis_angles


@dataclass(frozen=True, kw_only=True)
class Plain:
    """Sizes. Positions are fixed sinusoids of the sequence index added on entry."""

    width: int
    mlp: int
    depth: int
    heads: int

    @property
    def geometry(self) -> Heads:
        return Heads(depth=self.depth, heads=self.heads, kv_heads=self.heads, head_dim=self.width // self.heads)

    def num_parameters(self) -> int:
        w = self.width
        layer = 4 * w + linear_parameters(w, 3 * w) + linear_parameters(w, w)
        layer += linear_parameters(w, self.mlp) + linear_parameters(self.mlp, w)
        return self.depth * layer + 2 * w

    def key_flops(self, num_tokens: int) -> int:
        return linear_flops(num_tokens, self.width, 2 * self.width)

    def layer_flops(self, num_tokens: int, context: Crossed) -> int:
        return linear_flops(num_tokens, self.width, 4 * self.width + 2 * self.mlp)

    def frame_flops(self, num_levels: int, context: Crossed) -> int:
        return 0


@dataclass(frozen=True, kw_only=True)
class Adapter(Plain):
    """The same layers behind a norm and without places, over states of a vision-language model (GR00T N1,
    arXiv 2503.14734: ``vlln`` and ``vl_self_attention``)."""


@dataclass(frozen=True, kw_only=True)
class Gpt(Plain):
    """The same layers behind a norm, with a learned vector for each of ``num_steps`` steps of time instead of places;
    a token without a time is given none (GR-1, arXiv 2312.13139; Seer, arXiv 2412.15109)."""

    num_steps: int
    activation: Literal["gelu", "relu"] = "gelu"

    def num_parameters(self) -> int:
        return super().num_parameters() + (2 + self.num_steps) * self.width


@dataclass(frozen=True, kw_only=True)
class PlainCondition:
    """The position vector of each token."""

    position: Float[Tensor, "b n w"]


class PlainFrame(nn.Module):
    """Positions on entry, a layer norm at the end."""

    def __init__(self, spec: Plain) -> None:
        super().__init__()
        self.spec = spec
        self.norm = nn.LayerNorm(spec.width)

    def condition(
        self,
        level: Tensor,
        counts: tuple[int, ...],
        places: Places,
        contexts: tuple[Context, ...],
        modulation: Tensor | None,
    ) -> PlainCondition:
        if contexts or modulation is not None:
            raise InputError(
                where="Plain tower",
                expected="joint edges only",
                got="a cross or modulate edge",
                do="Read the other group by a joint edge, or use a tower with cross-attention.",
            )
        flat = rearrange(places.index, "b n -> (b n) 1")
        angle = axis_angles(flat, (self.spec.width,), 1e4).float()
        position = torch.cat([angle.sin(), angle.cos()], dim=-1)
        return PlainCondition(position=rearrange(position, "(b n) w -> b n w", b=places.index.shape[0]))

    def enter(self, x: Float[Tensor, "b n w"], condition: PlainCondition) -> Float[Tensor, "b n w"]:
        return x + condition.position.to(x.dtype)

    def finish(self, x: Float[Tensor, "b n w"], condition: PlainCondition) -> Float[Tensor, "b n w"]:
        return self.norm(x)


class AdapterFrame(PlainFrame):
    """A layer norm on entry, nothing at the end."""

    def enter(self, x: Float[Tensor, "b n w"], condition: PlainCondition) -> Float[Tensor, "b n w"]:
        return self.norm(x)

    def finish(self, x: Float[Tensor, "b n w"], condition: PlainCondition) -> Float[Tensor, "b n w"]:
        return x


class GptFrame(PlainFrame):
    """Steps and a layer norm on entry, another at the end."""

    def __init__(self, spec: Gpt) -> None:
        super().__init__(spec)
        self.steps = nn.Parameter(0.02 * torch.randn(spec.num_steps, spec.width))
        self.norm_in = nn.LayerNorm(spec.width)

    def condition(
        self,
        level: Tensor,
        counts: tuple[int, ...],
        places: Places,
        contexts: tuple[Context, ...],
        modulation: Tensor | None,
    ) -> PlainCondition:
        super().condition(level, counts, places, contexts, modulation)
        step = places.grid[:, 0]
        position = self.steps[step.nan_to_num().long()] * ~step.isnan().unsqueeze(-1)
        return PlainCondition(position=position.unsqueeze(0))

    def enter(self, x: Float[Tensor, "b n w"], condition: PlainCondition) -> Float[Tensor, "b n w"]:
        return self.norm_in(x + condition.position)


class PlainBlock(nn.Module):
    """One layer, cut in two around the softmax."""

    def __init__(self, spec: Plain) -> None:
        super().__init__()
        self.spec = spec
        w = spec.width
        self.norm_attention, self.norm_mlp = nn.LayerNorm(w), nn.LayerNorm(w)
        self.qkv, self.out = nn.Linear(w, 3 * w), nn.Linear(w, w)
        self.up, self.down = nn.Linear(w, spec.mlp), nn.Linear(spec.mlp, w)

    def before(self, x: Float[Tensor, "b n w"], condition: PlainCondition) -> tuple[QKV, None]:
        qkv = rearrange(self.qkv(self.normed(x)), "b n (t h d) -> t b n h d", t=3, h=self.spec.heads)
        return QKV(q=qkv[0], k=qkv[1], v=qkv[2]), None

    def after(
        self, x: Float[Tensor, "b n w"], attended: Float[Tensor, "b n e"], carry: None, condition: PlainCondition
    ) -> Float[Tensor, "b n w"]:
        x = x + self.out(attended)
        return x + self.down(self.bend(self.up(self.norm_mlp(x))))

    def normed(self, x: Float[Tensor, "b n w"]) -> Float[Tensor, "b n w"]:
        """What attention is made of."""
        return self.norm_attention(x)

    def bend(self, x: Float[Tensor, "b n m"]) -> Float[Tensor, "b n m"]:
        return functional.gelu(x, approximate="tanh")


class GptBlock(PlainBlock):
    """The same with the activation of its tower."""

    spec: Gpt

    def bend(self, x: Float[Tensor, "b n m"]) -> Float[Tensor, "b n m"]:
        return functional.relu(x) if self.spec.activation == "relu" else super().bend(x)
