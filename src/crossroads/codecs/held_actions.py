"""Actions as a world model is told them: one for each step, held until the next.

V-JEPA 2-AC (Assran et al. 2025, arXiv 2506.09985) is told what the arm's pose changes by in a quarter of a second. Here
a step's action is the mean of those that are sent in it, and what is planned is sent that often.
"""

from __future__ import annotations

from dataclasses import dataclass

from einops import reduce, repeat
from jaxtyping import Float
from torch import Tensor, nn

from crossroads.codecs.frame_features import at_steps
from crossroads.codecs.spec import Latent
from crossroads.errors import InputError
from crossroads.space import Normaliser, NormaliserKind
from crossroads.streams import ViewKind, linear_flops
from crossroads.types import NOTHING, Batch, Observation, Window


@dataclass(frozen=True, kw_only=True)
class HeldActions:
    """``steps`` tokens, each for as many of the ``num_actions`` actions. They are read and searched, not predicted."""

    num_actions: int
    steps: int
    action_size: int
    control_hz: float
    normaliser: NormaliserKind = "mean_std"

    def __post_init__(self) -> None:
        if self.num_actions % self.steps:
            raise InputError(
                where="HeldActions",
                expected=f"as many of the {self.num_actions} actions in each step",
                got=f"{self.steps} steps",
                do="Choose a divisor.",
            )

    @property
    def views(self) -> tuple[ViewKind, ...]:
        return ("noised",)

    def num_tokens(self, view: ViewKind) -> int:
        return self.steps

    def window(self) -> Window:
        asked = {"num_actions": self.num_actions, "action_size": self.action_size, "control_hz": self.control_hz}
        return Window(**{**vars(NOTHING), **asked})

    def num_parameters(self, width: int) -> int:
        return self.action_size * width + width

    def embed_flops(self, view: ViewKind, width: int) -> int:
        return linear_flops(self.steps, self.action_size, width)

    def read_flops(self, view: ViewKind, width: int) -> int:
        return 0

    def encode_flops(self, view: ViewKind) -> int:
        return 0

    def decode_flops(self) -> int:
        return 0


class HeldActionCodec(nn.Module):
    """The module of :class:`HeldActions`."""

    def __init__(self, spec: HeldActions, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.normaliser = Normaliser(spec.action_size)
        self.enter = nn.Linear(spec.action_size, width)

    def observe(self, obs: Observation) -> Latent:
        raise AssertionError("actions are never observed: a recipe with a 'now' view of actions is refused")

    def target(self, batch: Batch) -> Latent:
        """Means over each step; a step counts if all of it lies inside the episode."""
        normal = self.normaliser.normalise(batch.held_actions)
        valid = reduce(batch.actions_valid.float(), "b (t k) -> b t", "min", t=self.spec.steps) > 0
        return Latent(values=reduce(normal, "b (t k) a -> b t a", "mean", t=self.spec.steps), valid=valid)

    def decode(self, latent: Float[Tensor, "b t a"]) -> Float[Tensor, "b n a"]:
        """Actions in physical units, each step's as often as it is held."""
        often = self.spec.num_actions // self.spec.steps
        return self.normaliser.restore(repeat(latent, "b t a -> b (t k) a", k=often))

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (self.spec.steps, self.spec.action_size)

    def embed(self, latent: Float[Tensor, "b t a"], level: Tensor) -> Float[Tensor, "b t w"]:
        return self.enter(latent)

    def read(self, hidden: Float[Tensor, "b t w"]) -> Tensor:
        raise AssertionError("actions are searched: no schedule predicts them")

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        return at_steps(self.spec.steps, 1)[:num_tokens]
