"""One rank of the test that two processes train as one: ``python two_processes.py RANK FOLDER RECIPE...``.

Each rank takes its half of the same prepared batch, and the gradients are averaged over both (gloo); rank 0 writes
them down. A program of its own, so that it starts without pytest.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from every_recipe import gradients, part_of, policy_of, prepared_batch
from safetensors.torch import save_file
from torch import distributed

SIZE = 2


def main(rank: int, folder: Path, names: list[str]) -> None:
    torch.set_num_threads(1)
    store = distributed.FileStore(str(folder / "meeting"), 2)  # pyright: ignore[reportPrivateImportUsage]
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    found = {}
    half = slice(rank * SIZE // 2, (rank + 1) * SIZE // 2)
    for name in names:
        policy = policy_of(name)
        policy.enter(policy.recipe.phases[0])
        prepared = prepared_batch(policy, size=SIZE)
        for parameter, grad in gradients(policy, part_of(prepared, prepared.latents, half)).items():
            if grad is not None:
                distributed.all_reduce(grad)
                found[f"{name}:{parameter}"] = grad / 2
    if rank == 0:
        save_file(found, folder / "gradients.safetensors")
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
