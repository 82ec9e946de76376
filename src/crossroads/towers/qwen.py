"""The decoders of Qwen2.5-VL and Qwen3-VL: Llama's block with positions along three axes.

Bai et al. 2025, arXiv 2502.13923, and arXiv 2511.21631; transformers ``Qwen2_5_VLTextModel``, ``Qwen3VLTextModel``
(Apache-2.0). Each frequency turns by a token's time, its row or its column (M-RoPE); words have all three alike.
Qwen2.5 has biases on queries, keys and values, and a run of frequencies per axis; Qwen3 has norms on queries and keys,
frequencies of the axes in turns, and adds states of the vision tower's own layers behind its first ones (DeepStack,
arXiv 2406.04334).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from crossroads.errors import InputError
from crossroads.rotary import HalfTurns, frequencies
from crossroads.towers.gemma import GemmaCondition
from crossroads.towers.llama import Llama, LlamaBlock, LlamaFrame
from crossroads.towers.spec import Context, Places, Unlevelled


@dataclass(frozen=True, kw_only=True)
class Qwen(Llama):
    """Sizes of a Qwen decoder. ``sections``: how many frequencies turn by time, row and column, together half a head;
    all by time: positions in a row, as in Qwen3. ``interleaved``: in turns (Qwen3), not one run after the other."""

    theta: float = 1e6
    sections: tuple[int, int, int]
    interleaved: bool = False
    biased: bool = False
    """Queries, keys and values have biases (Qwen2.5)."""

    def __post_init__(self) -> None:
        if 2 * sum(self.sections) != self.head_dim:
            raise InputError(
                where="Qwen, sections",
                expected=f"frequencies for half a head of {self.head_dim}",
                got=f"{self.sections}, together {sum(self.sections)}",
                do="Share the head's frequencies out among time, row and column.",
            )

    def axes(self) -> Int[Tensor, " half"]:
        """By which axis each frequency turns: 0 time, 1 row, 2 column."""
        _, rows, columns = self.sections
        if not self.interleaved:
            return torch.arange(3).repeat_interleave(torch.tensor(self.sections))
        found = torch.zeros(sum(self.sections), dtype=torch.long)
        found[1 : 3 * rows : 3], found[2 : 3 * columns : 3] = (
            1,
            2,
        )  # what is left of each three, and the rest, is time's
        return found

    def num_parameters(self) -> int:
        biases = self.head_dim * (self.heads + 2 * self.kv_heads) if self.biased else 0
        return super().num_parameters() + self.depth * biases


@dataclass(frozen=True, kw_only=True)
class QwenCondition(GemmaCondition):
    """As Gemma's; ``deep``: what is added to each token behind the first layers, layer by layer."""

    deep: Float[Tensor, "deep b n w"] | None = None


class UntoldQwen(QwenCondition, Unlevelled):
    """That of a decoder which is not adaptive."""


class QwenFrame(LlamaFrame):
    """The final norm and the rotary angles of three axes."""

    spec: Qwen

    def condition(
        self,
        level: Tensor,
        counts: tuple[int, ...],
        places: Places,
        contexts: tuple[Context, ...],
        modulation: Tensor | None,
        *,
        deep: Float[Tensor, "deep b n w"] | None = None,
    ) -> QwenCondition:
        if deep is not None and len(deep) > self.spec.depth:
            raise InputError(
                where="Qwen tower",
                expected=f"pictures with states for at most its {self.spec.depth} layers",
                got=f"states for {len(deep)}",
                do="Name fewer deep layers in the pictures' codec.",
            )
        found = super().condition(level, counts, places, contexts, modulation)
        kind = QwenCondition if self.spec.adaptive else UntoldQwen
        return kind(turns=found.turns, told=found.told, repeats=found.repeats, deep=deep)

    def turned(self, places: Places) -> HalfTurns:
        """A token of a picture stands at the picture's place, its row and column counted on from there; any other has
        its place in the sequence on all three axes."""
        beside = places.grid.nan_to_num()  # a stream beside the pictures has no row and no column
        beside = beside * beside.new_tensor([0.0, 1.0, 1.0])
        at = places.index.unsqueeze(-1) + beside
        return HalfTurns.of(at[..., self.spec.axes()] * frequencies(self.spec.head_dim, self.spec.theta, at.device))


class QwenBlock(LlamaBlock):
    """One layer, cut in two around the joint softmax."""

    spec: Qwen

    def __init__(self, spec: Qwen, layer: int = 0) -> None:
        super().__init__(spec)
        self.layer = layer
        if spec.biased:
            for name, heads in {"q": spec.heads, "k": spec.kv_heads, "v": spec.kv_heads}.items():
                self.register_module(name, nn.Linear(spec.width, heads * spec.head_dim))

    def after(
        self,
        x: Float[Tensor, "b n w"],
        attended: Float[Tensor, "b n e"],
        carry: Tensor | None,
        condition: GemmaCondition,
    ) -> Float[Tensor, "b n w"]:
        x = super().after(x, attended, carry, condition)
        assert isinstance(condition, QwenCondition)
        if condition.deep is None or self.layer >= len(condition.deep):
            return x
        return x + condition.deep[self.layer]
