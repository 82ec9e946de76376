"""Robot state at each observed step as one token: the arm's numbers, and an open or closed gripper.

GR-1 (arXiv 2312.13139) and Seer (arXiv 2412.15109): one linear map for the arm, one for the gripper as two classes, and
one over both.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.codecs.inputs import InputCodec, InputTokens
from crossroads.codecs.spec import Latent
from crossroads.codecs.steps import Steps
from crossroads.space import Normaliser, NormaliserKind
from crossroads.streams import ViewKind, linear_flops, linear_parameters
from crossroads.types import NOTHING, Batch, Observation, Window

CLASSES = 2


@dataclass(frozen=True, kw_only=True)
class GripperState(InputTokens):
    """``num_state`` numbers, of which the last is the gripper's: closed below the middle of its range, else open. So
    the normaliser must put that middle at zero."""

    num_state: int
    steps: Steps
    normaliser: NormaliserKind = "min_max"

    def num_tokens(self, view: ViewKind) -> int:
        return self.steps.num

    def window(self) -> Window:
        return Window(**{**vars(NOTHING), "num_state": self.num_state, "later_state_s": self.steps.later_s})

    def num_parameters(self, width: int) -> int:
        ends = linear_parameters(self.num_state - 1, width) + linear_parameters(CLASSES, width)
        return ends + linear_parameters(2 * width, width)

    def embed_flops(self, view: ViewKind, width: int) -> int:
        num = self.steps.num
        return linear_flops(num, self.num_state - 1 + CLASSES, width) + linear_flops(num, 2 * width, width)


class GripperStateCodec(InputCodec):
    """The module of :class:`GripperState`."""

    def __init__(self, spec: GripperState, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.normaliser = Normaliser(spec.num_state)
        self.arm, self.gripper = nn.Linear(spec.num_state - 1, width), nn.Linear(CLASSES, width)
        self.enter = nn.Linear(2 * width, width)

    def observe(self, obs: Observation) -> Latent:
        values = self.normaliser.normalise(torch.stack([one.state for one in (*obs.before, obs)], dim=1))
        return self.spec.steps.filled(values, torch.ones_like(values[..., 0], dtype=torch.bool), 1)

    def target(self, batch: Batch) -> Latent:
        """The states at each step of the window."""
        states = torch.cat([batch.obs.state[:, None], batch.later_state], dim=1)
        return self.spec.steps.filled(self.normaliser.normalise(states), self.spec.steps.present(batch), 1)

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (self.spec.steps.num, self.spec.num_state)

    def embed(self, latent: Float[Tensor, "b n s"], level: Tensor) -> Float[Tensor, "b n w"]:
        arm, gripper = latent[..., :-1], latent[..., -1]
        classes = functional.one_hot((gripper >= 0).long(), CLASSES).to(latent.dtype)
        return self.enter(torch.cat([self.arm(arm), self.gripper(classes)], dim=-1))

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        return self.spec.steps.grid(num_tokens)
