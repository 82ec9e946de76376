"""Solvers: how a leg walks from noise to clean along the network's velocity.

A solver names the levels it visits and turns a velocity into a new state. All speak the house convention (``noise``);
what a published solver keeps in other variables is converted inside it. Those of discrete processes stand in
``diffusion``: they are given what the network answers, which is no velocity. ``Skipping`` and ``SkippingWhileAlike``
stand between any of them and the network, and ask it at some steps only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from crossroads.diffusion import Ddim, Ddpm, Renoise
from crossroads.edm import EdmEuler
from crossroads.noise import TIMESTEPS, clean_from_velocity, grid, level_from_edm, unipc, wan_grid

Velocity = Callable[[Tensor, float], Tensor]
"""The velocity at a state ``b m`` and a level; called once per step, in order. Solvers that draw noise are given a
generator as well."""


@dataclass(frozen=True, kw_only=True)
class Euler:
    """``x <- x + (t' - t) v`` on a grid that is even before its shift by ``factor``."""

    steps: int
    factor: float = 1.0
    start: float = 1.0
    stop: float = 0.0

    def levels(self) -> Float[Tensor, " steps_1"]:
        return grid(self.steps, factor=self.factor, start=self.start, stop=self.stop)

    def solve(
        self, x: Float[Tensor, "b m"], velocity: Velocity, generator: torch.Generator | None = None
    ) -> Float[Tensor, "b m"]:
        for level, after in pairwise(self.levels().tolist()):
            x = x + (after - level) * velocity(x, level)
        return x


@dataclass(frozen=True, kw_only=True)
class Strides:
    """Euler over whole steps of a discrete clock: ``steps`` times a ``stride`` down from the last of ``num_steps``; the
    state is cut to ``clip`` behind each (VLA Foundry, arXiv 2604.19728, ``generate_actions``). ``stride`` 0: as long as
    fits. It ends where it ends, up to one stride from level 0 on either side, as published."""

    steps: int
    num_steps: int = TIMESTEPS
    stride: int = 0
    clip: tuple[float, float] | None = None

    @classmethod
    def about(cls, asked: int, num_steps: int, clip: tuple[float, float] | None = None) -> Strides:
        """The published walk that is asked for so many steps; it never stops at step 0, and may take one more."""
        stride = max(1, num_steps // asked)
        return cls(steps=len(range(num_steps - 1, 0, -stride)), num_steps=num_steps, stride=stride, clip=clip)

    @property
    def start(self) -> float:
        return 1.0

    @property
    def stop(self) -> float:
        return 0.0

    @property
    def taken(self) -> int:
        """The stride, in steps of the clock."""
        return self.stride or max(1, self.num_steps // self.steps)

    def levels(self) -> Float[Tensor, " steps_1"]:
        visited = [self.num_steps - 1 - index * self.taken for index in range(self.steps)]
        return torch.tensor([*visited, 0]) / self.num_steps

    def solve(
        self, x: Float[Tensor, "b m"], velocity: Velocity, generator: torch.Generator | None = None
    ) -> Float[Tensor, "b m"]:
        for level in self.levels()[:-1].tolist():
            x = x - self.taken / self.num_steps * velocity(x, level)
            x = x if self.clip is None else x.clamp(*self.clip)
        return x


@dataclass(frozen=True, kw_only=True)
class UniPC:
    """Order 2 on the data prediction over Wan's own grid (``noise.unipc``, ``noise.wan_grid``); the solver of published
    Wan models. The first level is just below 1, where the state is still pure noise."""

    steps: int
    factor: float = 1.0

    @property
    def start(self) -> float:
        return 1.0

    @property
    def stop(self) -> float:
        return 0.0

    def levels(self) -> Float[Tensor, " steps_1"]:
        return wan_grid(self.steps, self.factor)

    def solve(
        self, x: Float[Tensor, "b m"], velocity: Velocity, generator: torch.Generator | None = None
    ) -> Float[Tensor, "b m"]:
        levels = self.levels()
        given = levels.tolist()

        def clean(state: Tensor, step: int) -> Tensor:
            return clean_from_velocity(state, velocity(state.to(x.dtype), given[step]), levels[step])

        return unipc(x, levels, clean)[-1].to(x.dtype)


@dataclass(frozen=True, kw_only=True)
class ExponentialMultistep:
    """Cosmos' "2ab": second-order exponential steps on the data prediction, in float64, and a last prediction.

    ``steps`` noise scales ``sigma_i = (high^(1/7) + i / (steps - 1) (low^(1/7) - high^(1/7)))^7`` (Karras et al. 2022,
    arXiv 2206.00364, eq. 5); between them, in ``lambda = -ln sigma``, the two-step Adams-Bashforth form of exponential
    integrators, the first step of order 1; what is returned is the prediction of x_0 at ``low`` (Cosmos Policy, arXiv
    2601.16163; its sampler "2ab"). One step: the prediction at ``high``. The network sees ``x_0 + sigma e`` at the
    level ``sigma / (1 + sigma)``, rescaled to the straight path.
    """

    steps: int
    high: float = 80.0
    low: float = 4.0

    @property
    def start(self) -> float:
        return 1.0

    @property
    def stop(self) -> float:
        return 0.0

    def sigmas(self) -> list[float]:
        """The noise scales that are visited, in float64."""
        high, low, last = self.high ** (1 / 7), self.low ** (1 / 7), max(1, self.steps - 1)
        return [(high + index / last * (low - high)) ** 7 for index in range(self.steps)]

    def levels(self) -> Float[Tensor, " steps_1"]:
        return torch.cat([level_from_edm(torch.tensor(self.sigmas(), dtype=torch.float64)), torch.zeros(1).double()])

    def solve(
        self, x: Float[Tensor, "b m"], velocity: Velocity, generator: torch.Generator | None = None
    ) -> Float[Tensor, "b m"]:
        sigmas = self.sigmas()
        state, before = sigmas[0] * x.double(), None

        def clean(sigma: float) -> Tensor:
            level = sigma / (1 + sigma)
            seen = (1 - level) * state.to(x.dtype)
            return clean_from_velocity(seen, velocity(seen, level), level)

        for index, (sigma, after) in enumerate(pairwise(sigmas)):
            found = clean(sigma).double()
            h = math.log(sigma) - math.log(after)
            one = -math.expm1(-h) / h  # phi_1(-h)
            if before is None:
                state = math.exp(-h) * state + h * one * found
            else:
                back = (math.log(sigma) - math.log(sigmas[index - 1])) / h
                second = (one - 1) / -h / back  # phi_2(-h) / c
                state = math.exp(-h) * state + h * ((one - second) * found + second * before)
            before = found
        return clean(sigmas[-1]).to(x.dtype)


Undoing = Ddim | Ddpm | EdmEuler | Renoise
"""Those that undo a process: they are given what the network answers, which is no velocity."""
Solver = Euler | Strides | UniPC | ExponentialMultistep | Ddim | Ddpm | EdmEuler | Renoise


@dataclass(frozen=True, kw_only=True)
class Skipping:
    """The network is asked at the steps ``evaluated`` alone, counted from 0; at the others the solver is given the last
    velocity again (DreamZero, arXiv 2602.15922, "DiT caching"; in its code ``dit_step_mask``)."""

    evaluated: tuple[int, ...]

    def over(self, velocity: Velocity) -> Velocity:
        """The velocity that a solver is given, for one walk."""
        last, step = torch.empty(0), -1

        def reused(x: Tensor, level: float) -> Tensor:
            nonlocal last, step
            step += 1
            last = velocity(x, level) if step in self.evaluated else last
            return last

        return reused


@dataclass(frozen=True, kw_only=True)
class SkippingWhileAlike:
    """Where a sample's last two velocities point the same way, it goes on by the last one for a while.

    ``rules``: from the strictest on, the cosine that must be passed and for how many steps nothing is asked then; after
    them the network is asked once before the next comparison, and it is asked at the first two steps (DreamZero's code,
    ``DYNAMIC_CACHE_SCHEDULE``). Every sample decides for itself, over all that the leg moves, so an answer does not
    depend on its company; the network runs, for the whole batch, where one sample asks. DreamZero compares the video's
    velocities alone and decides by their mean over the batch.
    """

    rules: tuple[tuple[float, int], ...] = ((0.95, 4), (0.93, 2))

    def over(self, velocity: Velocity) -> Velocity:
        """The velocity that a solver is given, for one walk."""
        answers: list[Tensor] = []  # the last two of each sample
        left = torch.empty(0)  # how many steps a sample still goes without

        def reused(x: Tensor, level: float) -> Tensor:
            nonlocal left, answers
            if len(answers) < 2:
                answers.append(velocity(x, level))
                left = torch.zeros(len(x), dtype=torch.long, device=x.device)
                return answers[-1]
            before, last = answers
            alike = functional.cosine_similarity(last.float(), before.float(), dim=1)
            num = torch.zeros_like(left)
            for cosine, steps in reversed(self.rules):
                num = torch.where(alike > cosine, steps, num)
            begins = (left == 0) & (num > 0)
            skips = begins | (left > 1)
            left = torch.where(begins, num, (left - 1).clamp(min=0))
            if bool(skips.all()):
                return last
            kept = skips[:, None]
            answers = [torch.where(kept, before, last), torch.where(kept, last, velocity(x, level))]
            return answers[1]

        return reused
