"""The networks of Play-LMP: one for goals, one that proposes plans, two that recognise them, one that acts on them.

Lynch et al. 2019, arXiv 1903.01973; MCIL, arXiv 2005.07648 (mees/calvin, MIT); HULC, arXiv 2204.06252
(lukashermann/hulc, MIT). None has a softmax to join: each is called as a whole and reads the others across. What one
reads of several groups is told apart by how wide they are and, where they are alike, by the order of their names:
``goal``, ``plan``, ``seen``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.errors import InputError
from crossroads.towers.forward import ForwardFrame, ForwardTower, Told
from crossroads.towers.recurrent import Cell, Recurrence, Went
from crossroads.towers.spec import Context

Bend = Literal["relu", "elu", "gelu", "silu", "tanh"]
BENDS: Mapping[Bend, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "elu": functional.elu,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "tanh": torch.tanh,
}
Wanted = tuple[tuple[int, int], ...]
"""How wide the groups are that a tower reads, and how many tokens it reads of each, in the order of their names."""


@dataclass(frozen=True, kw_only=True)
class Playing(ForwardTower):
    """What these towers have in common: one tap, at the end, unless they say otherwise."""

    @property
    def wanted(self) -> Wanted:
        raise NotImplementedError  # abstract

    @property
    def context_widths(self) -> tuple[int, ...]:
        return tuple(width for width, _ in self.wanted)

    @property
    def num_taps(self) -> int:
        return 0

    def tap_width(self, tap: int) -> int:
        return self.width

    def tap_tokens(self, num_tokens: int, tap: int) -> int:
        return num_tokens


def read_of(contexts: tuple[Context, ...], wanted: Wanted) -> list[tuple[Float[Tensor, "b n w"], Bool[Tensor, "b n"]]]:
    """What a tower reads, group by group, and which of its tokens are there."""
    by_width = {context.hidden.shape[-1]: context for context in contexts}
    taken = dict.fromkeys(by_width, 0)
    found = []
    for width, num in wanted:
        start = taken.get(width, 0)
        context = by_width.get(width)
        if context is None or context.hidden.shape[1] < start + num:
            raise InputError(
                where="Play-LMP tower",
                expected=f"{num} tokens, {width} wide, of each group that it reads",
                got=", ".join(f"{c.hidden.shape[1]} tokens, {w} wide" for w, c in sorted(by_width.items())) or "none",
                do="Read the groups across that the tower's sizes are of.",
            )
        taken[width] = start + num
        found.append((context.hidden[:, start : start + num], context.valid[:, start : start + num]))
    return found


@dataclass(frozen=True, kw_only=True)
class GoalEncoder(Playing):
    """A goal of ``goal_width`` numbers, read at tap 0: of the picture, ``percept_width`` wide, where one is there, else
    of the words, whose first map their codec is. ``width``: of the hidden layers; ``norm``: a layer norm at the end
    (HULC); ``unit``: goals have length 1 before that. ``picture_hidden``: another width of the hidden layers that a
    picture passes (0: the same)."""

    width: int  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]
    goal_width: int
    percept_width: int
    bend: Bend = "relu"
    norm: bool = False
    unit: bool = False
    picture_hidden: int = 0

    @property
    def wanted(self) -> Wanted:
        return ((self.percept_width, 1),)

    @property
    def num_taps(self) -> int:
        return 1

    def tap_width(self, tap: int) -> int:
        return self.goal_width

    def frame(self) -> GoalFrame:
        return GoalFrame(self)


class GoalFrame(ForwardFrame):
    """The module of :class:`GoalEncoder`."""

    def __init__(self, spec: GoalEncoder) -> None:
        super().__init__()
        self.spec = spec
        w, goal, inner = spec.width, spec.goal_width, spec.picture_hidden or spec.width
        self.picture = nn.ModuleList(
            [nn.Linear(spec.percept_width, inner), nn.Linear(inner, inner), nn.Linear(inner, goal)]
        )
        self.words = nn.ModuleList([nn.Linear(w, w), nn.Linear(w, goal)])
        self.norms = nn.ModuleDict({kind: nn.LayerNorm(goal) for kind in ("picture", "words") if spec.norm})

    def enter(self, x: Float[Tensor, "b 1 w"], condition: Told) -> Float[Tensor, "b 1 w"]:
        ((picture, there),) = read_of(condition.contexts, self.spec.wanted)
        bend = BENDS[self.spec.bend]
        shown = self._through(self.picture, picture, "picture")
        told = self._through(self.words, bend(x), "words")
        condition.taps[0] = torch.where(there.unsqueeze(-1), shown, told)
        return x

    def _through(self, layers: nn.ModuleList, x: Tensor, kind: str) -> Float[Tensor, "b 1 g"]:
        for layer in layers[:-1]:
            x = BENDS[self.spec.bend](layer(x))
        x = layers[-1](x)
        x = functional.normalize(x, dim=-1) if self.spec.unit else x
        return self.norms[kind](x) if self.spec.norm else x


@dataclass(frozen=True, kw_only=True)
class PlanProposal(Playing):
    """The prior: what is seen first and the goal, through four layers of ``width``. Of the ``num_steps`` that lie there
    it reads the first alone."""

    width: int  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]
    goal_width: int
    percept_width: int
    num_steps: int
    bend: Bend = "relu"

    @property
    def wanted(self) -> Wanted:
        return ((self.goal_width, 1), (self.percept_width, self.num_steps))

    def frame(self) -> ProposalFrame:
        return ProposalFrame(self)


class ProposalFrame(ForwardFrame):
    """The module of :class:`PlanProposal`; its codec maps the last layer to what is told of a plan."""

    def __init__(self, spec: PlanProposal) -> None:
        super().__init__()
        self.spec = spec
        sizes = (spec.percept_width + spec.goal_width, *[spec.width] * 3)
        self.layers = nn.ModuleList(nn.Linear(size, spec.width) for size in sizes)

    def enter(self, x: Float[Tensor, "b 1 w"], condition: Told) -> Float[Tensor, "b 1 w"]:
        (goal, _), (seen, _) = read_of(condition.contexts, self.spec.wanted)
        x = torch.cat([seen[:, :1], goal], dim=-1)
        for layer in self.layers:
            x = BENDS[self.spec.bend](layer(x))
        return x


@dataclass(frozen=True, kw_only=True)
class RecurrentRecognition(Playing):
    """The posterior of MCIL: a recurrent network in both directions, ``width`` wide together, of which the outputs at
    the last step count."""

    width: int  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]
    percept_width: int
    num_steps: int
    depth: int = 2
    cell: Cell = "relu"

    @property
    def wanted(self) -> Wanted:
        return ((self.percept_width, self.num_steps),)

    def frame(self) -> RecurrentRecognitionFrame:
        return RecurrentRecognitionFrame(self)


class RecurrentRecognitionFrame(ForwardFrame):
    """The module of :class:`RecurrentRecognition`."""

    def __init__(self, spec: RecurrentRecognition) -> None:
        super().__init__()
        self.spec = spec
        self.cells = Recurrence(spec.percept_width, spec.width // 2, spec.depth, spec.cell, both=True)

    def enter(self, x: Float[Tensor, "b 1 w"], condition: Told) -> Float[Tensor, "b 1 w"]:
        ((seen, _),) = read_of(condition.contexts, self.spec.wanted)
        return self.cells(seen).outputs[:, -1:]


@dataclass(frozen=True, kw_only=True)
class AttentiveRecognition(Playing):
    """The posterior of HULC: a transformer with norms behind the sums, its states mapped to ``width`` and averaged over
    the steps.

    What is seen is filled up with zeros to a multiple of ``heads``. ``num_places``: learned places; 0: sinusoids.
    ``norm_first``: a norm before the layers; ``norm_last``: one behind them.
    """

    width: int  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]
    percept_width: int
    num_steps: int
    mlp: int
    heads: int
    depth: int
    num_places: int = 0
    norm_first: bool = False
    norm_last: bool = False

    def __post_init__(self) -> None:
        if self.num_places and self.num_places < self.num_steps:
            raise InputError(
                where="AttentiveRecognition tower",
                expected=f"a place for each of {self.num_steps} steps, or none learned",
                got=str(self.num_places),
                do="Correct num_places.",
            )

    @property
    def inner(self) -> int:
        """How wide the transformer is."""
        return -(-self.percept_width // self.heads) * self.heads

    @property
    def wanted(self) -> Wanted:
        return ((self.percept_width, self.num_steps),)

    def frame(self) -> AttentiveRecognitionFrame:
        return AttentiveRecognitionFrame(self)


class AttentiveLayer(nn.Module):
    """One layer; ReLU between the maps of its network."""

    def __init__(self, width: int, mlp: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, mlp), nn.Linear(mlp, width)
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Float[Tensor, "b n w"]) -> Float[Tensor, "b n w"]:
        q, k, v = rearrange(self.qkv(x), "b n (three h d) -> three b h n d", three=3, h=self.heads)
        attended = rearrange(functional.scaled_dot_product_attention(q, k, v), "b h n d -> b n (h d)")
        x = self.norm_attention(x + self.out(attended))
        return self.norm_mlp(x + self.down(self.up(x).relu()))


class AttentiveRecognitionFrame(ForwardFrame):
    """The module of :class:`AttentiveRecognition`."""

    def __init__(self, spec: AttentiveRecognition) -> None:
        super().__init__()
        self.spec = spec
        self.places = nn.Parameter(torch.randn(spec.num_places, spec.inner)) if spec.num_places else None
        self.norm_first = nn.LayerNorm(spec.inner) if spec.norm_first else nn.Identity()
        self.layers = nn.ModuleList(AttentiveLayer(spec.inner, spec.mlp, spec.heads) for _ in range(spec.depth))
        self.norm_last = nn.LayerNorm(spec.inner) if spec.norm_last else nn.Identity()
        self.leave = nn.Linear(spec.inner, spec.width)

    def enter(self, x: Float[Tensor, "b 1 w"], condition: Told) -> Float[Tensor, "b 1 w"]:
        ((seen, _),) = read_of(condition.contexts, self.spec.wanted)
        x = functional.pad(seen, (0, self.spec.inner - seen.shape[-1]))
        num = x.shape[1]
        x = self.norm_first(x + (sinusoids(num, self.spec.inner).to(x) if self.places is None else self.places[:num]))
        for layer in self.layers:
            x = layer(x)
        return self.leave(self.norm_last(x)).mean(dim=1, keepdim=True)


def sinusoids(num: int, width: int) -> Float[Tensor, "n w"]:
    """``sin, cos, sin, cos ...`` of ``step / 10000^(2 i / width)``, the last frequency once where ``width`` is odd."""
    half = torch.arange(0, width, 2, dtype=torch.float64)
    angle = torch.arange(num, dtype=torch.float64)[:, None] * 1e4 ** (-half / width)
    return rearrange(torch.stack([angle.sin(), angle.cos()], dim=-1), "n i two -> n (i two)")[:, :width].float()


@dataclass(frozen=True, kw_only=True)
class PlanDecoder(Playing):
    """The actions of each of ``num_steps``: the plan, what is seen at the step and the goal, side by side, through a
    recurrent network (``cell`` None: three layers, step by step). A step reads those before it and none after it; all
    tokens of a step come out alike.

    ``first`` and ``last``: which of the numbers of what is seen it is shown (HULC: those of the gripper's camera);
    ``last`` 0: all.
    """

    width: int  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]
    plan_width: int
    goal_width: int
    percept_width: int
    num_steps: int
    depth: int = 2
    cell: Cell | None = "relu"
    first: int = 0
    last: int = 0

    @property
    def wanted(self) -> Wanted:
        return ((self.goal_width, 1), (self.plan_width, 1), (self.percept_width, self.num_steps))

    def frame(self) -> PlanDecoderFrame:
        return PlanDecoderFrame(self)


class StepByStep(nn.Module):
    """A network of three layers, in the place of a recurrent one; no state goes from step to step."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(size, width) for size in (inputs, width, width))

    def forward(self, x: Float[Tensor, "b n i"]) -> Went:
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return Went(outputs=self.layers[-1](x), states=())


class PlanDecoderFrame(ForwardFrame):
    """The module of :class:`PlanDecoder`; its codec maps the outputs to what is told of the actions."""

    def __init__(self, spec: PlanDecoder) -> None:
        super().__init__()
        self.spec = spec
        shown = (spec.last or spec.percept_width) - spec.first
        inputs = spec.plan_width + shown + spec.goal_width
        self.cells = (
            Recurrence(inputs, spec.width, spec.depth, spec.cell) if spec.cell else StepByStep(inputs, spec.width)
        )

    def enter(self, x: Float[Tensor, "b n w"], condition: Told) -> Float[Tensor, "b n w"]:
        (goal, _), (plan, _), (seen, _) = read_of(condition.contexts, self.spec.wanted)
        seen = seen[..., self.spec.first : self.spec.last or None]
        plan, goal = (part.expand(-1, seen.shape[1], -1) for part in (plan, goal))
        went = self.cells(torch.cat([plan, seen, goal], dim=-1)).outputs
        return went.repeat_interleave(x.shape[1] // seen.shape[1], dim=1)
