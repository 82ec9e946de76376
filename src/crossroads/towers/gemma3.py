"""The decoders of Gemma 2 and Gemma 3: norms on both sides of each half, and layers that look back only so far.

Gemma Team 2024, arXiv 2408.00118 (every second layer looks back all the way; scores are capped), which PaliGemma 2
(arXiv 2412.03555) reads with; Gemma Team 2025, arXiv 2503.19786 (every sixth; queries and keys have norms, and those
layers turn slower). transformers ``Gemma2Model``, ``Gemma3TextModel`` (Apache-2.0).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from crossroads.errors import InputError
from crossroads.rotary import HalfTurns, frequencies
from crossroads.towers.gemma import Gemma, GemmaBlock, GemmaCondition, GemmaFrame, GemmaNorm, added
from crossroads.towers.spec import QKV, Context, Heads, Places, Unlevelled


@dataclass(frozen=True, kw_only=True)
class Gemma3(Gemma):
    """Sizes of a Gemma 2 or Gemma 3 decoder. Every ``whole_every``-th layer looks back all the way, the others over
    ``reach`` tokens, the reader's own among them. ``theta`` turns the others; ``whole_theta``, at ``stretch`` times as
    many tokens a turn, those. Scores are divided by the root of ``scaled_by`` (0: of ``head_dim``) and, with a ``cap``,
    bent to stay below it.

    An ``adaptive`` one is told the level in the norms before each half; those behind have weights.
    """

    reach: int
    whole_every: int = 6
    whole_theta: float = 1e6
    stretch: float = 1.0
    scaled_by: float = 0.0
    cap: float | None = None

    def __post_init__(self) -> None:
        if self.reach < 1 or self.whole_every < 1:
            raise InputError(
                where="Gemma3",
                expected="a reach of at least one token, and every so many-th layer whole",
                got=f"reach {self.reach}, whole_every {self.whole_every}",
                do="Correct them (Gemma 3 4B: 1,024 and 6).",
            )

    @property
    def geometry(self) -> Heads:
        sizes = {"heads": self.heads, "kv_heads": self.kv_heads, "head_dim": self.head_dim}
        return Heads(depth=self.depth, **sizes, cap=self.cap)

    def whole(self, layer: int) -> bool:
        """Whether a layer looks back all the way."""
        return (layer + 1) % self.whole_every == 0

    def reach_of(self, layer: int) -> int | None:
        """Over how many tokens a layer looks back (None: all)."""
        return None if self.whole(layer) else self.reach

    def num_parameters(self) -> int:
        return super().num_parameters() + self.depth * 2 * self.width


@dataclass(frozen=True, kw_only=True)
class Gemma3Condition(GemmaCondition):
    """As Gemma's; ``whole``: the rotation in layers that look back all the way."""

    whole: HalfTurns


class UntoldGemma3(Gemma3Condition, Unlevelled):
    """That of a decoder which is not adaptive."""


class Gemma3Frame(GemmaFrame):
    """The final norm and both rotations."""

    spec: Gemma3

    def condition(
        self,
        level: Tensor,
        counts: tuple[int, ...],
        places: Places,
        contexts: tuple[Context, ...],
        modulation: Tensor | None,
    ) -> Gemma3Condition:
        found = super().condition(level, counts, places, contexts, modulation)
        slow = frequencies(self.spec.head_dim, self.spec.whole_theta, places.index.device) / self.spec.stretch
        whole = HalfTurns.of(places.index.unsqueeze(-1) * slow)
        kind = Gemma3Condition if self.spec.adaptive else UntoldGemma3
        return kind(turns=found.turns, told=found.told, repeats=found.repeats, whole=whole)


class Gemma3Block(GemmaBlock):
    """One layer, cut in two around the joint softmax."""

    spec: Gemma3

    def __init__(self, spec: Gemma3, layer: int = 0) -> None:
        super().__init__(spec)
        self.whole = spec.whole(layer)
        self.scale = (spec.head_dim / spec.scaled_by) ** 0.5 if spec.scaled_by else 1.0
        self.norm_attended, self.norm_out = GemmaNorm(spec.width, spec.eps), GemmaNorm(spec.width, spec.eps)

    def before(self, x: Float[Tensor, "b n w"], condition: GemmaCondition) -> tuple[QKV, Tensor | None]:
        qkv, gate = super().before(x, condition)
        return (qkv if self.scale == 1.0 else replace(qkv, q=qkv.q * self.scale)), gate

    def turning(self, condition: GemmaCondition) -> HalfTurns:
        assert isinstance(condition, Gemma3Condition)
        return condition.whole if self.whole else condition.turns

    def after(
        self,
        x: Float[Tensor, "b n w"],
        attended: Float[Tensor, "b n e"],
        carry: Tensor | None,
        condition: GemmaCondition,
    ) -> Float[Tensor, "b n w"]:
        x = added(x, self.norm_attended(self.out(attended), condition)[0], carry)
        y, gate = self.norm_mlp(x, condition)
        made = self.down(self.activated(self.gate(y)) * self.up(y))
        return added(x, self.norm_out(made, condition)[0], gate)
