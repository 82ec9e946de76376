"""The second process of the test that two train as one: ``python two_processes.py FOLDER``; names of recipes follow.

Each process takes its half of the same prepared batch, and the gradients are averaged over both (gloo). A program of
its own, so that it builds its policies without pytest, and so that one start serves all recipes.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import torch
from every_recipe import gradients, part_of, policy_of, prepared_batch
from torch import Tensor, distributed

SIZE = 2


def meet(rank: int, folder: Path) -> None:
    store = distributed.FileStore(str(folder / "meeting"), 2)  # pyright: ignore[reportPrivateImportUsage]
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(minutes=5))


def averaged(rank: int, name: str) -> dict[str, Tensor]:
    """Gradients of one recipe, averaged over both processes with half of the batch each."""
    policy = policy_of(name)
    policy.enter(policy.recipe.phases[0])
    prepared = prepared_batch(policy, size=SIZE)
    half = slice(rank * SIZE // 2, (rank + 1) * SIZE // 2)
    found = {}
    for parameter, grad in gradients(policy, part_of(prepared, prepared.latents, half)).items():
        if grad is not None:
            distributed.all_reduce(grad)
            found[parameter] = grad / 2
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    meet(1, Path(sys.argv[1]))
    for line in sys.stdin:
        averaged(1, line.strip())
    distributed.destroy_process_group()
