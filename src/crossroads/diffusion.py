"""Discrete diffusion in the classic convention: the process, its conversions, and how it is undone.

A process noises in ``num_steps`` steps of variance ``beta`` (Ho et al. 2020, arXiv 2006.11239, DDPM):
``x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) e`` with ``a_t = prod(1 - beta)``. Step ``t`` of them stands at our level
``(t + 1) / num_steps``: 1 is the last step, and 0 what was never noised. The path is not the straight one of
``noise``; a level says how far along it a token is, and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

Answer = Callable[[Tensor, float], Tensor]
"""What the network answers to a state ``b m`` at a level; called once per step, in order."""
Around = tuple[Tensor, Tensor | float]
"""The mean of a state that is drawn, and its standard deviation."""


@dataclass(frozen=True, kw_only=True)
class LinearBetas:
    """Evenly from ``first`` to ``last`` (DDPM, section 4)."""

    first: float = 1e-4
    last: float = 0.02

    def of(self, num_steps: int) -> Float[Tensor, " t"]:
        return torch.linspace(self.first, self.last, num_steps, dtype=torch.float64)


@dataclass(frozen=True, kw_only=True)
class SquaredBetas:
    """Squares of roots that lie evenly (latent diffusion, arXiv 2112.10752; diffusers' ``scaled_linear``)."""

    first: float = 0.00085
    last: float = 0.012

    def of(self, num_steps: int) -> Float[Tensor, " t"]:
        return torch.linspace(self.first**0.5, self.last**0.5, num_steps, dtype=torch.float64) ** 2


@dataclass(frozen=True, kw_only=True)
class CosineBetas:
    """``a(u) = cos^2((u + 0.008) / 1.008 pi / 2)`` over the even grid, each beta at most ``most`` (Nichol and Dhariwal
    2021, arXiv 2102.09672, eq. 17; diffusers' ``squaredcos_cap_v2``)."""

    most: float = 0.999

    def of(self, num_steps: int) -> Float[Tensor, " t"]:
        even = torch.linspace(0, 1, num_steps + 1, dtype=torch.float64)
        kept = torch.cos((even + 0.008) / 1.008 * math.pi / 2) ** 2
        return (1 - kept[1:] / kept[:-1]).clamp(max=self.most)


Betas = LinearBetas | SquaredBetas | CosineBetas
Spacing = Literal["leading", "trailing", "linspace"]


@dataclass(frozen=True, kw_only=True)
class Process:
    """How clean becomes noise in discrete steps, and what of it a network answers.

    ``answers``: the noise ``epsilon``, the clean ``sample`` or ``v = sqrt(a) e - sqrt(1 - a) x_0`` (Salimans and Ho
    2022, arXiv 2202.00512). ``spread``: as much again is answered behind it, where between its two bounds the logarithm
    of a step's variance lies, from -1, the lower, to 1 (Nichol and Dhariwal 2021, arXiv 2102.09672, eq. 15).
    """

    betas: Betas = CosineBetas()
    num_steps: int = 1000
    answers: Literal["epsilon", "sample", "v"] = "epsilon"
    spread: bool = False

    def draw(self, batch: int, num: int, generator: torch.Generator) -> Float[Tensor, "b l"]:
        """Levels of steps drawn evenly."""
        return self.level(torch.randint(self.num_steps, (batch, num), generator=generator, device=generator.device))

    def kept(self) -> Float[Tensor, " t"]:
        """``a_t``, how much of the clean variance is left at each step; in float64."""
        return _kept(self)

    def kept_at(self, step: int) -> float:
        """The same at one step; 1 at step -1, which is clean."""
        return 1.0 if step < 0 else self.kept()[step].item()

    def level(self, step: Tensor) -> Tensor:
        """The level at which a step stands; step -1 is clean."""
        return (step + 1).float() / self.num_steps

    def scales(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """``sqrt(a)`` and ``sqrt(1 - a)`` at some levels: exactly 1 and 0 at level 0."""
        kept = torch.cat([torch.ones(1, dtype=torch.float64), self.kept()])
        found = kept.to(level.device)[step_at(level, self.num_steps, clean=True) + 1]
        return found.sqrt().to(level.dtype), (1 - found).sqrt().to(level.dtype)

    def noised(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """``x_t``; ``level`` must broadcast against the latent."""
        signal, spread = self.scales(level)
        return signal * clean + spread * noise

    def owed(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """What a network should answer."""
        signal, spread = self.scales(level)
        return {"epsilon": noise, "sample": clean, "v": signal * noise - spread * clean}[self.answers]

    def towards(self, x: Tensor, clean: Tensor, level: Tensor) -> Tensor:
        """The answer, at a state and a level above 0, by which all noise in the state lies on top of ``clean``."""
        signal, spread = self.scales(level)
        owed = self.owed(clean, (x - signal * clean) / spread, level)
        return torch.cat([owed, torch.zeros_like(owed)], dim=-1) if self.spread else owed

    def parts(self, x: Tensor, answer: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Clean and noise of a state, as an answer at a step says."""
        kept = self.kept()[step].item()
        signal, spread = math.sqrt(kept), math.sqrt(1 - kept)
        if self.answers == "epsilon":
            return (x - spread * answer) / signal, answer
        if self.answers == "sample":
            return answer, (x - signal * answer) / spread
        return signal * x - spread * answer, signal * answer + spread * x

    def bound(self, shown: Tensor, owed: Tensor, answer: Tensor, spread: Tensor, level: Tensor) -> Tensor:
        """How far the answered step lies from the true one, elementwise, in bits: the divergence of two Gaussians, or
        at the first step how unlikely the clean value is, in bins of 2 / 255 (arXiv 2006.11239, section 3.3). The mean
        is that of ``answer``, which takes no gradient here: only the spread learns by this (arXiv 2102.09672, 3.1).
        """
        step = step_at(level, self.num_steps)
        kept = torch.cat([torch.ones(1, dtype=torch.float64), self.kept()]).to(level.device)
        old, new = kept[step + 1], kept[step]
        share = 1 - old / new  # the beta of the step
        floor = step.clamp(min=1)  # at the first step the lower bound would be 0: that of the second is taken
        low = ((1 - kept[floor]) / (1 - kept[floor + 1]) * (1 - kept[floor + 1] / kept[floor])).log()
        weights = (new.sqrt() * share / (1 - old), (old / new).sqrt() * (1 - new) / (1 - old), low, share.log())
        of_clean, of_shown, low, high = (part.to(shown.dtype) for part in weights)
        clean, found = (self._clean(shown, said, level) for said in (owed, answer.detach()))
        true, guessed = (of_clean * part + of_shown * shown for part in (clean, found))
        log_variance = low + (spread + 1) / 2 * (high - low)
        apart = (true - guessed) ** 2 * (-log_variance).exp()
        divergence = 0.5 * (log_variance - low + (low - log_variance).exp() - 1 + apart)
        unlikely = -_in_bin(clean, guessed, 0.5 * log_variance)
        return torch.where(step == 0, unlikely, divergence) / math.log(2)

    def _clean(self, x: Tensor, answer: Tensor, level: Tensor) -> Tensor:
        """The clean value that an answer says."""
        signal, spread = self.scales(level)
        if self.answers == "epsilon":
            return (x - spread * answer) / signal
        return answer if self.answers == "sample" else signal * x - spread * answer

    def steps(self, num: int, spacing: Spacing) -> list[int]:
        """``num`` steps to visit, the last one first; the spacings of Lin et al. 2024, arXiv 2305.08891, table 2."""
        if spacing == "linspace":
            return torch.linspace(0, self.num_steps - 1, num, dtype=torch.float64).round().long().tolist()[::-1]
        if spacing == "leading":
            return [index * (self.num_steps // num) for index in reversed(range(num))]
        stride = self.num_steps / num
        return [round(self.num_steps - index * stride) - 1 for index in range(num)]


def step_at(level: Tensor, num_steps: int, *, clean: bool = False) -> Tensor:
    """The step of a process that a network is told at a level, as a whole number. At level 0 it is told the first step,
    0; with ``clean`` that is -1."""
    return (level * num_steps).round().long().sub(1).clamp(min=-1 if clean else 0)


COSINE = Process()


@cache
def _kept(process: Process) -> Tensor:
    return (1 - process.betas.of(process.num_steps)).cumprod(0)


def _in_bin(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """The logarithm of a Gaussian's share of the bin of 2 / 255 around a value, open at -1 and 1; the distribution
    function by its usual approximation with a hyperbolic tangent."""

    def below(edge: Tensor) -> Tensor:
        z = (edge - mean) * (-log_scale).exp()
        return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))

    upper, lower = below(x + 1 / 255), below(x - 1 / 255)
    inside = torch.where(x < -0.999, upper, torch.where(x > 0.999, 1 - lower, upper - lower))
    return inside.clamp(min=1e-12).log()


@dataclass(frozen=True, kw_only=True)
class Ddim:
    """Denoising diffusion implicit models (Song et al. 2021, arXiv 2010.02502, eq. 12 and 16).

    ``eta``: 0 is deterministic, 1 as noisy as DDPM. ``clip``: the predicted clean value is kept within plus and minus
    this; the noise is not predicted anew for that. The last step ends at what is predicted to be clean.
    """

    process: Process
    steps: int
    spacing: Spacing = "leading"
    eta: float = 0.0
    clip: float | None = 1.0

    @property
    def start(self) -> float:
        return 1.0

    @property
    def stop(self) -> float:
        return 0.0

    def levels(self) -> Float[Tensor, " steps_1"]:
        return self.process.level(torch.tensor([*self.process.steps(self.steps, self.spacing), -1]))

    def solve(
        self, x: Float[Tensor, "b m"], answer: Answer, generator: torch.Generator | None = None
    ) -> Float[Tensor, "b m"]:
        visited = [*self.process.steps(self.steps, self.spacing), -1]
        for (step, after), level in zip(pairwise(visited), self.levels().tolist(), strict=False):
            x, std = self.around(x, answer(x, level), step, after)
            if std:
                x = x + std * drawn_like(x, generator)
        return x

    def around(self, x: Float[Tensor, "b m"], found: Float[Tensor, "b k"], step: int, after: int) -> Around:
        """Around what, and how far from it, the state at the step ``after`` lies, by what was answered at ``step``."""
        clean, noise = self.process.parts(x, found[:, : x.shape[1]], step)  # without the spread
        clean = clean if self.clip is None else clean.clamp(-self.clip, self.clip)
        old, new = self.process.kept_at(step), self.process.kept_at(after)
        fresh = self.eta * math.sqrt((1 - new) / (1 - old) * (1 - old / new))
        return math.sqrt(new) * clean + math.sqrt(max(0.0, 1 - new - fresh**2)) * noise, fresh


@dataclass(frozen=True, kw_only=True)
class Ddpm:
    """Ancestral sampling: a step goes to a draw from what lay before the state if the predicted clean value is right
    (Ho et al. 2020, arXiv 2006.11239, eq. 7), of the smaller of its two variances; over fewer steps than the process
    has, as if those were all (Nichol and Dhariwal 2021, arXiv 2102.09672, section 4); where a process has a spread, of
    the variance that is answered. ``clip`` as in :class:`Ddim`."""

    process: Process
    steps: int
    spacing: Spacing = "leading"
    clip: float | None = 1.0

    @property
    def start(self) -> float:
        return 1.0

    @property
    def stop(self) -> float:
        return 0.0

    def levels(self) -> Float[Tensor, " steps_1"]:
        return self.process.level(torch.tensor([*self.process.steps(self.steps, self.spacing), -1]))

    def solve(
        self, x: Float[Tensor, "b m"], answer: Answer, generator: torch.Generator | None = None
    ) -> Float[Tensor, "b m"]:
        visited = [*self.process.steps(self.steps, self.spacing), -1]
        for (step, after), level in zip(pairwise(visited), self.levels().tolist(), strict=False):
            x, std = self.around(x, answer(x, level), step, after)
            if after >= 0:
                x = x + std * drawn_like(x, generator)
        return x

    def around(self, x: Float[Tensor, "b m"], found: Float[Tensor, "b k"], step: int, after: int) -> Around:
        """Around what, and how far from it, the state at the step ``after`` lies, by what was answered at ``step``."""
        clean, _ = self.process.parts(x, found[:, : x.shape[1]], step)
        clean = clean if self.clip is None else clean.clamp(-self.clip, self.clip)
        old, new = self.process.kept_at(step), self.process.kept_at(after)
        share = 1 - old / new
        mean = math.sqrt(new) * share / (1 - old) * clean + math.sqrt(old / new) * (1 - new) / (1 - old) * x
        if after < 0:
            return mean, 0.0
        low = (1 - new) / (1 - old) * share
        if not self.process.spread:
            return mean, math.sqrt(low)
        part = (found[:, x.shape[1] :] + 1) / 2
        return mean, torch.exp(0.5 * (part * math.log(share) + (1 - part) * math.log(low)))


def drawn_like(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Fresh noise of the shape of a state."""
    assert generator is not None, "a solver that draws noise is given a generator"
    return torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)


@dataclass(frozen=True, kw_only=True)
class Part:
    """Columns of an answer that are learned alike: by their squared error, or, ``scored``, as scores of a number from
    0 to 1 by cross-entropy; their mean counts ``weight`` times."""

    columns: tuple[int, ...]
    weight: float = 1.0
    scored: bool = False

    def error(self, answer: Tensor, owed: Tensor) -> Float[Tensor, "b n"]:
        answer, owed = (side[..., list(self.columns)].float() for side in (answer, owed))
        if self.scored:
            return functional.binary_cross_entropy_with_logits(answer, owed, reduction="none").mean(dim=-1)
        return ((answer - owed) ** 2).mean(dim=-1)


@dataclass(frozen=True, kw_only=True)
class Straight:
    """The straight path between clean and noise, of which a network answers the clean end (X-VLA, arXiv 2510.10274).

    Levels of a batch are one draw and evenly apart from it, below ``highest``. ``parts``: what of an answer counts, and
    how; empty: all of it alike.
    """

    parts: tuple[Part, ...] = ()
    highest: float = 1 - 1e-5

    def draw(self, batch: int, num: int, generator: torch.Generator) -> Float[Tensor, "b l"]:
        start = torch.rand(1, num, generator=generator, device=generator.device)
        return self.levels(start, batch)

    def levels(self, start: Float[Tensor, "1 l"], batch: int) -> Float[Tensor, "b l"]:
        """The levels of a batch whose first is ``start``."""
        return (start + torch.arange(batch, device=start.device)[:, None] / batch) % self.highest

    def noised(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """``x_t``; ``level`` must broadcast against the latent."""
        return (1 - level) * clean + level * noise

    def owed(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """What the network should answer."""
        return clean

    def towards(self, x: Tensor, clean: Tensor, level: Tensor) -> Tensor:
        """The answer that says ``clean``."""
        return clean

    def error(self, answer: Tensor, owed: Tensor) -> Float[Tensor, "b n"]:
        """The error of each token, its parts together."""
        if not self.parts:
            return ((answer.float() - owed.float()) ** 2).mean(dim=-1)
        return torch.stack([part.weight * part.error(answer, owed) for part in self.parts]).sum(dim=0)


@dataclass(frozen=True, kw_only=True)
class Renoise:
    """The clean end is answered at ``steps`` levels from 1 down; between them it is noised again with the noise that it
    began with (X-VLA, ``generate_actions``). What is returned is the last answer, at the level ``1 / steps``."""

    process: Straight
    steps: int

    @property
    def start(self) -> float:
        return 1.0

    @property
    def stop(self) -> float:
        return 0.0

    def levels(self) -> Float[Tensor, " steps_1"]:
        return torch.arange(self.steps, -1, -1) / self.steps

    def solve(
        self, x: Float[Tensor, "b m"], answer: Answer, generator: torch.Generator | None = None
    ) -> Float[Tensor, "b m"]:
        clean = torch.zeros_like(x)
        for level in self.levels()[:-1].tolist():
            clean = answer(self.process.noised(clean, x, torch.tensor(level)).to(x.dtype), level)
        return clean
