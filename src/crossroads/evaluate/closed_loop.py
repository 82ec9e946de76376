"""Closed-loop episodes on the embedded tabletop: chunked execution, the same scenes for every arm, swapped words.

All tables of a round are asked together; a chunk is executed for ``execute_steps`` of its steps before the next is
computed. A swapped trial is the scene of a usual one told another of its valid instructions with another target.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from crossroads.errors import InputError
from crossroads.evaluate.calls import Calls
from crossroads.evaluate.records import EpisodeRecord
from crossroads.policy import Policy
from crossroads.sim.tabletop.env import draw_scene
from crossroads.sim.tabletop.perturb import NONE, Perturbation
from crossroads.sim.tabletop.tasks import Pairing, Split, Task, valid_tasks
from crossroads.sim.tabletop.vector import Options, VectorStep, VectorTabletop

SWAP_SEED = 7


@dataclass(frozen=True, kw_only=True)
class Trials:
    """Which episodes are run, fixed before anything is trained.

    A policy that goes on block by block remembers what it saw if ``execute_steps`` are a whole block of its actions;
    otherwise it starts anew at each call.
    """

    families: tuple[str, ...]
    seeds: tuple[int, ...]
    execute_steps: int
    swapped: bool = False
    split: Split = "train"
    pairing: Pairing = "any"
    paraphrase: bool = False
    perturbation: Perturbation = NONE
    cameras: tuple[str, ...] = ("front",)
    image_hw: tuple[int, int] = (64, 64)
    num_envs: int = 20


@dataclass(kw_only=True)
class _Running:
    """The tables of one round."""

    tasks: list[Task]
    old_goals: list[str]
    latencies_s: list[list[float]] = field(default_factory=list)


def run_trials(
    policy: Policy, trials: Trials, *, arm: str, cell: str, training_seed: int, noise_seed: int = 0
) -> tuple[EpisodeRecord, ...]:
    """Run every trial once; records come in the order of the seeds."""
    labels = {"arm": arm, "cell": cell, "training_seed": training_seed}
    records: list[EpisodeRecord] = []
    with open_tables(trials) as tables:
        for start in range(0, len(trials.seeds), tables.num_envs):
            records += run_round(policy, trials, tables, start, labels=labels, noise_seed=noise_seed)
    return tuple(records)


def open_tables(trials: Trials) -> VectorTabletop:
    """The tables of a round, as many as these trials fill at once."""
    options = Options(
        families=trials.families,
        image_hw=trials.image_hw,
        perturbation=trials.perturbation,
        paraphrase=trials.paraphrase,
        split=trials.split,
        pairing=trials.pairing,
        cameras=trials.cameras,
    )
    return VectorTabletop(num_envs=min(trials.num_envs, len(trials.seeds)), options=options)


def run_round(
    policy: Policy,
    trials: Trials,
    tables: VectorTabletop,
    start: int,
    *,
    labels: Mapping[str, Any],
    noise_seed: int = 0,
) -> tuple[EpisodeRecord, ...]:
    """The round that begins with scene number ``start``: as many scenes as there are tables.

    The noise of a round depends on ``start`` alone, so a round is the same whether the ones before it were run or not.
    """
    seeds = trials.seeds[start : start + tables.num_envs]
    generator = torch.Generator().manual_seed(noise_seed * 7919 + start)
    step, running = _reset(tables, seeds, swapped=trials.swapped)
    step = _play(Calls(policy, tables, len(seeds), execute_steps=trials.execute_steps), step, running, generator)
    return tuple(
        _record(step.infos[index], running, index, seed, trials.swapped, labels) for index, seed in enumerate(seeds)
    )


def other_task(valid: Sequence[Task], task: Task, seed: int) -> Task:
    """Another valid instruction of the scene that names another target (the swap); drawn by the scene's seed."""
    others = [other for other in valid if other.target != task.target] or [t for t in valid if t.key != task.key]
    return others[int(np.random.default_rng((seed, SWAP_SEED)).integers(len(others)))]


def check_swaps(trials: Trials) -> None:
    """Refuse swapped trials of scenes that admit one instruction only, before anything is run."""
    for seed in trials.seeds:
        layout, _ = draw_scene(seed, trials.families, trials.split)
        if len(valid_tasks(layout, trials.families, trials.split)) < 2:
            raise InputError(
                where=f"swapped trials, scene {seed}",
                expected="a scene that admits another instruction",
                got=f"one instruction in all from {', '.join(trials.families)}",
                do="Add a family with --families, or give --swapped 0.",
            )


def _reset(tables: VectorTabletop, seeds: Sequence[int], *, swapped: bool) -> tuple[VectorStep, _Running]:
    step = tables.reset(seeds)
    usual: list[Task] = [info["task"] for info in step.infos]
    tasks = usual
    if swapped:
        tasks = [
            other_task(info["valid_tasks"], info["task"], seed) for info, seed in zip(step.infos, seeds, strict=True)
        ]
        step = tables.reset(seeds, tasks)
    running = _Running(
        tasks=[info["task"] for info in step.infos],
        old_goals=[task.text for task in usual] if swapped else [""] * len(seeds),
        latencies_s=[[] for _ in seeds],
    )
    return step, running


def _play(calls: Calls, step: VectorStep, running: _Running, generator: torch.Generator) -> VectorStep:
    while not step.done.all():
        started = time.perf_counter()
        call = calls.ask(step, generator=generator)
        elapsed = time.perf_counter() - started
        seconds_of = call.chunk.latencies_s or [elapsed / len(call.rows)] * len(call.rows)
        for row, seconds in zip(call.rows, seconds_of, strict=True):
            running.latencies_s[row].append(seconds)
        step = calls.play(call)
    return step


def _record(
    info: dict[str, Any], running: _Running, index: int, seed: int, swapped: bool, labels: Mapping[str, Any]
) -> EpisodeRecord:
    task = running.tasks[index]
    achieved = tuple(info["achieved"])
    return EpisodeRecord(
        **labels,
        seed=seed,
        family=task.family,
        text=task.text,
        goal=task.text,
        named_object=task.target,
        num_objects=len(info["object_positions"]),
        swapped=swapped,
        success=bool(info["success"]),
        touched=(info["touched"],) if info["touched"] else (),
        achieved=achieved,
        old_goal_achieved=running.old_goals[index] in achieved if swapped else False,
        num_steps=info["num_steps"],
        latencies_s=tuple(running.latencies_s[index]),
    )
