"""Observed steps at even distances, each with what is predicted at it: the window of a policy that looks back.

GR-1 (arXiv 2312.13139) and Seer (arXiv 2412.15109): a window begins at its first step. At every step the model is asked
for the actions from there on and for the frame ``ahead`` steps later, reading that step and those before it; so each
step is an observation with a history of its own length. Steps behind the end of an episode, and in acting those that
have not come yet, are there and not valid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from crossroads.codecs.spec import Latent
from crossroads.types import NOTHING, Batch, Observation, Window


def glanced(obs: Observation, num: int) -> tuple[Observation, ...]:
    """The last ``num`` moments, the present one last; where so many are not known, the oldest stands for those before
    it, as Diffusion Policy (arXiv 2303.04137) repeats the first frame of an episode."""
    known = (*obs.before, obs)[-num:]
    return (known[0],) * (num - len(known)) + known


@dataclass(frozen=True, kw_only=True)
class Steps:
    """``num`` steps, ``apart_s`` seconds from each to the next; what is foreseen lies ``ahead`` steps on."""

    num: int
    apart_s: float
    ahead: int

    @property
    def later_s(self) -> tuple[float, ...]:
        """Times of the observed steps after the first."""
        return tuple(round(self.apart_s * step, 4) for step in range(1, self.num))

    @property
    def frames_s(self) -> tuple[float, ...]:
        """Times of all frames after the first: those observed, and those foreseen."""
        return tuple(round(self.apart_s * step, 4) for step in range(1, self.num + self.ahead))

    def seen(self, cameras: tuple[str, ...], image_hw: tuple[int, int]) -> Window:
        """What is asked of a dataset for its pictures."""
        return Window(**{**vars(NOTHING), "cameras": cameras, "image_hw": image_hw, "future_s": self.frames_s})

    def actions(self, apart: int, each: int) -> Int[Tensor, " n"]:
        """Which actions of a window are asked for, step by step: ``each`` of them from every ``apart``-th on."""
        return (torch.arange(self.num)[:, None] * apart + torch.arange(each)).flatten()

    def present(self, batch: Batch) -> Bool[Tensor, "b t"]:
        """Which steps of a window lie within their episode: the first, and others whose frame does."""
        later = batch.future_valid[:, : self.num - 1]
        return torch.cat([torch.ones(len(later), 1, dtype=torch.bool, device=later.device), later], dim=1)

    def filled(self, values: Shaped[Tensor, "b t ..."], valid: Bool[Tensor, "b t"], each: int) -> Latent:
        """Values of as many steps as there are, followed by zeros for the rest; ``each`` tokens per step."""
        missing = self.num - valid.shape[1]
        values = torch.cat([values, values.new_zeros(len(values), missing, *values.shape[2:])], dim=1)
        valid = torch.cat([valid, valid.new_zeros(len(valid), missing)], dim=1)
        return Latent(values=values, valid=valid.repeat_interleave(each, dim=1))

    def grid(self, num_tokens: int, *, placed: bool = True) -> Float[Tensor, "n 3"]:
        """The step of each token, in time; nowhere where tokens are not ``placed``."""
        places = torch.full((num_tokens, 3), math.nan)
        if placed:
            places[:, 0] = torch.arange(num_tokens) // (num_tokens // self.num)
        return places
