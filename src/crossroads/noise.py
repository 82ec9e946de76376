"""Noise levels, paths and samplers; every foreign time convention is converted here and nowhere else.

House convention: level 0 is clean, 1 is noise; ``x_t = (1 - t) x_0 + t e``; velocity ``v = e - x_0`` (rectified flow,
Liu et al. 2022, arXiv 2209.03003; the "FM-N" convention of Wan). Levels are per token.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

TIMESTEPS = 1000  # of a published training grid


def corrupt(clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
    """``x_t = (1 - t) x_0 + t e``; ``level`` must broadcast against the latent."""
    return (1 - level) * clean + level * noise


def per_token(level: Float[Tensor, "b l"], num: int) -> Float[Tensor, "b n"]:
    """Levels of ``l`` blocks of equal size for each of ``num`` tokens; one level for all stays one."""
    return level if level.shape[1] in (1, num) else level.repeat_interleave(num // level.shape[1], dim=1)


def velocity(clean: Tensor, noise: Tensor) -> Tensor:
    """``v = e - x_0``: the constant velocity of the straight path towards noise."""
    return noise - clean


def clean_from_velocity(x: Tensor, v: Tensor, level: Tensor | float) -> Tensor:
    """``x_0 = x_t - t v``."""
    return x - level * v


def noise_from_velocity(x: Tensor, v: Tensor, level: Tensor) -> Tensor:
    """``e = x_t + (1 - t) v``."""
    return x + (1 - level) * v


def level_from_data_forward(tau: Tensor) -> Tensor:
    """GR00T, Being-H and the pi papers count time from noise (0) to data (1); ours is ``1 - tau``, v changes sign."""
    return 1 - tau


def level_from_edm(sigma: Tensor) -> Tensor:
    """Cosmos (EDM, rectified-flow scaling): ``x = x_0 + sigma e`` is our path at ``sigma / (1 + sigma)``, rescaled."""
    return sigma / (1 + sigma)


def sigma_from_level(level: Tensor, most: float) -> Tensor:
    """``t / (1 - t)``, at most ``most``, in float64: pure noise has no finite scale, and counts as the largest one."""
    level = level.double().clamp(max=most / (1 + most))
    return level / (1 - level)


def level_from_timestep(timestep: Tensor) -> Tensor:
    """Wan, Fast-WAM, DreamZero and diffusers count ``t = 1000 sigma``; in float64, as waves of 1000 rad need it."""
    return timestep.double() / TIMESTEPS


def shift(level: Tensor, factor: float) -> Tensor:
    """``s t / (1 + (s - 1) t)``: pushes levels towards noise for s > 1 (Esser et al. 2024, arXiv 2403.03206)."""
    return factor * level / (1 + (factor - 1) * level)


def grid(steps: int, *, factor: float = 1.0, start: float = 1.0, stop: float = 0.0) -> Float[Tensor, " steps_1"]:
    """``steps + 1`` levels from ``start`` down to ``stop``, evenly spaced before the shift."""
    even = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    return (stop + (start - stop) * shift(even, factor)).float()


@dataclass(frozen=True, kw_only=True)
class UniformLevels:
    """``t = shift(u)``, u uniform on 0..``upto`` (Wan, Fast-WAM: shift 5)."""

    factor: float = 1.0
    upto: float = 1.0

    def draw(self, num: int, generator: torch.Generator) -> Float[Tensor, " b"]:
        return shift(self.upto * torch.rand(num, generator=generator, device=generator.device), self.factor)


@dataclass(frozen=True, kw_only=True)
class BetaLevels:
    """``t = shift(scale * Beta(alpha, beta) + offset)``; openpi: Beta(1.5, 1) * 0.999 + 0.001, more mass on noise."""

    alpha: float = 1.5
    beta: float = 1.0
    scale: float = 0.999
    offset: float = 0.001
    factor: float = 1.0

    def draw(self, num: int, generator: torch.Generator) -> Float[Tensor, " b"]:
        uniform = torch.rand(num, generator=generator, device=generator.device)
        if self.beta == 1.0:  # inverse of the distribution function: F(x) = x^alpha
            return shift(uniform ** (1 / self.alpha) * self.scale + self.offset, self.factor)
        gammas = [
            torch._standard_gamma(torch.full((num,), shape, device=generator.device), generator=generator)  # pyright: ignore[reportPrivateImportUsage]
            for shape in (self.alpha, self.beta)
        ]
        return shift(gammas[0] / (gammas[0] + gammas[1]) * self.scale + self.offset, self.factor)


@dataclass(frozen=True, kw_only=True)
class EdmLevels:
    """``sigma / (1 + sigma)``, sigma drawn around ``exp(log_mean)`` or, in ``even_share``, evenly (Cosmos Policy).

    ``ln sigma`` is normal, cut off at ``limits``; the rest is uniform on ``even``; all times ``scale`` (Cosmos
    multiplies by the root of the number of latent frames). arXiv 2601.16163; the hybrid distribution of its code.
    """

    log_mean: float = math.log(4.0)
    log_std: float = 1.2
    even_share: float = 0.3
    even: tuple[float, float] = (1.0, 85.0)
    limits: tuple[float, float] = (0.01, 200.0)
    scale: float = 1.0

    def draw(self, num: int, generator: torch.Generator) -> Float[Tensor, " b"]:
        device = generator.device
        bell = torch.exp(self.log_mean + self.log_std * torch.randn(num, generator=generator, device=device))
        low, high = self.even
        even = low + (high - low) * torch.rand(num, generator=generator, device=device)
        chosen = torch.rand(num, generator=generator, device=device) < self.even_share
        return level_from_edm(self.scale * torch.where(chosen, even, bell.clamp(*self.limits)))


@dataclass(frozen=True, kw_only=True)
class LogitNormalLevels:
    """``t = sigmoid(mean + std n)``, n normal; in ``high_share`` of the draws t is uniform on ``high_from``..1 instead
    (Esser et al. 2024, arXiv 2403.03206; Cosmos-Predict2.5 and DiT4DiT, arXiv 2603.10448: 5 % from 0.98)."""

    mean: float = 0.0
    std: float = 1.0
    high_share: float = 0.0
    high_from: float = 1.0

    def draw(self, num: int, generator: torch.Generator) -> Float[Tensor, " b"]:
        drawn = torch.sigmoid(self.mean + self.std * torch.randn(num, generator=generator, device=generator.device))
        if self.high_share == 0:
            return drawn
        chosen, high = torch.rand(2, num, generator=generator, device=generator.device)
        return torch.where(chosen < self.high_share, self.high_from + (1 - self.high_from) * high, drawn)


@dataclass(frozen=True, kw_only=True)
class FixedLevel:
    """Always the same level: what a design shows at one level only (DiT4DiT's features of pure noise)."""

    level: float = 1.0

    def draw(self, num: int, generator: torch.Generator) -> Float[Tensor, " b"]:
        return torch.full((num,), self.level, device=generator.device)


@dataclass(frozen=True, kw_only=True)
class LogLogisticLevels:
    """``sigma / (1 + sigma)`` with ``ln sigma`` logistic around ``log_mean``, cut off at ``limits`` (VPP's actions,
    arXiv 2412.14803; k-diffusion's ``rand_log_logistic``)."""

    log_mean: float = math.log(0.5)
    log_scale: float = 0.5
    limits: tuple[float, float] = (0.001, 80.0)

    def sigma(self, uniform: Tensor) -> Tensor:
        """The noise scale of a uniform draw, by the inverse of the distribution function, in float64."""
        low, high = (1 / (1 + math.exp((self.log_mean - math.log(end)) / self.log_scale)) for end in self.limits)
        return torch.exp(torch.logit(low + (high - low) * uniform.double()) * self.log_scale + self.log_mean)

    def draw(self, num: int, generator: torch.Generator) -> Float[Tensor, " b"]:
        return level_from_edm(self.sigma(torch.rand(num, generator=generator, device=generator.device))).float()


@dataclass(frozen=True, kw_only=True)
class StepLevels:
    """``k / num``, k a whole step from 0 to ``num - 1`` (VLA Foundry, arXiv 2604.19728: pure noise is never shown)."""

    num: int = TIMESTEPS

    def draw(self, num: int, generator: torch.Generator) -> Float[Tensor, " b"]:
        return torch.randint(self.num, (num,), generator=generator, device=generator.device) / self.num


LevelSampler = StepLevels | UniformLevels | BetaLevels | EdmLevels | LogitNormalLevels | FixedLevel | LogLogisticLevels


@dataclass(frozen=True, kw_only=True)
class EvenWeight:
    """Every level counts the same."""

    def at(self, level: Tensor) -> Tensor:
        return torch.ones_like(level)


@dataclass(frozen=True, kw_only=True)
class BellWeight:
    """The bell-shaped weight of DiffSynth, DreamZero, LingBot-VA and Fast-WAM ("bsmntw").

    ``y(t) = exp(-2 (t - 1/2)^2)``; ``w = (y - min y) / mean(y - min y)``, statistics over the 1,000 shifted training
    levels; so w is 0 at t = 1 and averages to 1 over that grid.
    """

    factor: float = 5.0

    def at(self, level: Tensor) -> Tensor:
        low, mean = bell_statistics(self.factor)
        return (torch.exp(-2 * (level - 0.5) ** 2) - low) / mean


LevelWeight = EvenWeight | BellWeight
PI_LEVELS, EVEN = BetaLevels(), EvenWeight()


def training_levels(factor: float, *, dtype: torch.dtype = torch.float64) -> Float[Tensor, " n"]:
    """The 1,000 levels, from 1 down, over which published trainings of Wan models normalise their weights
    (DiffSynth's and DreamZero's ``FlowMatchScheduler``, in float32)."""
    return shift(torch.linspace(1, 0, TIMESTEPS + 1, dtype=dtype)[:-1], factor)


@cache
def bell_statistics(factor: float) -> tuple[float, float]:
    """``min y`` and ``mean(y - min y)`` of :class:`BellWeight` over the training levels."""
    bell = torch.exp(-2 * (training_levels(factor) - 0.5) ** 2)
    return bell.min().item(), (bell - bell.min()).mean().item()


def wan_grid(steps: int, factor: float) -> Float[Tensor, " steps_1"]:
    """The levels of Wan's and DreamZero's solver (``FlowUniPCMultistepScheduler.set_timesteps``): ``shift(0.999 u)``,
    u evenly from 1 down, then 0. In float64; the 0.999 has passed through float32."""
    return _ending_clean(_evenly(steps, torch.tensor(1 - 1 / TIMESTEPS).item(), 0.0), factor)


def diffusers_grid(steps: int, factor: float) -> Float[Tensor, " steps_1"]:
    """The levels of diffusers' solver (``UniPCMultistepScheduler`` with ``use_flow_sigmas``): ``shift(u)``, u evenly
    from 1 to 0.001, then 0. The first stops 1e-6 short of 1, where the logarithm of the signal has no value."""
    levels = _ending_clean(_evenly(steps, 1.0, 1 / TIMESTEPS), factor)
    levels[0] = levels[0] - 1e-6
    return levels


def _evenly(steps: int, start: float, stop: float) -> Tensor:
    """``steps`` numbers from ``start`` on, the next of which would be ``stop``; rounded as ``numpy.linspace`` does, as
    published timesteps are cut to integers."""
    return start + torch.arange(steps, dtype=torch.float64) * ((stop - start) / steps)


def _ending_clean(even: Tensor, factor: float) -> Tensor:
    return torch.cat([shift(even, factor), torch.zeros(1, dtype=torch.float64)])


def unipc(start: Tensor, levels: Tensor, clean: Callable[[Tensor, int], Tensor]) -> list[Tensor]:
    """UniPC of order 2, the solver of published Wan models: the states at all ``levels``, which end at 0.

    Zhao et al. 2023, arXiv 2302.04867, algorithms 1 and 2 with ``B(h) = e^h - 1`` on the data prediction ("bh2");
    ``clean(x, step)`` estimates ``x_0`` from the state at ``levels[step]``. Each estimate also corrects the state that
    it was taken from; the first step and the last are of order 1.
    """
    t = levels.double().tolist()
    signal = ((1 - levels.double()).log() - levels.double().log()).tolist()
    states, estimates, last = [start], list[Tensor](), len(t) - 2

    def bend(step: int) -> tuple[float, Tensor]:
        """How far the estimate before lies back, in units of this step, and the slope of the estimates."""
        back = (signal[step - 1] - signal[step]) / (signal[step + 1] - signal[step])
        return back, (estimates[step - 1] - estimates[step]) / back

    def predicted(step: int) -> Tensor:
        return estimates[step] + (bend(step)[1] / 2 if 0 < step < last else 0)

    def corrected(step: int) -> Tensor:
        new = estimates[step + 1] - estimates[step]
        if step == 0:
            return estimates[step] + new / 2
        h = signal[step] - signal[step + 1]
        first = (math.expm1(h) / h - 1) / math.expm1(h)
        second = 2 * ((math.expm1(h) / h - 1) / h - 1 / 2) / math.expm1(h)
        back, slope = bend(step)
        share = (first - second) / (1 - back)
        return estimates[step] + share * slope + (first - share) * new

    def advance(x: Tensor, step: int, towards: Tensor) -> Tensor:
        along = math.expm1(signal[step] - signal[step + 1])
        return t[step + 1] / t[step] * x - (1 - t[step + 1]) * along * towards

    x = start
    for step in range(last + 1):
        estimates.append(clean(states[step], step))
        if step:
            x = advance(x, step - 1, corrected(step - 1))
        states.append(advance(x, step, predicted(step)))
    return states
