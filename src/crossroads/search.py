"""The cross-entropy method: draw, keep the best, draw again from where they lie (Rubinstein 1999; de Boer et al. 2005).

V-JEPA 2-AC plans so (Assran et al. 2025, arXiv 2506.09985, section 3.2): candidates are ranked by how near the features
that the world model predicts for them come to those of a goal. In a schedule it is ``Branch``, ``Predict``, ``Rank``,
several times over.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Where a stream's values are drawn for the next branches, by sample and entry."""

    mean: Float[Tensor, "b n c"]
    std: Float[Tensor, "b n c"]

    def drawn(self, noise: Float[Tensor, "m n c"]) -> Float[Tensor, "m n c"]:
        """Standard normals, as many for each sample, moved to where they are drawn."""
        times = len(noise) // len(self.mean)
        mean, std = (repeat(part, "b n c -> (b times) n c", times=times) for part in (self.mean, self.std))
        return mean + std * noise


def narrowed(best: Float[Tensor, "b k n c"], before: Spread | None, momentum: float) -> Spread:
    """Mean and deviation of the best, with a part of what they were before; at first standard normal."""
    mean, std = best.mean(dim=1), best.std(dim=1)
    old = before or Spread(mean=torch.zeros_like(mean), std=torch.ones_like(std))
    return Spread(mean=torch.lerp(mean, old.mean, momentum), std=torch.lerp(std, old.std, momentum))


def nearness(found: Float[Tensor, "b n c"], goal: Float[Tensor, "b m c"]) -> Float[Tensor, " b"]:
    """Minus the mean absolute difference of the last tokens, as many as the goal has."""
    return -(found[:, -goal.shape[1] :] - goal).abs().flatten(1).mean(dim=1)
