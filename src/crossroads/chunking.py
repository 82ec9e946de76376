"""Real-time chunking: a chunk that begins while the one before it is still being executed must continue it.

Two ways. ``Guided`` pulls a policy trained in any way towards what was promised (Black et al. 2025, arXiv 2506.07339;
LeRobot's ``RTCProcessor``, Apache-2.0). ``Given`` shows what will have been executed as clean tokens to a policy that
was trained with such prefixes (arXiv 2512.05964; ``objectives.Flow.delays``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from crossroads.errors import InputError
from crossroads.noise import clean_from_velocity, per_token

Fade = Literal["none", "full", "linear", "exponential"]


@dataclass(frozen=True, kw_only=True)
class Guided:
    """Each step's estimate of the clean chunk is pulled towards the promised one.

    ``horizon``: how many promised actions may count. The first ``delay`` count fully and those from ``horizon`` on not
    at all; between the two the weight is 0 (``none``), 1 (``full``), falls linearly, or falls ``exponential``ly
    (``c (e^c - 1) / (e - 1)`` of the linear ``c``; the paper's). ``limit``: the largest strength of the pull.
    """

    horizon: int = 10
    fade: Fade = "linear"
    limit: float = 10.0

    def weights(self, num: int, delay: int) -> Float[Tensor, " n"]:
        """How much each of ``num`` promised actions counts (LeRobot ``get_prefix_weights``)."""
        start = min(delay, self.horizon)
        index = torch.arange(num)
        between = max(0, min(self.horizon, num) - start)
        falling = ((start + between - index) / (between + 1)).clamp(0, 1)
        kinds = {
            "none": lambda: (index < start).float(),
            "full": lambda: (index < self.horizon).float(),
            "linear": lambda: falling,
            "exponential": lambda: falling * torch.expm1(falling) / (math.e - 1),
        }
        return kinds[self.fade]()

    def strength(self, level: float) -> float:
        """``t / (1 - t) / r^2`` with ``r^2 = t^2 / (t^2 + (1 - t)^2)``, at most ``limit``."""
        if level >= 1:
            return self.limit
        spread = level**2 / (level**2 + (1 - level) ** 2)
        return min(self.limit, level / (1 - level) / spread) if spread else self.limit


@dataclass(frozen=True, kw_only=True)
class Given:
    """The first ``delay`` tokens stand at the promised actions and at level 0 all the way."""


@dataclass(frozen=True, kw_only=True)
class Promised:
    """What the chunk before promised for the steps that the next one is about.

    ``actions``: physical units, the first one for the next chunk's first step; the fewer there are, the fewer count.
    ``delay``: how many of them will have been executed before the next chunk takes over.
    """

    actions: Float[Tensor, "b m a"]
    delay: int
    keep: Guided | Given

    def __post_init__(self) -> None:
        if not 0 <= self.delay <= self.actions.shape[1]:
            raise InputError(
                where="Promised.delay",
                expected=f"0 to {self.actions.shape[1]}, the number of promised actions",
                got=str(self.delay),
                do="Promise more actions, or ask earlier for the next chunk.",
            )


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A promise in a stream's own units, beside the ``num`` of its tokens that were promised; the rest are zeros."""

    values: Float[Tensor, "b n a"]
    num: int
    delay: int
    keep: Guided | Given

    @staticmethod
    def of(promised: Promised, values: Float[Tensor, "b m a"], length: int) -> Kept:
        """The promise as latents ``values``, cut or padded to a chunk of ``length``."""
        num = min(length, values.shape[1])
        padded = functional.pad(values[:, :num], (0, 0, 0, length - num))
        return Kept(values=padded, num=num, delay=min(promised.delay, num), keep=promised.keep)

    def rows(self, rows: Tensor) -> Kept:
        """The promises of some samples."""
        return replace(self, values=self.values[rows])

    def shown(self, x: Float[Tensor, "b n a"]) -> Float[Tensor, "b n a"]:
        """The state as the network sees it, and as it ends."""
        if isinstance(self.keep, Guided):
            return x
        return torch.cat([self.values[:, : self.delay].to(x), x[:, self.delay :]], dim=1)

    def level(self, level: Float[Tensor, "b l"]) -> Float[Tensor, "b each"]:
        """The level of the state, of each token where it is not one for all."""
        if isinstance(self.keep, Guided) or self.delay == 0:
            return level
        num = self.values.shape[1]
        each = per_token(level, num).expand(-1, num)
        return each.masked_fill(torch.arange(num, device=level.device) < self.delay, 0.0)

    def velocity(self, x: Float[Tensor, "b n a"], v: Float[Tensor, "b n a"], level: float) -> Float[Tensor, "b n a"]:
        """``v - g W (Y - (x - t v))``: as LeRobot, not through the network's derivative, as the paper has it."""
        if not isinstance(self.keep, Guided):
            return v
        keep = replace(self.keep, horizon=min(self.keep.horizon, self.num))
        weights = keep.weights(self.values.shape[1], self.delay).to(x).unsqueeze(-1)
        wanted = self.values.to(x) - clean_from_velocity(x, v, level)
        return v - keep.strength(level) * weights * wanted
