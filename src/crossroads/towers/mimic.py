"""The action transformer of mimic-video: it reads a video model's hidden states and is told two levels at once.

Pai et al. 2025, arXiv 2512.15692 (``World2ActionDIT``, Apache-2.0). Each layer reads the video first, then itself, then
thinks; all three are shifted, scaled and gated, through a narrow bottleneck (AdaLN-LoRA) and by one modulation that all
layers share. Both come from a product of the level of the actions and that of the video. No biases inside.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from crossroads.errors import InputError
from crossroads.streams import linear_flops, linear_parameters
from crossroads.towers.dit import modulated
from crossroads.towers.spec import QKV, Context, Crossed, Heads, Places, context_of, level_sinusoid

START = 0.382
"""Where the biases of the product start (the released code's)."""


@dataclass(frozen=True, kw_only=True)
class MimicExpert:
    """Sizes. ``modulation_width``: the bottleneck. ``num_places``: learned vectors on one line. ``least_level``: what
    clean tokens are told (the state: 0.001). ``rounded``: waves of levels pass through bfloat16, as published."""

    width: int
    mlp: int
    depth: int
    heads: int
    context_width: int
    num_places: int
    modulation_width: int = 128
    least_level: float = 1e-3
    rounded: bool = True
    eps: float = 1e-6

    @property
    def attention_width(self) -> int:
        return self.width

    @property
    def geometry(self) -> Heads:
        return Heads(depth=self.depth, heads=self.heads, kv_heads=self.heads, head_dim=self.width // self.heads)

    def num_parameters(self) -> int:
        w, c, r = self.width, self.context_width, self.modulation_width
        layer = 4 * w * w + 2 * w * w + 2 * c * w + 4 * (w // self.heads) + 2 * w * self.mlp + 3 * (w * r + 3 * r * w)
        told = 4 * linear_parameters(w, w) + 3 * w * w + w
        return self.depth * layer + told + 2 * c + self.num_places * w + w * r + 2 * r * w

    def key_flops(self, num_tokens: int) -> int:
        """What comes before the keys too: a layer reads the video first."""
        return linear_flops(num_tokens, self.width, 4 * self.width)

    def layer_flops(self, num_tokens: int, context: Crossed) -> int:
        own = linear_flops(num_tokens, self.width, 6 * self.width + 2 * self.mlp)
        num = context.get(self.context_width, 0)
        return (
            own + 2 * linear_flops(num, self.context_width, self.width) + 2 * linear_flops(num_tokens, self.width, num)
        )

    def frame_flops(self, num_levels: int, context: Crossed) -> int:
        w, r = self.width, self.modulation_width
        told = linear_flops(num_levels, w, 2 * w) + linear_flops(1, w, 2 * w) + linear_flops(num_levels, w, 3 * w)
        layers = 3 * self.depth * (linear_flops(num_levels, w, r) + linear_flops(num_levels, r, 3 * w))
        return told + layers + linear_flops(num_levels, w, r) + linear_flops(num_levels, r, 2 * w)


@dataclass(frozen=True, kw_only=True)
class MimicCondition:
    """The level (after SiLU) and the modulation all layers share, one row for each run of tokens; places; the video."""

    told: Float[Tensor, "b g w"]
    shared: Float[Tensor, "b g three_w"]
    repeats: Tensor | None
    places: Int[Tensor, " n"]
    context: Context

    def modulation(self, narrow: nn.Linear, wide: nn.Linear, num: int) -> tuple[Tensor, ...]:
        """``num`` modulating vectors for each token."""
        found = wide(narrow(self.told))
        found = found + self.shared[..., : found.shape[-1]]
        found = found if self.repeats is None else found.repeat_interleave(self.repeats, dim=1)
        return found.chunk(num, dim=-1)


class MimicFrame(nn.Module):
    """Both levels, places, the norm of what is read, and the modulated end."""

    def __init__(self, spec: MimicExpert) -> None:
        super().__init__()
        self.spec = spec
        w, r = spec.width, spec.modulation_width
        self.level_in, self.heard_in = nn.Linear(w, w), nn.Linear(w, w)
        self.level_pair, self.heard_pair = nn.Linear(w, w), nn.Linear(w, w)
        self.shared = nn.Linear(w, 3 * w, bias=False)
        self.level_norm = nn.RMSNorm(w, eps=1e-6)
        self.context_norm = nn.LayerNorm(spec.context_width, eps=1e-6)
        self.places = nn.Parameter(0.02 * torch.randn(spec.num_places, w))
        self.head_narrow, self.head_wide = bottleneck(w, r, 2 * w)
        for pair in (self.level_pair, self.heard_pair):
            nn.init.constant_(pair.bias, START)

    def condition(
        self,
        level: Float[Tensor, "b g"],
        counts: tuple[int, ...],
        places: Places,
        contexts: tuple[Context, ...],
        modulation: Tensor | None,
        heard: Float[Tensor, "b 1"] | None = None,
    ) -> MimicCondition:
        context = context_of(contexts, self.spec.context_width)
        if context is None or heard is None or modulation is not None:
            raise InputError(
                where="MimicExpert tower",
                expected=f"hidden states {self.spec.context_width} wide, read across, of a video whose level it hears",
                got=f"{'no' if context is None else 'a'} context, {'no' if heard is None else 'a'} level",
                do="Read the video's tower across, name its stream in `hears`, and leave modulate edges out.",
            )
        own = functional.silu(self.level_in(self.wave(level.clamp(min=self.spec.least_level))))
        other = functional.silu(self.heard_in(self.wave(heard)))
        first, second = self.level_pair.bias, self.heard_pair.bias
        both = self.level_pair(own) * self.heard_pair(other) - first * second
        even = len(counts) == 1 and level.shape[1] == 1
        return MimicCondition(
            told=functional.silu(self.level_norm(both)),
            shared=self.shared(both),
            repeats=None if even else torch.tensor(counts, device=level.device),
            places=places.grid[:, 0].long(),
            context=Context(hidden=self.context_norm(context.hidden), valid=context.valid),
        )

    def wave(self, level: Float[Tensor, "b g"]) -> Float[Tensor, "b g w"]:
        found = level_sinusoid(level, self.spec.width)
        found = found.bfloat16() if self.spec.rounded else found
        return found.to(self.level_in.weight.dtype)

    def enter(self, x: Float[Tensor, "b n w"], condition: MimicCondition) -> Float[Tensor, "b n w"]:
        return self.placed(x, condition.places)

    def placed(self, x: Float[Tensor, "b n w"], places: Int[Tensor, " n"]) -> Float[Tensor, "b n w"]:
        """Tokens, made smaller by the root of the width, with the vectors of their places."""
        return x * self.spec.width**-0.5 + self.places[places]

    def finish(self, x: Float[Tensor, "b n w"], condition: MimicCondition) -> Float[Tensor, "b n w"]:
        shift, scale = condition.modulation(self.head_narrow, self.head_wide, 2)
        return modulated(x, shift, scale, self.spec.eps)


class MimicBlock(nn.Module):
    """One layer, cut in two around the softmax of its second part."""

    def __init__(self, spec: MimicExpert) -> None:
        super().__init__()
        self.spec = spec
        w, c, r, size = spec.width, spec.context_width, spec.modulation_width, spec.width // spec.heads
        self.cross_q, self.cross_out = nn.Linear(w, w, bias=False), nn.Linear(w, w, bias=False)
        self.cross_k, self.cross_v = nn.Linear(c, w, bias=False), nn.Linear(c, w, bias=False)
        self.q, self.k, self.v, self.out = (nn.Linear(w, w, bias=False) for _ in range(4))
        self.norm_cross_q, self.norm_cross_k, self.norm_q, self.norm_k = (
            nn.RMSNorm(size, eps=spec.eps) for _ in range(4)
        )
        self.cross_narrow, self.cross_wide = bottleneck(w, r, 3 * w)
        self.narrow, self.wide = bottleneck(w, r, 3 * w)
        self.mlp_narrow, self.mlp_wide = bottleneck(w, r, 3 * w)
        self.up, self.down = nn.Linear(w, spec.mlp, bias=False), nn.Linear(spec.mlp, w, bias=False)

    def before(
        self, x: Float[Tensor, "b n w"], condition: MimicCondition
    ) -> tuple[QKV, tuple[Float[Tensor, "b n w"], Tensor]]:
        shift, scale, gate = condition.modulation(self.cross_narrow, self.cross_wide, 3)
        x = torch.addcmul(x, gate, self._read(modulated(x, shift, scale, self.spec.eps), condition.context))
        shift, scale, gate = condition.modulation(self.narrow, self.wide, 3)
        y = modulated(x, shift, scale, self.spec.eps)
        q, k, v = (flat.unflatten(-1, (self.spec.heads, -1)) for flat in (self.q(y), self.k(y), self.v(y)))
        return QKV(q=self.norm_q(q), k=self.norm_k(k), v=v), (x, gate)

    def after(
        self,
        x: Float[Tensor, "b n w"],
        attended: Float[Tensor, "b n e"],
        carry: tuple[Float[Tensor, "b n w"], Tensor],
        condition: MimicCondition,
    ) -> Float[Tensor, "b n w"]:
        """``carry`` is what the first part made of ``x``, and the gate of the second."""
        read, gate = carry
        x = torch.addcmul(read, gate, self.out(attended))
        shift, scale, gate = condition.modulation(self.mlp_narrow, self.mlp_wide, 3)
        return torch.addcmul(x, gate, self.down(functional.gelu(self.up(modulated(x, shift, scale, self.spec.eps)))))

    def _read(self, y: Float[Tensor, "b n w"], context: Context) -> Float[Tensor, "b n w"]:
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


def bottleneck(inputs: int, narrow: int, outputs: int) -> tuple[nn.Linear, nn.Linear]:
    """Two maps without biases; the second starts small (published: at nothing)."""
    first, second = nn.Linear(inputs, narrow, bias=False), nn.Linear(narrow, outputs, bias=False)
    nn.init.normal_(second.weight, std=0.02)
    return first, second
