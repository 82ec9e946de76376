"""A small diffusion transformer that is told what to do by tokens of its own: one for each state that it reads across.

CogACT (Li et al. 2024, arXiv 2411.19650), as DreamVLA has it (arXiv 2507.04447): the state of each query, mapped, plus
the step of the diffusion is a token before those of the noisy actions; norms have no weights, nothing is modulated.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.diffusion import step_at
from crossroads.errors import InputError
from crossroads.streams import linear_flops, linear_parameters
from crossroads.towers.plain import Plain, PlainBlock, PlainCondition
from crossroads.towers.spec import Context, Crossed, Places, context_of, sinusoid

WAVES = 256
"""Numbers by which a step enters."""


@dataclass(frozen=True, kw_only=True)
class CognitionHead(Plain):
    """``slots`` tokens for what is read, then ``num_actions`` of actions, each with a learned place; ``num_steps`` of
    the process that the actions are noised by."""

    slots: int
    num_actions: int
    context_width: int
    num_steps: int = 100

    def num_parameters(self) -> int:
        w = self.width
        layers = super().num_parameters() - 2 * w - self.depth * 4 * w
        told = linear_parameters(WAVES, w) + linear_parameters(w, w) + linear_parameters(self.context_width, w)
        return layers + told + (self.slots + self.num_actions) * w

    def frame_flops(self, num_levels: int, context: Crossed) -> int:
        told = linear_flops(num_levels, WAVES, self.width) + linear_flops(num_levels, self.width, self.width)
        return told + linear_flops(context.get(self.context_width, 0), self.context_width, self.width)


class CognitionFrame(nn.Module):
    """Fills the slots with what is read across, in order; a norm without weights at the end."""

    def __init__(self, spec: CognitionHead) -> None:
        super().__init__()
        self.spec = spec
        self.places = nn.Parameter(0.02 * torch.randn(spec.slots + spec.num_actions, spec.width))
        self.level_in, self.level_out = nn.Linear(WAVES, spec.width), nn.Linear(spec.width, spec.width)
        self.read = nn.Linear(spec.context_width, spec.width)
        self.norm = nn.LayerNorm(spec.width, elementwise_affine=False, eps=1e-6)

    def condition(
        self,
        level: Float[Tensor, "b g"],
        counts: tuple[int, ...],
        places: Places,
        contexts: tuple[Context, ...],
        modulation: Tensor | None,
    ) -> PlainCondition:
        context = context_of(contexts, self.spec.context_width)
        if context is None or modulation is not None:
            raise InputError(
                where="CognitionHead tower",
                expected=f"states of width {self.spec.context_width} that are read across",
                got="a modulate edge" if modulation is not None else "none",
                do="Read the queries by a cross edge.",
            )
        half, number = places.grid[:, 1] > 0, places.grid[:, 2].long()
        added = self.places[number + self.spec.slots * half].expand(len(level), -1, -1)
        wave = sinusoid(step_at(level, self.spec.num_steps).float(), WAVES).to(self.read.weight.dtype)
        told = self.level_out(functional.silu(self.level_in(wave)))
        told = told.repeat_interleave(torch.tensor(counts, device=told.device), dim=1)
        slots = (~half).nonzero()[:, 0]
        filled = self.read(context.hidden) + told[:, slots]
        return PlainCondition(position=added.index_add(1, slots, filled.to(added.dtype)))

    def enter(self, x: Float[Tensor, "b n w"], condition: PlainCondition) -> Float[Tensor, "b n w"]:
        return x + condition.position

    def finish(self, x: Float[Tensor, "b n w"], condition: PlainCondition) -> Float[Tensor, "b n w"]:
        return self.norm(x)


class CognitionBlock(PlainBlock):
    """A plain layer whose norms have no weights."""

    def __init__(self, spec: CognitionHead) -> None:
        super().__init__(spec)
        for name in ("norm_attention", "norm_mlp"):
            setattr(self, name, nn.LayerNorm(spec.width, elementwise_affine=False, eps=1e-6))
