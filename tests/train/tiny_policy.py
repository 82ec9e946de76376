"""The smallest policy that has everything a trainer must handle, and batches for it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn

from crossroads.train.optim import TrainConfig
from crossroads.types import Losses

SETTINGS = TrainConfig(
    steps=24,
    batch_size=8,
    learning_rate=1e-2,
    warmup_steps=4,
    final_learning_rate_fraction=0.1,
    weight_decay=0.1,
    betas=(0.9, 0.95),
    clip_norm=1.0,
    ema_decay=0.9,
    seed=3,
    checkpoint_every=4,
    log_every=5,
    mixed_precision=True,
)


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """A batch that is not a ``Batch``: the loop asks for a weight and a way to a device, nothing else."""

    x: Tensor
    y: Tensor
    weight: Tensor

    def to(self, device: torch.device | str) -> Self:
        return replace(self, x=self.x.to(device), y=self.y.to(device), weight=self.weight.to(device))


class NoisyRegression(nn.Module):
    """A frozen layer, dropout (global generator), noise (passed generator), a buffer that counts, two losses."""

    count: Tensor

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.frozen = nn.Linear(width, width).requires_grad_(False)
            self.moving = nn.Sequential(nn.Linear(width, 16), nn.LayerNorm(16), nn.Dropout(0.2), nn.Linear(16, 1))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def loss(self, batch: Pairs, *, generator: torch.Generator) -> Losses:
        self.count += 1
        noise = torch.randn(batch.x.shape, generator=generator)
        error = self.moving(self.frozen(batch.x) + 0.1 * noise)[:, 0] - batch.y
        return Losses(terms={"square": error.square(), "absolute": 0.1 * error.abs()})


class RandomSource:
    """Batches that are a function of the step alone."""

    def __init__(self, *, bad_step: int | None = None) -> None:
        self.bad_step = bad_step

    def batch(self, step: int) -> Pairs:
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(8, 6, generator=generator)
        y = x.sum(dim=1) if step != self.bad_step else torch.full((8,), torch.nan)
        return Pairs(x=x, y=y, weight=torch.rand(8, generator=generator))


def weights_hash(policy: nn.Module) -> str:
    """One hash over all weights and buffers."""
    digest = hashlib.sha256()
    for name, value in sorted(policy.state_dict().items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()
