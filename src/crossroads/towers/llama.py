"""The Llama decoder block (arXiv 2302.13971): Gemma's with plain RMSNorm weights and a SiLU gate; and SmolVLA's expert.

SmolVLA (arXiv 2506.01844; LeRobot ``smolvlm_with_expert.py``, Apache-2.0): every so many-th layer of the action expert
is a layer of the joint softmax; in the others its tokens read the language model alone, whose keys (rotated) and values
of that layer pass through maps of the expert's own first. There its queries count their places from 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.rotary import HalfTurns, rotate_halves
from crossroads.streams import linear_flops
from crossroads.towers.gemma import (
    Gemma,
    GemmaBlock,
    GemmaCondition,
    GemmaFrame,
    GemmaNorm,
    UntoldCondition,
    rms_normed,
)
from crossroads.towers.spec import QKV, Context, Places


@dataclass(frozen=True, kw_only=True)
class Llama(Gemma):
    """Sizes of a Llama decoder (SmolLM2, Llama 2)."""


@dataclass(frozen=True, kw_only=True)
class SmolExpert(Llama):
    """Sizes of SmolVLA's expert. ``joint_every``: of its layers every so many-th is joint, the others map the keys."""

    joint_every: int = 2

    def maps_keys(self, layer: int) -> bool:
        """Whether a layer reads keys through its own maps, and makes none of its tokens."""
        return layer % self.joint_every != 0

    def mapping_flops(self, num_tokens: int, num_keys: int) -> int:
        """What a layer that maps keys does more than a joint one: the maps, and no keys and values of its tokens."""
        wide = self.kv_heads * self.head_dim
        return 2 * linear_flops(num_keys, wide, wide) - 2 * linear_flops(num_tokens, self.width, wide)

    def num_parameters(self) -> int:
        wide = self.kv_heads * self.head_dim
        num = sum(self.maps_keys(layer) for layer in range(self.depth))
        return super().num_parameters() + num * 2 * wide * (wide - self.width)


class LlamaNorm(GemmaNorm):
    """``x / rms(x) * w`` in float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__(width, eps)
        nn.init.ones_(self.weight)

    def forward(self, x: Tensor, condition: GemmaCondition) -> tuple[Tensor, None]:
        return (rms_normed(x, self.eps) * self.weight.float()).to(x.dtype), None


class LlamaFrame(GemmaFrame):
    """The final norm and the rotary angles."""

    norm_of = LlamaNorm


class LlamaBlock(GemmaBlock):
    """One layer, cut in two around the joint softmax."""

    norm_of = LlamaNorm

    def activated(self, gate: Tensor) -> Tensor:
        return functional.silu(gate)


@dataclass(frozen=True, kw_only=True)
class SmolCondition(UntoldCondition):
    """The rotation of each token in a joint layer, and in one that maps keys."""

    restarted: HalfTurns


class SmolFrame(LlamaFrame):
    """The rotary angles twice: places in the sequence, and places from the first token on."""

    def condition(
        self,
        level: Tensor,
        counts: tuple[int, ...],
        places: Places,
        contexts: tuple[Context, ...],
        modulation: Tensor | None,
    ) -> SmolCondition:
        first = replace(places, index=places.index - places.index.amin(dim=1, keepdim=True))
        found = [super(SmolFrame, self).condition(level, counts, at, contexts, modulation) for at in (places, first)]
        return SmolCondition(turns=found[0].turns, restarted=found[1].turns)


class SmolBlock(LlamaBlock):
    """One layer of SmolVLA's expert, of one kind or the other."""

    def __init__(self, spec: SmolExpert, layer: int = 0) -> None:
        super().__init__(spec)
        self.maps = spec.maps_keys(layer)
        if self.maps:
            wide = spec.kv_heads * spec.head_dim
            self.k, self.v = nn.Linear(wide, wide, bias=False), nn.Linear(wide, wide, bias=False)

    def before(self, x: Float[Tensor, "b n w"], condition: GemmaCondition) -> tuple[QKV, Tensor | None]:
        if not self.maps:
            return super().before(x, condition)
        assert isinstance(condition, SmolCondition)
        y, gate = self.norm_attention(x, condition)
        q = self.q(y).unflatten(-1, (self.spec.heads, -1))
        none = q.new_zeros(*q.shape[:2], self.spec.kv_heads, self.spec.head_dim)
        return QKV(q=rotate_halves(q, condition.restarted), k=none, v=none), gate

    def mapped(
        self, k: Float[Tensor, "b n g d"], v: Float[Tensor, "b n g d"]
    ) -> tuple[Float[Tensor, "b n g d"], Float[Tensor, "b n g d"]]:
        """Keys and values of another tower as this layer reads them."""
        return self.k(k.flatten(2)).view_as(k), self.v(v.flatten(2)).view_as(v)
