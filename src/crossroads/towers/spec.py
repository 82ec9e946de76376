"""What a tower is: a stack of blocks cut in two around the softmax, and the values that describe one.

``before`` gives queries, keys and values; the joint layer attends over every group that shares the softmax; ``after``
takes the attended result. Towers that share a softmax need equal depth and head geometry; widths are free.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Heads:
    """The geometry of a softmax: two towers can share one only if these agree. ``cap``: scores are bent to stay below
    it, ``cap tanh(score / cap)`` (Gemma 2, arXiv 2408.00118)."""

    depth: int
    heads: int
    kv_heads: int
    head_dim: int
    cap: float | None = None


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where tokens are: ``index`` in the running sequence, ``grid`` in (time, row, column).

    A token without a row and a column, on a line beside the pictures, has not-a-number there.
    """

    index: Float[Tensor, "b n"]
    grid: Float[Tensor, "n 3"]


@dataclass(frozen=True, kw_only=True)
class Context:
    """Hidden states of another tower that the cross-attention of this one reads; ``where``: the vectors that tell that
    tower's keys where its tokens stand, if it has such vectors (see :class:`Stands`)."""

    hidden: Float[Tensor, "b m c"]
    valid: Bool[Tensor, "b m"]
    where: Float[Tensor, "b m c"] | None = None


@dataclass(frozen=True, kw_only=True)
class Stands:
    """A condition by which a tower adds a vector for its place to each token's queries and keys."""

    where: Float[Tensor, "b n w"]


class Unlevelled:
    """A condition in which levels and other towers' tokens have no part: the same at every step of a leg."""


def context_of(contexts: tuple[Context, ...], width: int) -> Context | None:
    """The context of a width; sources that are read across are told apart by their widths."""
    return next((context for context in contexts if context.hidden.shape[-1] == width), None)


Crossed = Mapping[int, int]
"""How many tokens are read across, by their width."""


@dataclass(frozen=True, kw_only=True)
class QKV:
    """Queries, keys and values of one tower's tokens in one layer."""

    q: Float[Tensor, "b n h d"]
    k: Float[Tensor, "b n g d"]
    v: Float[Tensor, "b n g d"]


class TowerSpec(Protocol):
    """The value that describes a tower."""

    @property
    def width(self) -> int: ...

    @property
    def geometry(self) -> Heads: ...

    def num_parameters(self) -> int:
        """Weights of all layers and of what lies outside them."""
        ...

    def layer_flops(self, num_tokens: int, context: Crossed) -> int:
        """One layer's forward work outside the joint softmax products; ``context`` empty: it reads none across."""
        ...

    def key_flops(self, num_tokens: int) -> int:
        """The part of a layer's work that gives keys and values: all that a group owes whose output nobody uses."""
        ...

    def frame_flops(self, num_levels: int, context: Crossed) -> int:
        """The forward work outside the layers (embedding ``num_levels`` levels, projecting the context)."""
        ...


class Frame(Protocol):
    """The part of a tower outside its layers.

    ``level`` is ``b g``: one level for each run of ``counts[g]`` tokens, so that a level shared by a whole group is
    embedded once and not once per token. The frame of a tower whose streams hear others is given their levels, ``b o``,
    as one more argument.
    """

    def condition(
        self,
        level: Float[Tensor, "b g"],
        counts: tuple[int, ...],
        places: Places,
        contexts: tuple[Context, ...],
        modulation: Tensor | None,
    ) -> object: ...

    def enter(self, x: Float[Tensor, "b n w"], condition: object) -> Float[Tensor, "b n w"]: ...

    def finish(self, x: Float[Tensor, "b n w"], condition: object) -> Float[Tensor, "b n w"]: ...


class KeyReading(ABC):
    """A frame whose layers read, across, what another tower's layers of the same numbers read: their keys and values
    (MolmoAct2), and not the states that it leaves behind."""

    @abstractmethod
    def reading(self, condition: object, keys: Float[Tensor, "b m c"], values: Float[Tensor, "b m c"]) -> object:
        """What one layer is told, given keys and values, all heads side by side, of all that is read across."""


class Block(Protocol):
    """One layer of a tower, cut in two around the softmax."""

    def before(self, x: Float[Tensor, "b n w"], condition: object) -> tuple[QKV, object]: ...

    def after(
        self, x: Float[Tensor, "b n w"], attended: Float[Tensor, "b n e"], carry: object, condition: object
    ) -> Float[Tensor, "b n w"]: ...


def axis_angles(
    places: Float[Tensor, "n axes"], split: tuple[int, ...], theta: float | tuple[float, ...]
) -> Float[Tensor, "n half"]:
    """Rotation angles with the head split over the leading axes: ``split`` dims for (time, row, column) or time only.

    Angles in float64, as the Wan reference does; frequency ``theta^(-2 i / d)`` per axis.
    """
    bases = theta if isinstance(theta, tuple) else (theta,) * len(split)
    angles = []
    for axis, (size, base) in enumerate(zip(split, bases, strict=True)):
        frequency = base ** (-torch.arange(0, size, 2, dtype=torch.float64, device=places.device) / size)
        angles.append(places[:, axis, None].double().nan_to_num() * frequency)
    return torch.cat(angles, dim=-1)


def sinusoid(value: Float[Tensor, "*b"], width: int) -> Float[Tensor, "*b width"]:
    """``[cos, sin](value / 10000^(i / half))``; angles in float64."""
    half = width // 2
    step = torch.arange(half, dtype=torch.float64, device=value.device) / half
    angle = value.double().unsqueeze(-1) * 1e4**-step
    return torch.cat([angle.cos(), angle.sin()], dim=-1).float()


def level_sinusoid(level: Float[Tensor, "b n"], width: int) -> Float[Tensor, "b n w"]:
    """``[sin, cos](2 pi t / period)``, periods geometric from 4e-3 to 4 (openpi's time embedding)."""
    fraction = torch.linspace(0, 1, width // 2, dtype=torch.float64, device=level.device)
    angle = 2 * math.pi * level.double().unsqueeze(-1) / (4e-3 * (4.0 / 4e-3) ** fraction)
    return torch.cat([angle.sin(), angle.cos()], dim=-1).float()


def turns(
    angle: Float[Tensor, "*places half"], dtype: torch.dtype = torch.complex64
) -> Complex[Tensor, "*places half"]:
    """Angles as unit complex numbers; computed once and used by every layer."""
    return torch.polar(torch.ones_like(angle), angle).to(dtype)


def rotate_adjacent(x: Float[Tensor, "b n h d"], turn: Tensor) -> Float[Tensor, "b n h d"]:
    """Rotate adjacent pairs of channels, taken as complex numbers in the precision of ``turn`` (Wan ``rope_apply``).

    ``turn`` is ``n half`` or ``b n half`` (from ``turns``). One complex product costs much less on CPU than four real
    ones on strided halves.
    """
    pairs = torch.view_as_complex(x.to(turn.real.dtype).unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turn.unsqueeze(-2)).flatten(-2).to(x.dtype)
