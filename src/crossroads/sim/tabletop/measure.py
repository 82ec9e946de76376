"""How often the scripted experts succeed, family by family: the ceiling that every trained policy is read against."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from crossroads.sim.tabletop.env import TabletopEnv
from crossroads.sim.tabletop.expert import CALM, Expert, Style
from crossroads.sim.tabletop.tasks import ALL_FAMILIES, valid_tasks


@dataclass(frozen=True, kw_only=True)
class ExpertRow:
    """One family's line in the table of experts."""

    family: str
    num_episodes: int
    num_success: int
    steps: tuple[int, ...]
    """Control steps of each successful episode."""
    num_tasks: float
    """Mean number of instructions that a scene of this family admits, over all families."""
    failed_seeds: tuple[int, ...]


def expert_table(
    *, num_episodes: int, first_seed: int, families: tuple[str, ...] = ALL_FAMILIES, style: Style = CALM
) -> Iterator[ExpertRow]:
    """Run every family's expert on the scene seeds from ``first_seed`` on, without drawing pictures."""
    for family in families:
        env = TabletopEnv(families=(family,), cameras=())
        steps, failed, tasks = [], [], []
        for seed in range(first_seed, first_seed + num_episodes):
            env.reset(seed=seed)
            tasks.append(len(valid_tasks(env.world.layout, ALL_FAMILIES)))
            expert = Expert(env, style, np.random.default_rng((seed, 4)))
            num, ended, success = 0, False, False
            while not ended:
                _, _, success, truncated, _ = env.step(expert.act())
                num += 1
                ended = success or truncated
            if success:
                steps.append(num)
            else:
                failed.append(seed)
        yield ExpertRow(
            family=family,
            num_episodes=num_episodes,
            num_success=len(steps),
            steps=tuple(steps),
            num_tasks=float(np.mean(tasks)),
            failed_seeds=tuple(failed),
        )
