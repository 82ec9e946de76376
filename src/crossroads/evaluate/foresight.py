"""What it costs a policy that its actions read an imagined future where training showed them the true one.

A policy that imagines is trained on recorded futures and acts on its own (the gap between training and acting of every
inverse-dynamics and joint design). Both are measured on the same held-out windows with the same noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from crossroads.evaluate.offline import root_mean_square_ratio, rows, squared_errors
from crossroads.evaluate.statistics import Interval
from crossroads.policy import StreamPolicy
from crossroads.types import Batch


@dataclass(frozen=True, kw_only=True)
class ForesightGap:
    """Root mean square action error, in standard deviations of each action dimension, under both futures.

    ``ratio``: imagined over true; ``interval``: 95 %, over episodes.
    """

    imagined: float
    true: float
    ratio: float
    interval: Interval
    num_windows: int


@torch.no_grad()
def foresight_gap(
    policy: StreamPolicy,
    batch: Batch,
    *,
    scale: np.ndarray,
    episodes: Sequence[int] | np.ndarray,
    seed: int = 0,
    batch_size: int = 32,
) -> ForesightGap:
    """Act on the windows of ``batch``, whose futures are all recorded, once imagining and once knowing the future.

    ``scale`` are standard deviations of the training actions; ``episodes`` says which episode each window is from.
    """
    streams = policy.imagined_streams()
    assert streams, f"recipe {policy.recipe.name} imagines nothing"
    known = {name: policy.net.target(_principal(policy, name), batch).values for name in streams}
    errors = []
    for knowing in (False, True):
        chunks = []
        for start in range(0, batch.batch_size, batch_size):
            some = range(start, min(start + batch_size, batch.batch_size))
            generator = torch.Generator().manual_seed(seed * 65537 + start)
            given = {name: value[some.start : some.stop] for name, value in known.items()} if knowing else {}
            settled = policy.settle(rows(batch.obs, some), generator=generator, known=given)
            chunks.append(policy.actions_of(settled).cpu().numpy())
        errors.append(squared_errors(np.concatenate(chunks), batch, scale))
    (imagined, counted), (true, _) = errors
    ratio, interval = root_mean_square_ratio(imagined, true, counted, np.asarray(episodes))
    return ForesightGap(
        imagined=float(np.sqrt(imagined.sum() / counted.sum())),
        true=float(np.sqrt(true.sum() / counted.sum())),
        ratio=ratio,
        interval=interval,
        num_windows=batch.batch_size,
    )


def _principal(policy: StreamPolicy, stream: str) -> str:
    found = policy.recipe.stage.stream(stream)
    return found.group(found.principal)
