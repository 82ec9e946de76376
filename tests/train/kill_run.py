"""Trains in child processes that are killed with SIGKILL at random until one finishes: ``kill_run.py OUT SEED``.

Prints two words: how many children were killed, and the hash of the final weights. A process of its own, because only
a process without threads may fork safely.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from tiny_policy import SETTINGS, NoisyRegression, RandomSource, weights_hash

from crossroads.train.loop import train


def run_once(out: Path) -> None:
    policy = NoisyRegression()
    train(
        policy,
        RandomSource(),
        SETTINGS,
        out,
        device="cpu",
        progress=False,
        recipe_name="tiny",
        fingerprint="f",
    )
    (out / "hash").write_text(weights_hash(policy))


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_once(Path(sys.argv[1]).with_suffix(".warm"))  # PyTorch imports a great deal at the first update
    out, dice, num_killed = Path(sys.argv[1]), random.Random(int(sys.argv[2])), 0
    while not (out / "hash").exists():
        child = os.fork()
        if child == 0:
            run_once(out)
            os._exit(0)
        time.sleep(dice.uniform(0.005, 0.1 * (num_killed + 1)))  # grows, so that a slow machine gets on too
        finished, status = os.waitpid(child, os.WNOHANG)
        if finished == 0:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            num_killed += 1
        elif status != 0:
            sys.exit(f"a run failed by itself with status {status}")
    print(num_killed, (out / "hash").read_text())
