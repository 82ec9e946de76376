"""Actions read from learned queries at each observed step: the arm's numbers regressed, the gripper's as a score.

GR-1 (arXiv 2312.13139) asks one query per step for one action, Seer (arXiv 2412.15109) three for three. Each step's
actions begin there, so those of neighbouring steps may overlap.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from crossroads.codecs.banks import ACTIVATIONS, Activation
from crossroads.codecs.spec import Latent
from crossroads.codecs.steps import Steps
from crossroads.space import Normaliser, NormaliserKind
from crossroads.streams import ViewKind, linear_flops, linear_parameters
from crossroads.types import NOTHING, Batch, Observation, Window


@dataclass(frozen=True, kw_only=True)
class ActionQueries:
    """``num_actions`` actions at each of ``steps``, of which the last ``binary`` numbers are shut or open.

    ``hidden``: widths of the network between a query's state and the two last maps, with ``activation`` behind each of
    its layers (None: nothing). ``bounded``: the arm's numbers pass a tanh. ``placed``: queries are told their step.
    """

    num_actions: int
    action_size: int
    control_hz: float
    steps: Steps
    hidden: tuple[int, ...]
    activation: Activation | None = None
    bounded: bool = False
    binary: int = 1
    placed: bool = False
    normaliser: NormaliserKind = "min_max"

    @property
    def views(self) -> tuple[ViewKind, ...]:
        return ("noised",)

    @property
    def apart(self) -> int:
        """Control steps from one observed step to the next."""
        return round(self.steps.apart_s * self.control_hz)

    def num_tokens(self, view: ViewKind) -> int:
        return self.steps.num * self.num_actions

    def window(self) -> Window:
        num = (self.steps.num - 1) * self.apart + self.num_actions
        asked = {"num_actions": num, "action_size": self.action_size, "control_hz": self.control_hz}
        return Window(**{**vars(NOTHING), **asked})

    def num_parameters(self, width: int) -> int:
        inner = sum(linear_parameters(a, b) for a, b in pairwise((width, *self.hidden)))
        return self.num_actions * width + inner + linear_parameters((width, *self.hidden)[-1], self.action_size)

    def embed_flops(self, view: ViewKind, width: int) -> int:
        return 0

    def read_flops(self, view: ViewKind, width: int) -> int:
        sizes = (width, *self.hidden, self.action_size)
        return sum(linear_flops(self.num_tokens(view), a, b) for a, b in pairwise(sizes))

    def encode_flops(self, view: ViewKind) -> int:
        return 0

    def decode_flops(self) -> int:
        return 0


class ActionQueryCodec(nn.Module):
    """The module of :class:`ActionQueries`; its latent holds normalised actions, those of each step in turn."""

    def __init__(self, spec: ActionQueries, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.normaliser = Normaliser(spec.action_size)
        self.queries = nn.Parameter(torch.randn(spec.num_actions, width) * 0.02)
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in pairwise((width, *spec.hidden))])
        last = (width, *spec.hidden)[-1]
        self.arm = nn.Linear(last, spec.action_size - spec.binary)
        self.gripper = nn.Linear(last, spec.binary) if spec.binary else None

    def observe(self, obs: Observation) -> Latent:
        raise AssertionError("actions are never observed: a recipe with a 'now' view of actions is refused")

    def target(self, batch: Batch) -> Latent:
        index = self.spec.steps.actions(self.spec.apart, self.spec.num_actions).to(batch.actions.device)
        return Latent(values=self.normaliser.normalise(batch.actions[:, index]), valid=batch.actions_valid[:, index])

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (self.spec.num_tokens(view), self.spec.action_size)

    def embed(self, latent: Float[Tensor, "b n a"], level: Tensor) -> Float[Tensor, "b n w"]:
        return repeat(self.queries, "n w -> b (t n) w", b=len(latent), t=self.spec.steps.num)

    def read(self, hidden: Float[Tensor, "b n w"]) -> Float[Tensor, "b n a"]:
        for layer in self.layers:
            hidden = layer(hidden)
            hidden = ACTIVATIONS[self.spec.activation](hidden) if self.spec.activation else hidden
        arm = self.arm(hidden).tanh() if self.spec.bounded else self.arm(hidden)
        return arm if self.gripper is None else torch.cat([arm, self.gripper(hidden)], dim=-1)

    def decode(self, latent: Float[Tensor, "b n a"]) -> Float[Tensor, "b n a"]:
        """In physical units; a score above zero is the upper end of its number's range, else the lower."""
        num = self.spec.action_size - self.spec.binary
        ends = torch.where(latent[..., num:] > 0, 1.0, -1.0).to(latent.dtype)
        return self.normaliser.restore(torch.cat([latent[..., :num], ends], dim=-1))

    def by_step(self, latent: Float[Tensor, "b n a"]) -> Float[Tensor, "b t n a"]:
        """The same with an axis for the steps."""
        return rearrange(latent, "b (t n) a -> b t n a", t=self.spec.steps.num)

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        return self.spec.steps.grid(num_tokens, placed=self.spec.placed)
