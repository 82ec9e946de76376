"""The continuous process of Karras et al. 2022 (arXiv 2206.00364, "EDM"), with its preconditioned network.

Their state ``x_0 + sigma e`` is our ``x_t = (1 - t) x_0 + t e`` over ``1 - t``, at ``sigma = t / (1 - t)``. A network
is shown it over its spread, ``c_in (x_0 + sigma e) = x_t / s`` with ``s^2 = t^2 + sigma_d^2 (1 - t)^2``, and owes what
is left of ``x_0`` over its own (``x_0 - c_skip x`` over ``c_out``), which is ``(t x_0 - sigma_d^2 (1 - t) e) / (sigma_d
s)``: nothing grows without bound at either end. The squared error of that is EDM's weighted one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from crossroads.noise import EdmLevels, LevelSampler, level_from_edm

Answer = Callable[[Tensor, float], Tensor]


EDM_LEVELS = EdmLevels(log_mean=-1.2, even_share=0.0)
"""Their section 5: ``ln sigma`` normal around -1.2 with 1.2."""


@dataclass(frozen=True, kw_only=True)
class Edm:
    """Data of spread ``sigma_data``, noised at ``levels``."""

    sigma_data: float
    levels: LevelSampler = EDM_LEVELS

    def draw(self, batch: int, num: int, generator: torch.Generator) -> Float[Tensor, "b l"]:
        return rearrange(self.levels.draw(batch * num, generator), "(b l) -> b l", l=num)

    def spread(self, level: Tensor) -> Tensor:
        """``s``, the spread of ``x_t``."""
        return torch.sqrt(level**2 + (self.sigma_data * (1 - level)) ** 2)

    def noised(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """What the network is shown; ``level`` must broadcast against the latent."""
        return ((1 - level) * clean + level * noise) / self.spread(level)

    def owed(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """What the network should answer."""
        turned = level * clean - self.sigma_data**2 * (1 - level) * noise
        return turned / (self.sigma_data * self.spread(level))

    def clean(self, shown: Tensor, answer: Tensor, level: Tensor) -> Tensor:
        """The clean value that an answer says."""
        kept = self.sigma_data**2 * (1 - level) * shown + level * self.sigma_data * answer
        return kept / self.spread(level)

    def towards(self, x: Tensor, clean: Tensor, level: Tensor) -> Tensor:
        """The answer, at what is shown at a level above 0, that says ``clean``."""
        noise = (self.spread(level) * x - (1 - level) * clean) / level
        return self.owed(clean, noise, level)


@dataclass(frozen=True, kw_only=True)
class EdmEuler:
    """Straight steps between noise scales that fall by a constant factor from ``high`` to ``low``, then to 0.

    In these variables that is DDIM, and the first-order solver of Lu et al. 2022 (arXiv 2206.00927), with which VPP
    acts (arXiv 2412.14803: 10 steps, 80 to 0.001). What it starts from is noise of the scale ``high`` and nothing else.
    """

    process: Edm
    steps: int
    low: float = 0.001
    high: float = 80.0

    @property
    def start(self) -> float:
        return 1.0

    @property
    def stop(self) -> float:
        return 0.0

    def sigmas(self) -> Float[Tensor, " steps_1"]:
        """``steps`` scales, evenly spaced in their logarithms, and 0."""
        even = torch.linspace(math.log(self.high), math.log(self.low), self.steps, dtype=torch.float64).exp()
        return torch.cat([even, torch.zeros(1, dtype=torch.float64)])

    def levels(self) -> Float[Tensor, " steps_1"]:
        return level_from_edm(self.sigmas())

    def solve(
        self, x: Float[Tensor, "b m"], answer: Answer, generator: torch.Generator | None = None
    ) -> Float[Tensor, "b m"]:
        levels = self.levels()
        shown = (levels[0] / self.process.spread(levels[0])).to(x.dtype) * x
        for level, after in pairwise(levels):
            found = self.process.clean(shown, answer(shown, level.item()), level.to(x.dtype))
            noise = (self.process.spread(level) * shown - (1 - level) * found) / level
            shown = self.process.noised(found, noise, after).to(x.dtype)
        return self.process.spread(torch.zeros(1)).item() * shown
