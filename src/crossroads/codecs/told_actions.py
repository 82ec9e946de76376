"""Actions of each step of a window, told as mixtures: Play-LMP (arXiv 1903.01973), HULC (arXiv 2204.06252).

What tells it enters as nothing: all that an action depends on is read across.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from crossroads.codecs.spec import Latent
from crossroads.codecs.steps import Steps
from crossroads.codecs.tool_frame import to_tool, to_world
from crossroads.errors import InputError
from crossroads.mixtures import Logistics
from crossroads.space import Normaliser, NormaliserKind
from crossroads.streams import ViewKind, linear_flops, linear_parameters
from crossroads.types import NOTHING, Batch, Observation, Window


@dataclass(frozen=True, kw_only=True)
class ToldActions:
    """``num_actions`` actions at each of ``steps``, which begin there, told by ``law`` all at once; published has one
    at each, and a step at every control step.

    ``hand``: of the state of ``num_state`` numbers the three that hold the hand's Euler angles, in whose frame actions
    are told (HULC); None: they are told as they are.
    """

    num_actions: int
    action_size: int
    control_hz: float
    steps: Steps
    law: Logistics
    normaliser: NormaliserKind = "min_max"
    num_state: int = 0
    hand: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        turned = self.hand is not None and (max(self.hand) >= self.num_state or self.action_size < 6)
        if min(self.apart, self.num_actions) < 1 or turned or self.law.binary >= self.action_size:
            raise InputError(
                where="ToldActions",
                expected="steps at least a control step apart, angles that the state holds, numbers beside binary ones",
                got=f"{self.steps.apart_s:g} s at {self.control_hz:g} Hz, hand {self.hand} of {self.num_state}",
                do="Correct them.",
            )

    @property
    def views(self) -> tuple[ViewKind, ...]:
        return ("noised",)

    @property
    def apart(self) -> int:
        """Control steps from one step to the next."""
        return round(self.steps.apart_s * self.control_hz)

    @property
    def num_told(self) -> int:
        """Numbers that tell of one step's actions."""
        return self.num_actions * self.law.num_told(self.action_size)

    def num_tokens(self, view: ViewKind) -> int:
        return self.steps.num * self.num_actions

    def window(self) -> Window:
        num = (self.steps.num - 1) * self.apart + self.num_actions
        asked = {"num_actions": num, "action_size": self.action_size, "control_hz": self.control_hz}
        if self.hand is not None:
            asked |= {"num_state": self.num_state, "later_state_s": self.steps.later_s}
        return Window(**{**vars(NOTHING), **asked})

    def num_parameters(self, width: int) -> int:
        return linear_parameters(width, self.num_told)

    def embed_flops(self, view: ViewKind, width: int) -> int:
        return 0

    def read_flops(self, view: ViewKind, width: int) -> int:
        return linear_flops(self.steps.num, width, self.num_told)

    def encode_flops(self, view: ViewKind) -> int:
        return 0

    def decode_flops(self) -> int:
        return 0


class ToldActionCodec(nn.Module):
    """The module of :class:`ToldActions`; its latent holds normalised actions."""

    def __init__(self, spec: ToldActions, width: int) -> None:
        super().__init__()
        self.spec, self.width = spec, width
        self.normaliser = Normaliser(spec.action_size)
        num = spec.num_actions * spec.law.num_sides
        self.leave = nn.Linear(width, spec.num_told - num)
        self.sides = nn.Linear(width, num) if num else None

    def observe(self, obs: Observation) -> Latent:
        raise AssertionError("actions are never observed: a recipe with a 'now' view of actions is refused")

    def target(self, batch: Batch) -> Latent:
        index = self.spec.steps.actions(self.spec.apart, self.spec.num_actions).to(batch.actions.device)
        actions = batch.actions[:, index]
        if self.spec.hand is not None:
            states = torch.cat([batch.obs.state[:, None], batch.later_state], dim=1)
            angles = states[..., list(self.spec.hand)].repeat_interleave(self.spec.num_actions, dim=1)
            actions = to_tool(actions, angles)
        return Latent(values=self.normaliser.normalise(actions), valid=batch.actions_valid[:, index])

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (self.spec.num_tokens(view), self.spec.action_size)

    def embed(self, latent: Float[Tensor, "b n a"], level: Tensor) -> Float[Tensor, "b n w"]:
        return latent.new_zeros(*latent.shape[:2], self.width)

    def read(self, hidden: Float[Tensor, "b n w"]) -> Float[Tensor, "b n t"]:
        """What is told of each action; those of one step are alike when they come out of the tower."""
        num = self.spec.num_actions
        hidden = hidden[:, ::num]
        told = rearrange(self.leave(hidden), "b t (n o) -> b (t n) o", n=num)
        if self.sides is None:
            return told
        return torch.cat([told, rearrange(self.sides(hidden), "b t (n o) -> b (t n) o", n=num)], dim=-1)

    def decode(self, latent: Float[Tensor, "b n a"]) -> Float[Tensor, "b n a"]:
        """In physical units, as they were told."""
        return self.normaliser.restore(latent)

    def in_world(self, actions: Float[Tensor, "b n a"], state: Float[Tensor, "b s"]) -> Float[Tensor, "b n a"]:
        """What was told of a hand in some state, in the frame of the world."""
        if self.spec.hand is None:
            return actions
        angles = state[:, None, list(self.spec.hand)].expand(-1, actions.shape[1], -1)
        return to_world(actions, angles)

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        return self.spec.steps.grid(num_tokens)
