"""Latent plans as tokens: a token whose state tells of a plan, and the plan itself as a token.

Play-LMP (arXiv 1903.01973), ACT (arXiv 2304.13705; its style variable). How a plan is drawn and learned: ``plans``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from crossroads.codecs.inputs import InputCodec, InputTokens
from crossroads.codecs.learned import LearnedCodec, LearnedTokens
from crossroads.codecs.spec import Latent, all_valid
from crossroads.errors import InputError
from crossroads.plans import Distribution
from crossroads.streams import ViewKind, linear_flops, linear_parameters
from crossroads.types import Batch, Observation


@dataclass(frozen=True, kw_only=True)
class PlanQuery(LearnedTokens):
    """A learned token whose last state tells the distribution of a plan by one linear map."""

    family: Distribution
    num: int = 1

    @property
    def views(self) -> tuple[ViewKind, ...]:
        return ("prior", "posterior")

    def num_parameters(self, width: int) -> int:
        return self.num * width + linear_parameters(width, self.family.num_told)

    def read_flops(self, view: ViewKind, width: int) -> int:
        return linear_flops(self.num, width, self.family.num_told)


class PlanQueryCodec(LearnedCodec):
    """The module of :class:`PlanQuery`."""

    def __init__(self, spec: PlanQuery, width: int) -> None:
        super().__init__(spec, width)
        self.leave = nn.Linear(width, spec.family.num_told)

    def read(self, hidden: Float[Tensor, "b n w"]) -> Float[Tensor, "b n t"]:
        return self.leave(hidden)

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        return beside_pictures(num_tokens)


@dataclass(frozen=True, kw_only=True)
class PlanAnswer(PlanQuery):
    """The same of a tower that answers from what it reads alone: its token is empty."""

    def num_parameters(self, width: int) -> int:
        return linear_parameters(width, self.family.num_told)


class PlanAnswerCodec(InputCodec):
    """The module of :class:`PlanAnswer`."""

    def __init__(self, spec: PlanAnswer, width: int) -> None:
        super().__init__()
        self.spec, self.width = spec, width
        self.leave = nn.Linear(width, spec.family.num_told)

    def observe(self, obs: Observation) -> Latent:
        return all_valid(torch.zeros(obs.batch_size, self.spec.num, 0, device=obs.state.device))

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (self.spec.num, 0)

    def embed(self, latent: Float[Tensor, "b n 0"], level: Tensor) -> Float[Tensor, "b n w"]:
        return latent.new_zeros(*latent.shape[:2], self.width)

    def read(self, hidden: Float[Tensor, "b n w"]) -> Float[Tensor, "b n t"]:
        return self.leave(hidden)

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        return beside_pictures(num_tokens)


@dataclass(frozen=True, kw_only=True)
class PlanToken(InputTokens):
    """A drawn plan of ``size`` numbers as one token, through one linear map."""

    size: int

    @property
    def views(self) -> tuple[ViewKind, ...]:
        return ("noised",)

    def num_tokens(self, view: ViewKind) -> int:
        return 1

    def num_parameters(self, width: int) -> int:
        return linear_parameters(self.size, width)

    def embed_flops(self, view: ViewKind, width: int) -> int:
        return linear_flops(1, self.size, width)


@dataclass(frozen=True, kw_only=True)
class BarePlan(PlanToken):
    """The same without a map, in a tower as wide as it is (Play-LMP hands it to its decoder as it is)."""

    def num_parameters(self, width: int) -> int:
        return 0

    def embed_flops(self, view: ViewKind, width: int) -> int:
        return 0


class PlanCodec(nn.Module):
    """The module of :class:`PlanToken`."""

    def __init__(self, spec: PlanToken, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.enter: nn.Module = nn.Linear(spec.size, width)

    def observe(self, obs: Observation) -> Latent:
        raise AssertionError("plans are drawn, never observed")

    def target(self, batch: Batch) -> Latent:
        """Nothing is known of a plan but its size."""
        return all_valid(torch.zeros(batch.batch_size, 1, self.spec.size, device=batch.weight.device))

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (1, self.spec.size)

    def embed(self, latent: Float[Tensor, "b 1 z"], level: Tensor) -> Float[Tensor, "b 1 w"]:
        return self.enter(latent)

    def read(self, hidden: Float[Tensor, "b n w"]) -> Tensor:
        raise AssertionError("a plan is told by its prior and its posterior, not by its own token")

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        return beside_pictures(num_tokens)


class BarePlanCodec(PlanCodec):
    """The module of :class:`BarePlan`."""

    def __init__(self, spec: BarePlan, width: int) -> None:
        super().__init__(spec, width)
        if width != spec.size:
            raise InputError(
                where="BarePlan",
                expected=f"a tower as wide as the plan ({spec.size})",
                got=str(width),
                do="Give the tower that width, or use PlanToken.",
            )
        self.enter = nn.Identity()


def beside_pictures(num_tokens: int) -> Float[Tensor, "n 3"]:
    """Places on a line, without row and column."""
    places = torch.full((num_tokens, 3), math.nan)
    places[:, 0] = torch.arange(num_tokens)
    return places
