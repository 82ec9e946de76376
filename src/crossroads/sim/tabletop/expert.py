"""Scripted experts: closed-loop hand motions that solve every family from the true state, in a person's manner.

An expert is a generator per family that looks at the world before every action, so it corrects itself when an object
slips; a script that ended without success starts again. `Style` switches what makes people hard to imitate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from crossroads.sim.tabletop import scene
from crossroads.sim.tabletop.layout import Thing
from crossroads.sim.tabletop.tasks import DIRECTIONS, Task, solved
from crossroads.sim.tabletop.world import STEP_M, Snapshot, World

OPEN, CLOSED = 1.0, -1.0
TRAVEL_Z = 0.085
GRASP_Z = 0.016
PUSH_Z = 0.014


@dataclass(frozen=True, kw_only=True)
class Style:
    """How person-like an expert behaves."""

    pauses: bool = False
    """Stop for 2 to 5 steps now and then."""
    speed: tuple[float, float] = (0.6, 1.0)
    """Range of the per-episode share of full speed."""
    detours: bool = False
    """Go one way or the other round the straight line."""
    noise_m: float = 0.0
    """Standard deviation of a disturbance of each motion; the action that was really taken is recorded."""


CALM = Style()


class Table(Protocol):
    """What an expert needs of an environment."""

    @property
    def world(self) -> World: ...

    @property
    def task(self) -> Task: ...

    @property
    def start(self) -> Snapshot | None: ...


class Expert:
    """Solves the task that an environment was just reset to; ask ``act`` for the next action."""

    def __init__(self, env: Table, style: Style, rng: np.random.Generator) -> None:
        self._world, self._task, self._style, self._rng = env.world, env.task, style, rng
        self._speed = float(rng.uniform(*style.speed))
        assert env.start is not None, "reset the environment first"
        self._start = env.start
        self._script = self._run()
        self._pause_left = 0

    def act(self) -> np.ndarray:
        """The next action, float32 of (dx, dy, dz, jaw), from the state as it is now."""
        if self._pause_left > 0 or (self._style.pauses and self._rng.random() < 0.03):
            self._pause_left = self._pause_left - 1 if self._pause_left else int(self._rng.integers(1, 5))
            return self._action(np.zeros(3), self._jaw)
        return next(self._script)

    # motions ----------------------------------------------------------------------------------------------------------

    _jaw = OPEN

    @property
    def _now(self) -> Snapshot:
        return self._world.snapshot()

    def _action(self, delta: np.ndarray, jaw: float) -> np.ndarray:
        if self._style.noise_m and np.abs(delta).max() > 0:
            delta = delta + self._rng.normal(0, self._style.noise_m, 3)
        return np.array((*np.clip(delta, -STEP_M, STEP_M), jaw), dtype=np.float32)

    def _toward(self, goal: np.ndarray, *, speed: float = 1.0) -> np.ndarray:
        """One step along the straight line, slowing near the end so that the servos do not overshoot."""
        error = goal - self._world.target
        distance = float(np.linalg.norm(error))
        limit = STEP_M * self._speed * speed
        return error if distance <= limit else error * (limit / distance)

    def _move(
        self, goal: Callable[[], np.ndarray], *, tolerance_m: float = 0.008, speed: float = 1.0, limit: int = 40
    ) -> Iterator[np.ndarray]:
        """Go to a goal that may move, until the hand is there."""
        for _ in range(limit):
            if float(np.linalg.norm(goal() - self._world.hand)) < tolerance_m:
                return
            yield self._action(self._toward(goal(), speed=speed), self._jaw)

    def _wait(self, num_steps: int) -> Iterator[np.ndarray]:
        for _ in range(num_steps):
            yield self._action(np.zeros(3), self._jaw)

    def _position(self, name: str) -> np.ndarray:
        return self._now.positions[name]

    def _thing(self, name: str) -> Thing:
        return self._world.layout.thing(name)

    def _travel(self, goal: Callable[[], np.ndarray], *, tolerance_m: float = 0.012) -> Iterator[np.ndarray]:
        """Cross the table above everything: rise if low, then go over the goal at travel height, one way or another."""
        hand = self._world.hand
        across = goal()[:2] - hand[:2]
        distance = float(np.linalg.norm(across))
        if hand[2] < TRAVEL_Z - 0.02 and distance > 0.02:
            yield from self._move(lambda: np.array((*hand[:2], TRAVEL_Z)), tolerance_m=0.02)
        if self._style.detours and distance > 0.08:
            side = np.array((-across[1], across[0])) / distance * self._rng.choice((-1.0, 1.0))
            middle = hand[:2] + across / 2 + side * self._rng.uniform(0.03, 0.06)
            middle = np.clip(middle, scene.HAND_LOW[:2], scene.HAND_HIGH[:2])
            yield from self._move(lambda: np.array((*middle, TRAVEL_Z)), tolerance_m=0.02)
        yield from self._move(lambda: np.array((*goal()[:2], TRAVEL_Z)), tolerance_m=tolerance_m)

    # scripts ----------------------------------------------------------------------------------------------------------

    def _run(self) -> Iterator[np.ndarray]:
        scripts = {"reach": self._reach, "push": self._push, "press": self._press}
        while not solved(self._task, self._world.layout, self._start, self._now):
            yield from scripts[self._task.family]()
            yield from self._wait(1)
        while True:
            yield self._action(np.zeros(3), self._jaw)

    def _reach(self) -> Iterator[np.ndarray]:
        self._jaw = CLOSED
        name = self._task.target
        top = self._position(name)[2] + self._thing(name).half_height
        yield from self._move(lambda: np.array((*self._position(name)[:2], top + 0.016)), tolerance_m=0.006)

    def _press(self) -> Iterator[np.ndarray]:
        self._jaw = CLOSED
        button = self._thing(self._task.target)
        yield from self._travel(lambda: np.array((button.x, button.y, TRAVEL_Z)))
        yield from self._move(lambda: np.array((button.x, button.y, 0.008)), tolerance_m=0.004, limit=12)

    def _push(self) -> Iterator[np.ndarray]:
        yield from self._push_along(self._task.target, lambda: DIRECTIONS[self._task.argument], 0.075)

    def _push_along(self, name: str, direction: Callable[[], np.ndarray], distance_m: float) -> Iterator[np.ndarray]:
        """Come down behind an object and push it, steering so that it stays in front of the fingers."""
        self._jaw = CLOSED
        gap = self._thing(name).half_size + 0.032
        way = direction()
        first = self._position(name)[:2].copy()

        def behind() -> np.ndarray:
            return np.clip(self._position(name)[:2] - way * gap, scene.HAND_LOW[:2], scene.HAND_HIGH[:2])

        yield from self._travel(lambda: np.array((*behind(), TRAVEL_Z)))
        yield from self._move(lambda: np.array((*behind(), PUSH_Z)))
        side = np.array((-way[1], way[0]))
        for _ in range(30):
            moved = self._position(name)[:2] - first
            if float(moved @ way) > distance_m or solved(self._task, self._world.layout, self._start, self._now):
                return
            error = self._position(name)[:2] - self._world.hand[:2]
            # Steer past the object's own sideways error, or it rolls off the fingers.
            delta = way * STEP_M * min(self._speed, 0.8) + side * float(np.clip(1.5 * (error @ side), -0.012, 0.012))
            yield self._action(np.array((*delta, PUSH_Z - self._world.target[2])), self._jaw)
