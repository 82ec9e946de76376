"""Many tables at once for closed-loop evaluation with a batched policy, in this process or over worker processes.

Environments that are done are left alone until the next reset: `step` moves only the others and repeats the last
observation of the finished ones. Results do not depend on the number of workers.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import numpy as np

from crossroads.errors import InputError
from crossroads.sim.tabletop.env import CAMERAS, Observations, TabletopEnv
from crossroads.sim.tabletop.perturb import NONE, Perturbation
from crossroads.sim.tabletop.tasks import ALL_FAMILIES, Pairing, Split, Task

Choice = Task | int | None
Played = tuple[Observations, float, bool, bool, dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How every table of a vector is made; see `TabletopEnv`."""

    families: tuple[str, ...] = ALL_FAMILIES
    image_hw: tuple[int, int] = (64, 64)
    max_steps: int | None = None
    perturbation: Perturbation = NONE
    paraphrase: bool = False
    split: Split = "train"
    pairing: Pairing = "any"
    cameras: tuple[str, ...] = CAMERAS

    def make(self) -> TabletopEnv:
        return TabletopEnv(
            families=self.families,
            image_hw=self.image_hw,
            max_steps=self.max_steps,
            perturbation=self.perturbation,
            paraphrase=self.paraphrase,
            split=self.split,
            pairing=self.pairing,
            cameras=self.cameras,
        )


@dataclass(frozen=True, kw_only=True)
class VectorStep:
    """One step of all tables; entry i belongs to table i."""

    obs: dict[str, Any]
    """Camera pictures uint8 (N, h, w, 3), ``state`` float32 (N, 4), ``instruction`` a list of N strings."""
    reward: np.ndarray
    terminated: np.ndarray
    """Success; stays true until the next reset."""
    truncated: np.ndarray
    infos: list[dict[str, Any]]
    """``passed``: what was seen on the way, by number of steps, where `play` was asked to look."""

    @property
    def done(self) -> np.ndarray:
        return self.terminated | self.truncated


class _Tables:
    """Some tables in one process."""

    def __init__(self, options: Options, num_envs: int) -> None:
        self._envs = [options.make() for _ in range(num_envs)]

    def reset(self, seeds: Sequence[int], choices: Sequence[Choice]) -> list[tuple[Observations, dict[str, Any]]]:
        return [
            env.reset(seed=int(seed), options={} if choice is None else {"task": choice})
            for env, seed, choice in zip(self._envs, seeds, choices, strict=False)
        ]

    def play(self, chunks: Sequence[np.ndarray | None], looks: tuple[int, ...]) -> list[Played | None]:
        pairs = zip(self._envs, chunks, strict=False)
        return [None if chunk is None else env.play(chunk, looks) for env, chunk in pairs]


_FIXED = ("task", "valid_tasks", "seed")
"""What an episode's info says of itself never changes: sending it at each step costs more than a picture."""


def _without_known(played: list[Played | None]) -> list[Played | None]:
    for result in played:
        if result is not None:
            for name in _FIXED:
                del result[4][name]
    return played


def _serve(connection: Connection, options: Options, num_envs: int) -> None:
    """The loop of a worker process."""
    tables = _Tables(options, num_envs)
    while True:
        try:
            message = connection.recv()
        except (EOFError, KeyboardInterrupt):
            return
        if message is None:
            return
        name, arguments = message
        try:
            answer = tables.reset(*arguments) if name == "reset" else _without_known(tables.play(*arguments))
        except Exception as error:
            answer = error
        connection.send(answer)


class VectorTabletop:
    """N tables that share one process, or ``num_workers`` processes; a context manager that ends its workers."""

    def __init__(self, *, num_envs: int, num_workers: int = 0, options: Options | None = None) -> None:
        if num_envs < 1 or num_workers < 0:
            raise InputError(
                where="VectorTabletop",
                expected="num_envs >= 1 and num_workers >= 0",
                got=f"{num_envs} and {num_workers}",
                do="Use num_workers=0 to stay in this process.",
            )
        self.num_envs = num_envs
        self.options = options or Options()
        self.space, self.control_hz = TabletopEnv.space, TabletopEnv.control_hz
        self._last: list[Played] = []
        num_workers = min(num_workers, num_envs)
        self._groups = np.array_split(np.arange(num_envs), max(num_workers, 1))
        self._local = _Tables(self.options, num_envs) if num_workers == 0 else None
        self._connections: list[Connection] = []
        self._processes = []
        # "spawn": a forked GL context draws garbage.
        context = multiprocessing.get_context("spawn")
        for group in self._groups if num_workers else ():
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(there, self.options, len(group)), daemon=True)
            process.start()
            there.close()
            self._connections.append(here)
            self._processes.append(process)

    def __enter__(self) -> VectorTabletop:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the worker processes."""
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.send(None)
            connection.close()
        for process in self._processes:
            process.join(timeout=5)
        self._connections, self._processes = [], []

    def reset(self, seeds: Sequence[int], tasks: Sequence[Choice] | None = None) -> VectorStep:
        """Set table i to the scene of ``seeds[i]`` (fewer seeds than tables leave the rest idle).

        ``tasks[i]`` is a `Task`, an index into that scene's valid tasks, or None for the task of the seed.
        """
        choices = list(tasks) if tasks is not None else [None] * len(seeds)
        if not 1 <= len(seeds) <= self.num_envs or len(choices) != len(seeds):
            raise InputError(
                where="VectorTabletop.reset",
                expected=f"1 to {self.num_envs} seeds and as many tasks",
                got=f"{len(seeds)} seeds and {len(choices)} tasks",
                do="Reset in rounds of at most num_envs.",
            )
        parts = [([seeds[i] for i in group if i < len(seeds)], [choices[i] for i in group if i < len(seeds)])
                 for group in self._groups]  # fmt: skip
        results = [item for part in self._ask("reset", parts) for item in part]
        self._last = [(obs, 0.0, False, False, info) for obs, info in results]
        return self._stacked(moved=[False] * len(self._last))

    def step(self, actions: np.ndarray) -> VectorStep:
        """Move every table that is not done by its row of ``actions`` (N, 4)."""
        return self.play(np.asarray(actions)[:, None])

    def play(self, chunks: np.ndarray, looks: tuple[int, ...] = ()) -> VectorStep:
        """Move every table that is not done by its row of ``chunks`` (N, k, 4), and look once at the end.

        A table whose episode ends on the way stops there; rewards are summed over the steps. ``looks``: after how many
        steps to look as well (``infos[i]["passed"]``).
        """
        chunks = np.asarray(chunks)
        if chunks.ndim != 3 or chunks.shape[0] != len(self._last) or chunks.shape[2] != 4 or chunks.shape[1] < 1:
            raise InputError(
                where="VectorTabletop",
                expected=f"actions for {len(self._last)} tables: ({len(self._last)}, 4), or with steps in the middle",
                got=str(chunks.shape),
                do="Give one row per seed of the last reset.",
            )
        open_ = [not (last[2] or last[3]) for last in self._last]
        rows = [chunk if is_open else None for chunk, is_open in zip(chunks, open_, strict=True)]
        parts = [([rows[i] for i in group if i < len(rows)], looks) for group in self._groups]
        results = [item for part in self._ask("play", parts) for item in part]
        self._last = [
            old if new is None else (*new[:4], {**old[4], **new[4]})
            for old, new in zip(self._last, results, strict=True)
        ]
        return self._stacked(moved=open_)

    def _ask(self, name: str, parts: Sequence[tuple[Any, ...]]) -> list[Any]:
        if self._local is not None:
            return [self._local.reset(*parts[0]) if name == "reset" else self._local.play(*parts[0])]
        for connection, arguments in zip(self._connections, parts, strict=True):
            connection.send((name, arguments))
        answers = [connection.recv() for connection in self._connections]
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    def _stacked(self, *, moved: list[bool]) -> VectorStep:
        observations = [last[0] for last in self._last]
        obs: dict[str, Any] = {
            name: np.stack([observation[name] for observation in observations])
            for name in (*self.options.cameras, "state")
        }
        obs["instruction"] = [observation["instruction"] for observation in observations]
        return VectorStep(
            obs=obs,
            reward=np.array([last[1] if move else 0.0 for last, move in zip(self._last, moved, strict=True)]),
            terminated=np.array([last[2] for last in self._last]),
            truncated=np.array([last[3] for last in self._last]),
            infos=[last[4] for last in self._last],
        )
