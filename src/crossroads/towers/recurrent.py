"""Networks that go through a sequence step by step, keeping a state; our own loops, so that shards and counters see
every product.

The equations and the order of the gates are those of ``torch.nn.RNN``, ``GRU`` and ``LSTM``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

Cell = Literal["relu", "tanh", "gru", "lstm"]
GATES: Mapping[Cell, int] = {"relu": 1, "tanh": 1, "gru": 3, "lstm": 4}


@dataclass(frozen=True, kw_only=True)
class Went:
    """What one pass left: the last layer's outputs, and every layer's state behind each step (of an LSTM its output;
    of two directions, the forward one first, then the backward one for each layer)."""

    outputs: Float[Tensor, "b n w"]
    states: tuple[Float[Tensor, "b n h"], ...]

    def after(self, step: int) -> Float[Tensor, "l b h"]:
        """The states behind one step."""
        return torch.stack([state[:, step] for state in self.states])


class Recurrence(nn.Module):
    """``depth`` layers of ``cell``; ``both``: each also goes through the sequence from its end, and its outputs stand
    behind those of the other."""

    def __init__(self, inputs: int, hidden: int, depth: int, cell: Cell, *, both: bool = False) -> None:
        super().__init__()
        self.cell, self.directions = cell, 2 if both else 1
        sizes = [inputs, *[self.directions * hidden] * (depth - 1)]
        self.layers = nn.ModuleList(
            nn.ModuleList(Direction(size, hidden, cell) for _ in range(self.directions)) for size in sizes
        )

    def forward(self, x: Float[Tensor, "b n i"]) -> Went:
        states = []
        for layer in self.layers:
            forward, *backward = layer  # pyright: ignore[reportGeneralTypeIssues]
            found = [forward(x)]
            found += [back(x.flip(1)).flip(1) for back in backward]
            states += found
            x = torch.cat(found, dim=-1)
        return Went(outputs=x, states=tuple(states))


class Direction(nn.Module):
    """One layer in one direction; every weight is drawn evenly within ``1 / sqrt(hidden)``."""

    def __init__(self, inputs: int, hidden: int, cell: Cell) -> None:
        super().__init__()
        self.hidden, self.step = hidden, STEPS[cell]
        self.enter = nn.Linear(inputs, GATES[cell] * hidden)
        self.again = nn.Linear(hidden, GATES[cell] * hidden)
        for weight in self.parameters():
            nn.init.uniform_(weight, -(hidden**-0.5), hidden**-0.5)

    def forward(self, x: Float[Tensor, "b n i"]) -> Float[Tensor, "b n h"]:
        entered = self.enter(x)
        kept = (entered.new_zeros(len(x), self.hidden),) * 2
        found = []
        for now in entered.unbind(dim=1):
            kept = self.step(now, self.again(kept[0]), kept)
            found.append(kept[0])
        return torch.stack(found, dim=1)


Kept = tuple[Tensor, Tensor]
"""The state behind a step: its output, and the memory cell of an LSTM (of the others nothing that is used)."""


def _relu(now: Tensor, again: Tensor, kept: Kept) -> Kept:
    return (now + again).relu(), kept[1]


def _tanh(now: Tensor, again: Tensor, kept: Kept) -> Kept:
    return (now + again).tanh(), kept[1]


def _gru(now: Tensor, again: Tensor, kept: Kept) -> Kept:
    reset_now, update_now, new_now = now.chunk(3, dim=-1)
    reset, update, new = again.chunk(3, dim=-1)
    share = (update_now + update).sigmoid()
    fresh = (new_now + (reset_now + reset).sigmoid() * new).tanh()
    return fresh + share * (kept[0] - fresh), kept[1]


def _lstm(now: Tensor, again: Tensor, kept: Kept) -> Kept:
    enter, forget, new, leave = (now + again).chunk(4, dim=-1)
    memory = forget.sigmoid() * kept[1] + enter.sigmoid() * new.tanh()
    return leave.sigmoid() * memory.tanh(), memory


STEPS: Mapping[Cell, Callable[[Tensor, Tensor, Kept], Kept]] = {
    "relu": _relu,
    "tanh": _tanh,
    "gru": _gru,
    "lstm": _lstm,
}
