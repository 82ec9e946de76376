"""Demonstrations by the scripted experts: as episodes in memory, or through a writer as a dataset on disk."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from crossroads.sim.tabletop.env import TabletopEnv
from crossroads.sim.tabletop.expert import CALM, Expert, Style
from crossroads.sim.tabletop.tasks import Task
from crossroads.sim.tabletop.vector import Options

HOLD_STEPS = 12
"""Steps recorded after success: the pictures show the result, and a window of 1.2 s that starts before it is whole."""
EPISODES_PER_SESSION = 50


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One successful demonstration: at step t the pictures and state are what was seen before action t."""

    images: dict[str, np.ndarray]
    """uint8 (T, h, w, 3) per camera."""
    state: np.ndarray
    """float32 (T, 4): x, y, z, jaw opening; metres."""
    actions: np.ndarray
    """float32 (T, 4): dx, dy, dz in metres, jaw command."""
    text: str
    task: Task
    seed: int
    success: bool
    session: int
    names: tuple[str, ...]
    """Objects, then fixtures."""
    positions: np.ndarray
    """float32 (T, len(names), 3): true centres at every step."""
    pixels: dict[str, np.ndarray]
    """float32 (T, len(names), 2) per camera: the centres in the picture, (u right, v down) in 0..1."""
    progress: np.ndarray
    """float32 (T,)."""
    object_positions: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    """Where things were at the start."""
    valid_tasks: tuple[Task, ...] = ()
    """All instructions this scene admits."""


@dataclass(kw_only=True)
class Tally:
    """How many episodes were tried and how many the expert failed."""

    tried: int = 0
    failed: int = 0


def record_episode(env: TabletopEnv, *, seed: int, style: Style = CALM, task: Task | int | None = None) -> Episode:
    """Run the expert once; the episode tells whether it succeeded."""
    observation, info = env.reset(seed=seed, options={} if task is None else {"task": task})
    first = info
    expert = Expert(env, style, np.random.default_rng((seed, 4)))
    names = tuple(info["object_positions"])
    frames: dict[str, list[np.ndarray]] = {camera: [] for camera in env.cameras}
    pixels: dict[str, list[np.ndarray]] = {camera: [] for camera in env.cameras}
    states, actions, positions, progress = [], [], [], []
    left, success = -1, False
    while left != 0:
        action = expert.act()
        places = np.array([info["object_positions"][name] for name in names], dtype=np.float32)
        for camera in env.cameras:
            frames[camera].append(observation[camera])
            pixels[camera].append(env.project(camera, places).astype(np.float32))
        states.append(observation["state"])
        actions.append(action)
        positions.append(places)
        progress.append(info["progress"])
        observation, _, terminated, truncated, info = env.step(action)
        left -= 1
        if left < 0:
            success = terminated
            left = HOLD_STEPS if terminated else (0 if truncated else -1)
    return Episode(
        images={camera: np.stack(pictures) for camera, pictures in frames.items()},
        state=np.stack(states),
        actions=np.stack(actions),
        text=env.task.text,
        task=env.task,
        seed=seed,
        success=success,
        session=seed // EPISODES_PER_SESSION,
        names=names,
        positions=np.stack(positions),
        pixels={camera: np.stack(places) for camera, places in pixels.items()},
        progress=np.array(progress, dtype=np.float32),
        object_positions=first["object_positions"],
        valid_tasks=tuple(env.valid_tasks),
    )


def record_episodes(
    tables: Options,
    *,
    num_episodes: int,
    seed: int,
    style: Style = CALM,
    tally: Tally | None = None,
    num_workers: int = 0,
) -> Iterator[Episode]:
    """Yield successful demonstrations from the scene seeds ``seed``, ``seed + 1``, ...; failures are tallied.

    With ``num_workers`` that many processes play ahead; the episodes and their order are the same.
    """
    tally = tally if tally is not None else Tally()
    tried = _played_ahead(tables, style, seed, num_workers) if num_workers else _played(tables, style, seed)
    num_done = 0
    with contextlib.closing(tried):
        while num_done < num_episodes:
            episode = next(tried)
            tally.tried += 1
            if not episode.success:
                tally.failed += 1
                continue
            num_done += 1
            yield episode


def _played(tables: Options, style: Style, seed: int) -> Generator[Episode]:
    env = tables.make()
    for scene_seed in itertools.count(seed):
        yield record_episode(env, seed=scene_seed, style=style)


_WORKER: list[tuple[TabletopEnv, Style]] = []


def _begin(tables: Options, style: Style) -> None:
    _WORKER.append((tables.make(), style))


def _play_one(seed: int) -> Episode:
    env, style = _WORKER[0]
    return record_episode(env, seed=seed, style=style)


def _played_ahead(tables: Options, style: Style, seed: int, num_workers: int) -> Generator[Episode]:
    # "spawn": a forked GL context draws garbage.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_workers, mp_context=context, initializer=_begin, initargs=(tables, style)) as pool:
        seeds = itertools.count(seed)
        ahead = deque(pool.submit(_play_one, next(seeds)) for _ in range(2 * num_workers))
        try:
            while True:
                ahead.append(pool.submit(_play_one, next(seeds)))
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class Writer(Protocol):
    """What a dataset writer must offer (`crossroads.data.writer.LeRobotWriter` does)."""

    def add_episode(
        self,
        *,
        images: Mapping[str, np.ndarray],
        state: np.ndarray,
        actions: np.ndarray,
        text: str,
        session: int,
        action_free: bool,
    ) -> object: ...

    def finalise(self) -> object: ...


def record_dataset(
    writer: Writer,
    tables: Options,
    *,
    num_episodes: int,
    seed: int,
    style: Style = CALM,
    num_action_free: int = 0,
    num_workers: int = 0,
    report: Callable[[int], None] = lambda num_done: None,
    more: Callable[[Episode], Mapping[str, Any]] = lambda episode: {},
) -> Tally:
    """Write labelled demonstrations, then ``num_action_free`` more of which only video and text are kept; ``more`` is
    what else the writer is told of an episode."""
    tally = Tally()
    wanted = num_episodes + num_action_free
    episodes = record_episodes(
        tables, num_episodes=wanted, seed=seed, style=style, tally=tally, num_workers=num_workers
    )
    for index, episode in enumerate(episodes):
        writer.add_episode(
            images=episode.images,
            state=episode.state,
            actions=episode.actions,
            text=episode.text,
            session=episode.session,
            action_free=index >= num_episodes,
            **more(episode),
        )
        report(index + 1)
    writer.finalise()
    return tally
