"""A policy asked call after call for tables that end at different times.

What it remembers goes with its tables. A policy that remembers (``Policy.passed_s``) is shown what the cameras saw
since its last call, at the times that its training showed, and one that glances back (``Policy.before_s``) what was
observed shortly before; nothing is painted for any other policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crossroads.errors import InputError
from crossroads.policy import Policy
from crossroads.sim.tabletop.vector import VectorStep, VectorTabletop
from crossroads.types import Actions, Observation


def looks_of(passed_s: tuple[float, ...], *, execute_steps: int, control_hz: float) -> tuple[int, ...]:
    """After how many of the executed steps to look for a policy that wants frames of these times: the nearest steps, as
    training takes the nearest frames.

    Empty where the last of these times is not that of the next call: the actions of a block are not all executed, so no
    block is ever over, and the policy starts anew at each call.

    Raises:
        InputError: it wants a frame within half a step of its call, or times that do not rise.
    """
    looks = tuple(int(np.floor(time * control_hz + 0.5)) for time in passed_s)
    if min(looks, default=1) < 1 or list(passed_s) != sorted(passed_s):
        raise InputError(
            where="closed loop, frames since the last call",
            expected=f"rising times, the first at least half a step ({0.5 / control_hz:g} s) after the call",
            got=", ".join(f"{time:g} s" for time in passed_s),
            do="Change the recipe's future times, or its control rate.",
        )
    return looks if looks and looks[-1] == execute_steps else ()


def glances_of(before_s: tuple[float, ...], *, control_hz: float) -> tuple[int, ...]:
    """How many steps before each call to look for a policy that glances back, the most first.

    Raises:
        InputError: it wants two looks at one step, or one at the step of its call.
    """
    steps = tuple(int(np.floor(time * control_hz + 0.5)) for time in before_s)
    if min(steps, default=1) < 1 or list(steps) != sorted(set(steps), reverse=True):
        raise InputError(
            where="closed loop, looks before a call",
            expected=f"falling times, a step ({1 / control_hz:g} s) or more apart and before the call",
            got=", ".join(f"{time:g} s" for time in before_s),
            do="Change the clock of the recipe, or its control rate.",
        )
    return steps


def observation(
    obs: Mapping[str, Any],
    rows: np.ndarray,
    cameras: tuple[str, ...],
    time_s: float,
    passed: Mapping[str, Tensor] | None = None,
    before: tuple[Observation, ...] = (),
) -> Observation:
    """Some tables' observations as a batch; ``passed``: the frames of each camera since the last call, if any;
    ``before``: what was observed before."""
    return Observation(
        images={camera: torch.from_numpy(obs[camera][rows]) for camera in cameras},
        state=torch.from_numpy(obs["state"][rows]),
        text=tuple(obs["instruction"][row] for row in rows),
        robot=("tabletop",) * len(rows),
        time_s=torch.full((len(rows),), time_s),
        passed=passed or {},
        before=before,
    )


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call: the tables it was about, what they showed, and the answer for each."""

    rows: np.ndarray
    obs: Observation
    chunk: Actions


class Calls:
    """The calls of one episode of ``num`` tables, from their reset on; ``execute_steps`` of each chunk are executed."""

    def __init__(self, policy: Policy, tables: VectorTabletop, num: int, *, execute_steps: int) -> None:
        self.policy, self.tables, self.execute_steps = policy, tables, execute_steps
        self.looks = looks_of(policy.passed_s, execute_steps=execute_steps, control_hz=tables.control_hz)
        self.glances = glances_of(policy.before_s, control_hz=tables.control_hz)
        # Those that fall between two calls, in steps after the first of them.
        self._between = tuple({execute_steps - back % execute_steps for back in self.glances if back % execute_steps})
        self._seen: dict[int, Mapping[str, Any]] = {}
        self._memory, self._rows, self._num_steps = policy.start(num), np.arange(num), 0
        self._num = num

    def ask(self, step: VectorStep, *, generator: torch.Generator, show: bool = False) -> Call:
        """The next chunk of every table that is not done.

        Raises:
            InputError: chunks are shorter than what is executed of them.
        """
        rows = np.flatnonzero(~step.done)
        if len(rows) < len(self._rows):
            self._memory = self._memory.rows(torch.from_numpy(np.searchsorted(self._rows, rows)))
        self._rows = rows
        moment_s = self._num_steps / self.tables.control_hz
        cameras, before = self.tables.options.cameras, self._before(step, rows)
        obs = observation(step.obs, rows, cameras, moment_s, self._passed(step, rows), before)
        chunk, self._memory = self.policy.act(obs, self._memory, generator=generator, show=show)
        if chunk.values.shape[1] < self.execute_steps:
            raise InputError(
                where="closed loop",
                expected=f"chunks of at least {self.execute_steps} actions, as many as are executed of each",
                got=f"{chunk.values.shape[1]}",
                do="Lower --execute-steps.",
            )
        return Call(rows=rows, obs=obs, chunk=chunk)

    def play(self, call: Call, *, looks: tuple[int, ...] = ()) -> VectorStep:
        """Execute the chunk as far as it is; ``looks``: after how many steps to look, beside where the policy does."""
        chunks = np.zeros((self._num, *call.chunk.values.shape[1:]), dtype=np.float32)
        chunks[call.rows] = call.chunk.values.cpu().numpy()
        self._num_steps += self.execute_steps
        return self.tables.play(chunks[:, : self.execute_steps], (*self.looks, *self._between, *looks))

    def _before(self, step: VectorStep, rows: np.ndarray) -> tuple[Observation, ...]:
        """What was observed at the glances before this call, as far as the episode goes back."""
        if not self.glances:
            return ()
        now, cameras = self._num_steps, self.tables.options.cameras
        for look in self._between if now else ():
            seen = {name: np.array(step.obs[name]) for name in (*cameras, "state")}
            for row in rows:
                for name, values in seen.items():
                    values[row] = step.infos[row]["passed"][look][name]
            self._seen[now - self.execute_steps + look] = {**step.obs, **seen}
        self._seen = {at: seen for at, seen in self._seen.items() if at >= now - self.glances[0]}
        wanted, hz = [now - back for back in self.glances if back <= now], self.tables.control_hz
        found = tuple(observation(self._seen[at], rows, cameras, at / hz) for at in wanted)
        self._seen[now] = step.obs
        return found

    def _passed(self, step: VectorStep, rows: np.ndarray) -> dict[str, Tensor]:
        """What the cameras saw since the last call, ``b f h w 3`` each; nothing before the first."""
        if not self.looks or not self._num_steps:
            return {}
        seen = [[step.infos[row]["passed"][look] for look in self.looks] for row in rows]
        return {
            camera: torch.from_numpy(np.stack([[obs[camera] for obs in of_table] for of_table in seen]))
            for camera in self.tables.options.cameras
        }
