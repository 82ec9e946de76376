"""Measure how fast the tabletop runs: physics, pictures, whole steps in one process and in several.

    OMP_NUM_THREADS=1 python benchmarks/tabletop_speed.py

Wall-clock figures mean something on a quiet machine only, so CPU time of this process is printed beside them.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import time
from collections.abc import Callable

import numpy as np

from crossroads.sim.rendering import FAST_RENDER, mujoco
from crossroads.sim.tabletop.env import TabletopEnv
from crossroads.sim.tabletop.vector import Options, VectorTabletop


def _time(run: Callable[[], object], num: int) -> tuple[float, float]:
    """Wall and CPU milliseconds per call."""
    run()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(num):
        run()
    return (time.perf_counter() - wall) / num * 1e3, (time.process_time() - cpu) / num * 1e3


def _random_steps(vector: VectorTabletop, num_steps: int) -> float:
    """Environment steps per second of wall time, resets of the first scene excluded."""
    rng = np.random.default_rng(0)
    high = np.array(vector.space.high)
    vector.reset(range(vector.num_envs))
    start = time.perf_counter()
    for _ in range(num_steps):
        vector.step(rng.uniform(-high, high, (vector.num_envs, 4)))
    return num_steps * vector.num_envs / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--envs", type=int, default=8)
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"MuJoCo {mujoco.__version__}, MUJOCO_GL={os.environ['MUJOCO_GL']}, {FAST_RENDER}, {platform.machine()}, ")
    print(f"{os.cpu_count()} cores, load average at the start {load:.1f}, {datetime.date.today()}\n")
    env = TabletopEnv()
    env.reset(seed=0)
    world, still = env.world, np.zeros(4)
    seeds = iter(range(10**6))
    print("| what | ms wall | ms CPU | per CPU second |\n|---|---|---|---|")
    for name, run in (
        ("physics of one step", lambda: world.step(still)),
        ("one 64 px picture", lambda: world.paint(("front",), (64, 64))),
        ("one 128 px picture", lambda: world.paint(("front",), (128, 128))),
        ("whole step, two 64 px cameras", lambda: env.step(still)),
        ("reset to a new scene", lambda: env.reset(seed=next(seeds))),
    ):
        wall, cpu = _time(run, 200)
        print(f"| {name} | {wall:.2f} | {cpu:.2f} | {1e3 / cpu:.0f} |", flush=True)
    print("\n| processes | environment steps per second, two 64 px cameras |\n|---|---|")
    options = Options(max_steps=10**6)
    for num_workers in (0, 2):
        with VectorTabletop(num_envs=arguments.envs, num_workers=num_workers, options=options) as vector:
            print(f"| {max(num_workers, 1)} | {_random_steps(vector, arguments.steps):.0f} |", flush=True)


if __name__ == "__main__":
    main()
