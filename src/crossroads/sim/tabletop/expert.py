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
from crossroads.sim.tabletop.tasks import solved
from crossroads.sim.tabletop.verbs import DIRECTIONS, Task, beside_spots, parts
from crossroads.sim.tabletop.world import STEP_M, Snapshot, World

OPEN, CLOSED = 1.0, -1.0
TRAVEL_Z = 0.085
CARRY_Z = 0.105
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

    def _travel(
        self, goal: Callable[[], np.ndarray], *, tolerance_m: float = 0.012, height: float = TRAVEL_Z
    ) -> Iterator[np.ndarray]:
        """Cross the table above everything: rise if low, then go over the goal at travel height, one way or another."""
        hand = self._world.hand
        across = goal()[:2] - hand[:2]
        distance = float(np.linalg.norm(across))
        if hand[2] < height - 0.02 and distance > 0.02:
            yield from self._move(lambda: np.array((*hand[:2], height)), tolerance_m=0.02)
        if self._style.detours and distance > 0.08:
            side = np.array((-across[1], across[0])) / distance * self._rng.choice((-1.0, 1.0))
            middle = hand[:2] + across / 2 + side * self._rng.uniform(0.03, 0.06)
            middle = np.clip(middle, scene.HAND_LOW[:2], scene.HAND_HIGH[:2])
            yield from self._move(lambda: np.array((*middle, height)), tolerance_m=0.02)
        yield from self._move(lambda: np.array((*goal()[:2], height)), tolerance_m=tolerance_m)

    # scripts ----------------------------------------------------------------------------------------------------------

    def _run(self) -> Iterator[np.ndarray]:
        scripts = {
            "reach": self._reach,
            "push": self._push,
            "press": self._press,
            "push_next": self._push_next,
            "press_two": self._press_two,
            "pick": self._pick,
            "place_in": self._place_in,
            "place_next": self._place_next,
            "stack": self._stack,
            "open_drawer": self._open_drawer,
            "close_drawer": self._close_drawer,
            "slide": self._slide,
            "sort_two": self._sort_two,
        }
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
        yield from self._press_button(self._task.target)

    def _press_two(self) -> Iterator[np.ndarray]:
        if self._task.target not in self._now.pressed_order:
            yield from self._press_button(self._task.target)
        yield from self._press_button(self._task.argument)

    def _press_button(self, name: str) -> Iterator[np.ndarray]:
        self._jaw = CLOSED
        button = self._thing(name)
        num_pressed = len(self._now.pressed_order)
        yield from self._travel(lambda: np.array((button.x, button.y, TRAVEL_Z)))
        for action in self._move(lambda: np.array((button.x, button.y, 0.008)), tolerance_m=0.004, limit=12):
            if len(self._now.pressed_order) > num_pressed:
                return
            yield action

    def _push(self) -> Iterator[np.ndarray]:
        yield from self._push_along(self._task.target, lambda: DIRECTIONS[self._task.argument], 0.075)

    def _push_next(self) -> Iterator[np.ndarray]:
        target, other = self._task.target, self._task.argument

        def direction() -> np.ndarray:
            offset = (self._position(other) - self._position(target))[:2]
            return offset / np.linalg.norm(offset)

        yield from self._push_along(target, direction, 0.3)

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
        first_way = way
        for _ in range(30):
            moved = self._position(name)[:2] - first
            way = direction()
            if float(way @ first_way) < 0.5:
                return  # The goal was missed sideways: come round and push again.
            side = np.array((-way[1], way[0]))
            if float(moved @ way) > distance_m or solved(self._task, self._world.layout, self._start, self._now):
                return
            error = self._position(name)[:2] - self._world.hand[:2]
            # Steer past the object's own sideways error, or it rolls off the fingers.
            delta = way * STEP_M * min(self._speed, 0.8) + side * float(np.clip(1.5 * (error @ side), -0.012, 0.012))
            yield self._action(np.array((*delta, PUSH_Z - self._world.target[2])), self._jaw)

    # carrying ---------------------------------------------------------------------------------------------------------

    def _grasp(self, name: str) -> Iterator[np.ndarray]:
        """Take an object between the fingers and lift it to carrying height."""
        self._jaw = OPEN
        if self._now.jaw_m < 0.07:
            yield from self._move(lambda: np.array((*self._world.hand[:2], TRAVEL_Z)), tolerance_m=0.02)
            yield from self._wait(2)
        depth = min(GRASP_Z, self._thing(name).half_height * 0.7)
        yield from self._travel(lambda: self._position(name))
        yield from self._move(lambda: np.array((*self._position(name)[:2], depth)), tolerance_m=0.006)
        self._jaw = CLOSED
        yield from self._wait(4)
        here = self._world.hand
        yield from self._move(lambda: np.array((here[0], here[1], CARRY_Z)), tolerance_m=0.015)

    def _holds(self, name: str) -> bool:
        return bool(self._position(name)[2] > self._thing(name).half_height + 0.03)

    def _carry(self, name: str, goal: Callable[[], np.ndarray], release_z: float) -> Iterator[np.ndarray]:
        """Bring a held object over ``goal`` (its own centre there, not the hand's), lower it and let go."""
        if not self._holds(name):
            return
        offset = (self._position(name) - self._world.hand)[:2]

        def over(z: float) -> np.ndarray:
            return np.array((*(goal()[:2] - offset), z))

        yield from self._travel(lambda: over(CARRY_Z), height=CARRY_Z, tolerance_m=0.006)
        yield from self._move(lambda: over(release_z), tolerance_m=0.006, speed=0.7, limit=15)
        self._jaw = OPEN
        yield from self._wait(3)
        here = self._world.hand
        yield from self._move(lambda: np.array((here[0], here[1], CARRY_Z)), tolerance_m=0.02)

    def _pick(self) -> Iterator[np.ndarray]:
        yield from self._grasp(self._task.target)

    def _into_bin(self, name: str, bin_name: str) -> Iterator[np.ndarray]:
        goal = np.array((*self._thing(bin_name).xy, 0.0))
        yield from self._grasp(name)
        yield from self._carry(name, lambda: goal, 0.035)

    def _place_in(self) -> Iterator[np.ndarray]:
        yield from self._into_bin(self._task.target, self._task.argument)

    def _sort_two(self) -> Iterator[np.ndarray]:
        for part in parts(self._task):
            if not solved(part, self._world.layout, self._start, self._now):
                yield from self._into_bin(part.target, part.argument)

    def _place_next(self) -> Iterator[np.ndarray]:
        target, other = self._task.target, self._task.argument
        spots = beside_spots(self._world.layout, target, self._position(other), other)
        if not spots:
            spots = [self._thing(target).xy]
        hand = self._world.hand[:2]
        spot = min(spots, key=lambda place: float(np.linalg.norm(place - hand)))
        yield from self._grasp(target)
        yield from self._carry(target, lambda: np.array((*spot, 0.0)), self._resting_z(target) + 0.003)

    def _resting_z(self, name: str) -> float:
        """The hand's height at which a held object stands on the table."""
        return float(self._world.hand[2] - self._position(name)[2]) + self._thing(name).half_height

    def _stack(self) -> Iterator[np.ndarray]:
        target, other = self._task.target, self._task.argument
        yield from self._grasp(target)
        top = self._position(other)[2] + self._thing(other).half_height
        yield from self._carry(target, lambda: self._position(other), self._resting_z(target) + top + 0.003)

    # fixtures ---------------------------------------------------------------------------------------------------------

    def _drag(self, goal: Callable[[], np.ndarray], way: np.ndarray, height: float, limit: int) -> Iterator[np.ndarray]:
        """Come down at ``goal`` and move along ``way`` until the task is solved."""
        self._jaw = CLOSED
        yield from self._travel(goal)
        yield from self._move(lambda: np.array((*goal()[:2], height)))
        for _ in range(limit):
            if solved(self._task, self._world.layout, self._start, self._now):
                return
            yield self._action(np.array((*(way * STEP_M * self._speed), 0.0)), self._jaw)

    def _open_drawer(self) -> Iterator[np.ndarray]:
        # The fingers go down into the gap between the drawer's face and its bar, and pull the bar.
        yield from self._drag(
            lambda: self._position("drawer") + np.array((0.0, 0.020, 0.0)), np.array((0.0, -1.0)), 0.014, 8
        )

    def _close_drawer(self) -> Iterator[np.ndarray]:
        yield from self._drag(
            lambda: self._position("drawer") - np.array((0.0, 0.030, 0.0)), np.array((0.0, 1.0)), 0.014, 8
        )

    def _slide(self) -> Iterator[np.ndarray]:
        way = DIRECTIONS[self._task.argument]
        yield from self._drag(lambda: self._position("slider") - np.array((0.042 * way[0], 0.0, 0.0)), way, 0.024, 10)
