"""Noise levels, paths and samplers; every foreign time convention is converted here and nowhere else.

House convention: level 0 is clean, 1 is noise; ``x_t = (1 - t) x_0 + t e``; velocity ``v = e - x_0`` (rectified flow,
Liu et al. 2022, arXiv 2209.03003; the "FM-N" convention of Wan). Levels are per token.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor


def corrupt(clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
    """``x_t = (1 - t) x_0 + t e``; ``level`` must broadcast against the latent."""
    return (1 - level) * clean + level * noise


def velocity(clean: Tensor, noise: Tensor) -> Tensor:
    """``v = e - x_0``: the constant velocity of the straight path towards noise."""
    return noise - clean


def clean_from_velocity(x: Tensor, v: Tensor, level: Tensor) -> Tensor:
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


def shift(level: Tensor, factor: float) -> Tensor:
    """``s t / (1 + (s - 1) t)``: pushes levels towards noise for s > 1 (Esser et al. 2024, arXiv 2403.03206)."""
    return factor * level / (1 + (factor - 1) * level)


def grid(steps: int, *, factor: float = 1.0, start: float = 1.0, stop: float = 0.0) -> Float[Tensor, " steps_1"]:
    """``steps + 1`` levels from ``start`` down to ``stop``, evenly spaced before the shift."""
    even = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    return (stop + (start - stop) * shift(even, factor)).float()


@dataclass(frozen=True, kw_only=True)
class UniformLevels:
    """``t = shift(u)``, u uniform on 0..1 (Wan, Fast-WAM: shift 5)."""

    factor: float = 1.0

    def draw(self, num: int, generator: torch.Generator) -> Float[Tensor, " b"]:
        return shift(torch.rand(num, generator=generator, device=generator.device), self.factor)


@dataclass(frozen=True, kw_only=True)
class BetaLevels:
    """``t = scale * Beta(alpha, beta) + offset``; openpi: Beta(1.5, 1) * 0.999 + 0.001, more mass on noise."""

    alpha: float = 1.5
    beta: float = 1.0
    scale: float = 0.999
    offset: float = 0.001

    def draw(self, num: int, generator: torch.Generator) -> Float[Tensor, " b"]:
        uniform = torch.rand(num, generator=generator, device=generator.device)
        if self.beta == 1.0:  # inverse of the distribution function: F(x) = x^alpha
            return uniform ** (1 / self.alpha) * self.scale + self.offset
        gammas = [
            torch._standard_gamma(torch.full((num,), shape, device=generator.device), generator=generator)  # pyright: ignore[reportPrivateImportUsage]
            for shape in (self.alpha, self.beta)
        ]
        return gammas[0] / (gammas[0] + gammas[1]) * self.scale + self.offset


LevelSampler = UniformLevels | BetaLevels


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
        low, mean = _bell_statistics(self.factor)
        return (torch.exp(-2 * (level - 0.5) ** 2) - low) / mean


LevelWeight = EvenWeight | BellWeight
PI_LEVELS, EVEN = BetaLevels(), EvenWeight()


@cache
def _bell_statistics(factor: float) -> tuple[float, float]:
    levels = shift(torch.linspace(1, 0, 1001, dtype=torch.float64)[:-1], factor)
    bell = torch.exp(-2 * (levels - 0.5) ** 2)
    return bell.min().item(), (bell - bell.min()).mean().item()
