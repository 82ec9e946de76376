"""What can be asked of a scene and when it is done: families of tasks, judged by the physical state alone.

`valid_tasks` lists everything a hand could be told to do in a layout; every scene admits at least eight, so that only
the words say which one is meant. `solved` is the predicate, `progress` a dense 0..1 version of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from crossroads.errors import InputError, nearest
from crossroads.sim.tabletop import language
from crossroads.sim.tabletop.layout import Layout, Thing
from crossroads.sim.tabletop.world import Snapshot

Split = Literal["train", "held_out", "all"]

DIRECTIONS: dict[str, np.ndarray] = {
    "left": np.array((-1.0, 0.0)),
    "right": np.array((1.0, 0.0)),
    "back": np.array((0.0, 1.0)),
    "front": np.array((0.0, -1.0)),
}
REACH_M, REACH_ABOVE_M = 0.025, 0.035
PUSH_M = 0.05
BESIDE_M, APART_M = 0.072, 0.105
PRESS_M = 0.005
LIFT_M = 0.05
SETTLED_M_S = 0.08
DRAWER_OPEN_M, DRAWER_CLOSED_M = 0.045, 0.008
SLIDER_SIDE_M = 0.03


@dataclass(frozen=True, kw_only=True)
class Task:
    """One instruction: what to do (family), with what (target), and where or with what else (argument)."""

    family: str
    target: str
    argument: str = ""
    text: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """What is asked, whatever the wording."""
        return (self.family, self.target, self.argument)


@dataclass(frozen=True, kw_only=True)
class Family:
    """A verb: in which kinds of scene it exists, what it can be asked of, and when it is done."""

    kinds: tuple[str, ...]
    options: Callable[[Layout], Iterator[tuple[str, str]]]
    progress: Callable[[Task, Layout, Snapshot, Snapshot], float]
    """From the task, the layout, the state at the start and the state now to 0..1; 1 exactly when solved."""
    step_limit: int


def _ratio(done: float, needed: float, *, solved: bool) -> float:
    return 1.0 if solved else min(max(done / needed, 0.0), 0.99)


def _flat(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.hypot(a[0] - b[0], a[1] - b[1]))


def _released(name: str, now: Snapshot) -> bool:
    return name not in now.touching and now.speeds[name] < SETTLED_M_S


# reach ----------------------------------------------------------------------------------------------------------------


def _reach_options(layout: Layout) -> Iterator[tuple[str, str]]:
    for thing in layout.objects:
        yield thing.name, ""


def _reach(task: Task, layout: Layout, start: Snapshot, now: Snapshot) -> float:
    top = now.positions[task.target][2] + layout.thing(task.target).half_height
    aim = np.array((*now.positions[task.target][:2], top + 0.015))
    near = _flat(now.hand, aim) < REACH_M and now.hand[2] < top + REACH_ABOVE_M
    # The hand must end there: passing over does not count.
    solved = near and now.hand_step_m < 0.012
    first = float(np.linalg.norm(start.hand - aim))
    return _ratio(first - float(np.linalg.norm(now.hand - aim)), max(first, 0.05), solved=solved)


# push -----------------------------------------------------------------------------------------------------------------


def corridor_is_free(layout: Layout, thing: Thing, end: np.ndarray, *, ignore: tuple[str, ...] = ()) -> bool:
    """Whether nothing stands on the way of ``thing`` to ``end``, nor where the hand comes down behind it."""
    start = thing.xy
    length = float(np.linalg.norm(end - start))
    direction = (end - start) / length
    behind = start - direction * (thing.half_size + 0.03)
    if np.abs(behind).max() > 0.2 or np.abs(end).max() > 0.19:
        return False
    for other in layout.things:
        if other.name in (thing.name, *ignore):
            continue
        size = {"bin": 0.055, "drawer": 0.09, "slider": 0.06}.get(other.shape, 0.028)
        offset = other.xy - behind
        along = float(np.clip(offset @ direction, 0, length + thing.half_size + 0.03))
        if np.linalg.norm(offset - along * direction) < size + 0.032:
            return False
    return True


def _push_options(layout: Layout) -> Iterator[tuple[str, str]]:
    for thing in layout.objects:
        for name, direction in DIRECTIONS.items():
            if corridor_is_free(layout, thing, thing.xy + 0.065 * direction):
                yield thing.name, name


def _push(task: Task, layout: Layout, start: Snapshot, now: Snapshot) -> float:
    moved = (now.positions[task.target] - start.positions[task.target])[:2]
    direction = DIRECTIONS[task.argument]
    along = float(moved @ direction)
    across = float(np.linalg.norm(moved - along * direction))
    low = now.max_height_m[task.target] < layout.thing(task.target).half_height + 0.02
    return _ratio(along, PUSH_M, solved=along >= PUSH_M and across <= along and low)


# press ----------------------------------------------------------------------------------------------------------------


def _press_options(layout: Layout) -> Iterator[tuple[str, str]]:
    for thing in layout.buttons:
        yield thing.name, ""


def _press(task: Task, layout: Layout, start: Snapshot, now: Snapshot) -> float:
    aim = layout.thing(task.target)
    first = float(np.hypot(*(start.hand[:2] - aim.xy))) + start.hand[2]
    left = float(np.hypot(*(now.hand[:2] - aim.xy))) + now.hand[2]
    solved = now.pressed_m[task.target] > PRESS_M and task.target in now.touching
    return _ratio(first - left, first, solved=solved)


FAMILIES: dict[str, Family] = {
    "reach": Family(kinds=("buttons", "drawer", "slider"), options=_reach_options, progress=_reach, step_limit=40),
    "push": Family(kinds=("buttons", "drawer", "slider"), options=_push_options, progress=_push, step_limit=70),
    "press": Family(kinds=("buttons", "drawer", "slider"), options=_press_options, progress=_press, step_limit=50),
}
ALL_FAMILIES: tuple[str, ...] = tuple(FAMILIES)


def check_families(families: tuple[str, ...]) -> None:
    """Refuse unknown or missing family names."""
    if not families:
        raise InputError(
            where="tabletop families",
            expected="at least one family",
            got="none",
            do=f"Name some of: {', '.join(ALL_FAMILIES)}.",
        )
    for name in families:
        if name not in FAMILIES:
            raise InputError(
                where="tabletop families", expected="a known family", got=repr(name), do=nearest(name, ALL_FAMILIES)
            )


def in_split(task: Task, split: Split) -> bool:
    """Whether a task's (colour, shape, verb) composition belongs to a split."""
    return split == "all" or language.is_held_out(task.family, task.target) == (split == "held_out")


def valid_tasks(layout: Layout, families: tuple[str, ...], split: Split = "all") -> list[Task]:
    """Everything that can be asked of this scene, in a fixed order, with its plain wording."""
    tasks = []
    for name in families:
        if layout.kind not in FAMILIES[name].kinds:
            continue
        for target, argument in FAMILIES[name].options(layout):
            task = Task(family=name, target=target, argument=argument)
            if in_split(task, split):
                tasks.append(replace(task, text=language.plain(name, target, argument)))
    return tasks


def progress(task: Task, layout: Layout, start: Snapshot, now: Snapshot) -> float:
    """How far a task has come, 0..1; exactly 1 when it is solved."""
    return FAMILIES[task.family].progress(task, layout, start, now)


def solved(task: Task, layout: Layout, start: Snapshot, now: Snapshot) -> bool:
    """Whether the physical state satisfies the task."""
    return progress(task, layout, start, now) == 1.0
