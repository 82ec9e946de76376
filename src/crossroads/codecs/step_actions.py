"""What a diffusion head over observed steps needs: actions of each step, and tokens in two towers that stand for it.

DreamVLA (arXiv 2507.04447), after CogACT (arXiv 2411.19650): queries of the large tower are read by a small one, which
takes the state of each as the beginning of a token of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor, nn

from crossroads.codecs.action_tokens import ActionCodec, ActionTokens
from crossroads.codecs.inputs import InputCodec, InputTokens
from crossroads.codecs.spec import Latent, all_valid
from crossroads.codecs.steps import Steps
from crossroads.streams import ViewKind
from crossroads.types import NOTHING, Batch, Observation, Window

SLOT_ROW, ACTION_ROW = 0.0, 1.0
"""The second coordinate of a place: which half of the head's sequence a token is in."""


@dataclass(frozen=True, kw_only=True)
class StepActions(ActionTokens):
    """``num_actions`` actions at each of ``steps``; those of each step begin there."""

    steps: Steps

    @property
    def apart(self) -> int:
        """Control steps from one observed step to the next."""
        return round(self.steps.apart_s * self.control_hz)

    @property
    def views(self) -> tuple[ViewKind, ...]:
        return ("noised",)

    def num_tokens(self, view: ViewKind) -> int:
        return self.steps.num * self.num_actions

    def window(self) -> Window:
        num = (self.steps.num - 1) * self.apart + self.num_actions
        asked = {"num_actions": num, "action_size": self.action_size, "control_hz": self.control_hz}
        return Window(**{**vars(NOTHING), **asked})

    def embed_flops(self, view: ViewKind, width: int) -> int:
        return self.steps.num * super().embed_flops(view, width)

    def read_flops(self, view: ViewKind, width: int) -> int:
        return self.steps.num * super().read_flops(view, width)


class StepActionCodec(ActionCodec):
    """The module of :class:`StepActions`."""

    spec: StepActions

    def target(self, batch: Batch) -> Latent:
        index = self.spec.steps.actions(self.spec.apart, self.spec.num_actions).to(batch.actions.device)
        return Latent(values=self.normaliser.normalise(batch.actions[:, index]), valid=batch.actions_valid[:, index])

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (self.spec.num_tokens(view), self.spec.action_size)

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        return in_half(self.spec.steps, num_tokens, self.spec.num_actions, ACTION_ROW)


def in_half(steps: Steps, num_tokens: int, each: int, row: float) -> Float[Tensor, "n 3"]:
    """Places by step, half and number within the step."""
    places = steps.grid(num_tokens)
    places[:, 1], places[:, 2] = row, torch.arange(num_tokens) % each
    return places


@dataclass(frozen=True, kw_only=True)
class StepQueries(InputTokens):
    """The same ``num`` learned tokens at each of ``steps``."""

    num: int
    steps: Steps

    def num_tokens(self, view: ViewKind) -> int:
        return self.steps.num * self.num

    def num_parameters(self, width: int) -> int:
        return self.num * width


class StepQueryCodec(InputCodec):
    """The module of :class:`StepQueries`; its latent is empty."""

    def __init__(self, spec: StepQueries, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.queries = nn.Parameter(0.02 * torch.randn(spec.num, width))

    def observe(self, obs: Observation) -> Latent:
        return all_valid(torch.zeros(obs.batch_size, self.spec.num_tokens("now"), 0, device=obs.state.device))

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (self.spec.num_tokens(view), 0)

    def embed(self, latent: Float[Tensor, "b n 0"], level: Tensor) -> Float[Tensor, "b n w"]:
        return repeat(self.queries, "n w -> b (t n) w", b=len(latent), t=latent.shape[1] // self.spec.num)

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        return self.spec.steps.grid(num_tokens)


@dataclass(frozen=True, kw_only=True)
class StepSlots(InputTokens):
    """``num`` empty tokens at each of ``steps``, which their tower fills."""

    num: int
    steps: Steps

    def num_tokens(self, view: ViewKind) -> int:
        return self.steps.num * self.num


class StepSlotCodec(InputCodec):
    """The module of :class:`StepSlots`; its latent is empty, and it has no weights."""

    def __init__(self, spec: StepSlots, width: int) -> None:
        super().__init__()
        self.spec, self.width = spec, width

    def observe(self, obs: Observation) -> Latent:
        return all_valid(torch.zeros(obs.batch_size, self.spec.num_tokens("now"), 0, device=obs.state.device))

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (self.spec.num_tokens(view), 0)

    def embed(self, latent: Float[Tensor, "b n 0"], level: Tensor) -> Float[Tensor, "b n w"]:
        return latent.new_zeros(*latent.shape[:2], self.width)

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        return in_half(self.spec.steps, num_tokens, self.spec.num, SLOT_ROW)
