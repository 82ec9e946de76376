"""What can be asked of a scene and when it is done: families of tasks, judged by the physical state alone.

`valid_tasks` lists everything a hand could be told to do in a layout; every scene admits at least eight, so that only
the words say which one is meant. `solved` is the predicate, `progress` a dense 0..1 version of it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from crossroads.errors import InputError, nearest
from crossroads.sim.tabletop import language
from crossroads.sim.tabletop.layout import Layout, Thing, far_enough
from crossroads.sim.tabletop.scene import BIN_INNER_M, DRAWER_TRAVEL_M
from crossroads.sim.tabletop.world import PRESS_M, Snapshot

Split = Literal["train", "held_out", "all"]
Pairing = Literal["any", "leftmost"]
"""Which of a scene's instructions is the usual one: any of them, or always the one about the leftmost thing (a scene
that gives its instruction away, as in sets with one instruction per scene)."""

DIRECTIONS: dict[str, np.ndarray] = {
    "left": np.array((-1.0, 0.0)),
    "right": np.array((1.0, 0.0)),
    "back": np.array((0.0, 1.0)),
    "front": np.array((0.0, -1.0)),
}
REACH_M, REACH_ABOVE_M = 0.04, 0.045
PUSH_M = 0.05
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
    moves_target: bool = False
    """Whether it cannot be done while its target stays where it was; spares most predicates most of the time."""


def _ratio(done: float, needed: float, *, solved: bool | np.bool_) -> float:
    return 1.0 if solved else min(max(done / needed, 0.0), 0.99)


def _flat(a: np.ndarray, b: np.ndarray) -> float:
    return math.hypot(a[0] - b[0], a[1] - b[1])


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
    first = math.dist(start.hand, aim)
    return _ratio(first - math.dist(now.hand, aim), max(first, 0.05), solved=solved)


# push -----------------------------------------------------------------------------------------------------------------


def corridor_is_free(layout: Layout, thing: Thing, end: np.ndarray, *, ignore: tuple[str, ...] = ()) -> bool:
    """Whether nothing stands on the way of ``thing`` to ``end``, nor where the hand comes down behind it."""
    dx, dy = float(end[0]) - thing.x, float(end[1]) - thing.y
    length = math.hypot(dx, dy)
    dx, dy = dx / length, dy / length
    behind_x, behind_y = thing.x - dx * (thing.half_size + 0.03), thing.y - dy * (thing.half_size + 0.03)
    if max(abs(behind_x), abs(behind_y)) > 0.2 or max(abs(end[0]), abs(end[1])) > 0.19:
        return False
    for other in layout.things:
        if other.name in (thing.name, *ignore):
            continue
        size = {"bin": 0.055, "drawer": 0.09, "slider": 0.06}.get(other.shape, 0.028)
        x, y = other.x - behind_x, other.y - behind_y
        along = min(max(x * dx + y * dy, 0.0), length + thing.half_size + 0.03)
        if math.hypot(x - along * dx, y - along * dy) < size + 0.032:
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
    across = math.dist(moved, along * direction)
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


# fingers on something else --------------------------------------------------------------------------------------------


def _beside_m(layout: Layout, one: str, other: str) -> float:
    """Centres closer than this are next to each other."""
    return layout.thing(one).half_size + layout.thing(other).half_size + 0.028


def _push_next_options(layout: Layout) -> Iterator[tuple[str, str]]:
    for thing in layout.objects:
        for other in layout.objects:
            offset = other.xy - thing.xy
            distance = math.hypot(*offset)
            near = thing.half_size + other.half_size
            if other is thing or not near + 0.06 < distance < 0.24:
                continue
            if corridor_is_free(layout, thing, thing.xy + offset * (1 - near / distance), ignore=(other.name,)):
                yield thing.name, other.name


def _push_next(task: Task, layout: Layout, start: Snapshot, now: Snapshot) -> float:
    beside = _beside_m(layout, task.target, task.argument)
    first = _flat(start.positions[task.target], start.positions[task.argument])
    left = _flat(now.positions[task.target], now.positions[task.argument])
    moved = _flat(now.positions[task.target], start.positions[task.target])
    stayed = _flat(now.positions[task.argument], start.positions[task.argument]) < moved
    low = now.max_height_m[task.target] < layout.thing(task.target).half_height + 0.02
    return _ratio(first - left, first - beside, solved=left < beside and moved > 0.03 and stayed and low)


def _press_two_options(layout: Layout) -> Iterator[tuple[str, str]]:
    for thing in layout.buttons:
        for other in layout.buttons:
            if other is not thing:
                yield thing.name, other.name


def _press_two(task: Task, layout: Layout, start: Snapshot, now: Snapshot) -> float:
    order = now.pressed_order
    if task.target not in order:
        return 0.5 * _press(task, layout, start, now)
    after = order[order.index(task.target) + 1 :]
    second = Task(family="press", target=task.argument)
    return 1.0 if task.argument in after else 0.5 + 0.49 * min(_press(second, layout, start, now), 0.99)


# carry ----------------------------------------------------------------------------------------------------------------


def _hand_to(name: str, start: Snapshot, now: Snapshot) -> float:
    first = math.dist(start.hand, start.positions[name])
    return min(max(1 - math.dist(now.hand, now.positions[name]) / first, 0.0), 1.0)


def _carried(name: str, goal: np.ndarray, start: Snapshot, now: Snapshot, *, solved: bool | np.bool_) -> float:
    """A third for bringing the hand to the object, the rest for bringing the object to the goal."""
    first, left = _flat(start.positions[name], goal), _flat(now.positions[name], goal)
    return _ratio(0.3 * _hand_to(name, start, now) + 0.7 * max(1 - left / first, 0.0), 1.0, solved=solved)


def _pick_options(layout: Layout) -> Iterator[tuple[str, str]]:
    for thing in layout.objects:
        yield thing.name, ""


def _pick(task: Task, layout: Layout, start: Snapshot, now: Snapshot) -> float:
    risen = float(now.positions[task.target][2] - start.positions[task.target][2])
    solved = risen >= LIFT_M and task.target in now.touching
    return _ratio(0.5 * _hand_to(task.target, start, now) + 0.5 * max(risen, 0) / LIFT_M, 1.0, solved=solved)


def _place_in_options(layout: Layout) -> Iterator[tuple[str, str]]:
    for thing in layout.objects:
        for other in layout.bins:
            yield thing.name, other.name


def _is_in_bin(name: str, bin_name: str, layout: Layout, now: Snapshot) -> bool:
    place, goal = now.positions[name], layout.thing(bin_name)
    inside = max(abs(place[0] - goal.x), abs(place[1] - goal.y)) < BIN_INNER_M
    return bool(inside and place[2] < 0.045 and _released(name, now))


def _place_in(task: Task, layout: Layout, start: Snapshot, now: Snapshot) -> float:
    solved = _is_in_bin(task.target, task.argument, layout, now)
    return _carried(task.target, layout.thing(task.argument).xy, start, now, solved=solved)


def _sort_two_options(layout: Layout) -> Iterator[tuple[str, str]]:
    for i, thing in enumerate(layout.objects):
        for other in layout.objects[i + 1 :]:
            for first, second in itertools.permutations(layout.bins, 2):
                yield f"{thing.name} and {other.name}", f"{first.name} and {second.name}"


def parts(task: Task) -> tuple[Task, ...]:
    """The two single tasks of which `sort_two` is made; any other task is its own part."""
    if task.family != "sort_two":
        return (task,)
    pairs = zip(task.target.split(" and "), task.argument.split(" and "), strict=True)
    return tuple(Task(family="place_in", target=name, argument=bin_name) for name, bin_name in pairs)


def _sort_two(task: Task, layout: Layout, start: Snapshot, now: Snapshot) -> float:
    done = [_place_in(part, layout, start, now) for part in parts(task)]
    return 1.0 if min(done) == 1.0 else min(sum(done) / 2, 0.99)


def beside_spots(layout: Layout, target: str, reference: np.ndarray, other: str) -> list[np.ndarray]:
    """Free places for ``target`` in front of and behind ``other``, where the open fingers find room."""
    gap = layout.thing(target).half_size + layout.thing(other).half_size + 0.012
    spots = []
    for sign in (-1.0, 1.0):
        spot = reference[:2] + np.array((0.0, sign * gap))
        clear = all(
            far_enough(float(spot[0]), float(spot[1]), layout.thing(target).shape, thing)
            for thing in layout.things
            if thing.name not in (target, other)
        )
        if clear and np.abs(spot).max() < 0.185:
            spots.append(spot)
    return spots


def _place_next_options(layout: Layout) -> Iterator[tuple[str, str]]:
    for thing in layout.objects:
        for other in layout.objects:
            if other is not thing and beside_spots(layout, thing.name, other.xy, other.name):
                yield thing.name, other.name


def _place_next(task: Task, layout: Layout, start: Snapshot, now: Snapshot) -> float:
    target = layout.thing(task.target)
    near = _flat(now.positions[task.target], now.positions[task.argument])
    lifted = now.max_height_m[task.target] > target.half_height + 0.025
    low = now.positions[task.target][2] < target.half_height + 0.012
    solved = near < _beside_m(layout, task.target, task.argument) and lifted and low and _released(task.target, now)
    return _carried(task.target, now.positions[task.argument], start, now, solved=solved)


def _stack_options(layout: Layout) -> Iterator[tuple[str, str]]:
    flat = [thing for thing in layout.objects if thing.shape != "ball"]
    for thing, other in itertools.permutations(flat, 2):
        yield thing.name, other.name


def _stack(task: Task, layout: Layout, start: Snapshot, now: Snapshot) -> float:
    place, base = now.positions[task.target], now.positions[task.argument]
    height = layout.thing(task.target).half_height + layout.thing(task.argument).half_height
    on_top = abs(place[2] - base[2] - height) < 0.008 and _flat(place, base) < 0.025
    return _carried(task.target, base, start, now, solved=bool(on_top and _released(task.target, now)))


# drawer and slider ----------------------------------------------------------------------------------------------------


def _open_options(layout: Layout) -> Iterator[tuple[str, str]]:
    if layout.drawer is not None and layout.drawer_open_m < DRAWER_CLOSED_M:
        yield "drawer", ""


def _open(task: Task, layout: Layout, start: Snapshot, now: Snapshot) -> float:
    done = 0.3 * _hand_to("drawer", start, now) + 0.7 * now.drawer_m / DRAWER_OPEN_M
    return _ratio(done, 1.0, solved=now.drawer_m >= DRAWER_OPEN_M)


def _close_options(layout: Layout) -> Iterator[tuple[str, str]]:
    if layout.drawer is not None and layout.drawer_open_m > DRAWER_OPEN_M:
        yield "drawer", ""


def _close(task: Task, layout: Layout, start: Snapshot, now: Snapshot) -> float:
    done = 0.3 * _hand_to("drawer", start, now) + 0.7 * (1 - now.drawer_m / DRAWER_TRAVEL_M)
    return _ratio(done, 1.0, solved=now.drawer_m <= DRAWER_CLOSED_M)


def _slide_options(layout: Layout) -> Iterator[tuple[str, str]]:
    if layout.slider is not None:
        yield "slider", "left"
        yield "slider", "right"


def _slide(task: Task, layout: Layout, start: Snapshot, now: Snapshot) -> float:
    sign = DIRECTIONS[task.argument][0]
    moved, needed = sign * (now.slider_m - start.slider_m), SLIDER_SIDE_M - sign * start.slider_m
    done = 0.3 * _hand_to("slider", start, now) + 0.7 * moved / needed
    return _ratio(done, 1.0, solved=sign * now.slider_m >= SLIDER_SIDE_M)


_OPEN_TABLE = ("buttons", "drawer", "slider")
FAMILIES: dict[str, Family] = {
    "reach": Family(kinds=_OPEN_TABLE, options=_reach_options, progress=_reach, step_limit=50),
    "push": Family(kinds=_OPEN_TABLE, options=_push_options, progress=_push, step_limit=70, moves_target=True),
    "press": Family(kinds=_OPEN_TABLE, options=_press_options, progress=_press, step_limit=50),
    "push_next": Family(
        kinds=_OPEN_TABLE, options=_push_next_options, progress=_push_next, step_limit=90, moves_target=True
    ),
    "press_two": Family(kinds=("buttons",), options=_press_two_options, progress=_press_two, step_limit=90),
    "pick": Family(
        kinds=(*_OPEN_TABLE, "bins"), options=_pick_options, progress=_pick, step_limit=70, moves_target=True
    ),
    "place_in": Family(
        kinds=("bins",), options=_place_in_options, progress=_place_in, step_limit=120, moves_target=True
    ),
    "place_next": Family(
        kinds=_OPEN_TABLE, options=_place_next_options, progress=_place_next, step_limit=120, moves_target=True
    ),
    "stack": Family(
        kinds=("buttons", "bins"), options=_stack_options, progress=_stack, step_limit=120, moves_target=True
    ),
    "open_drawer": Family(kinds=("drawer",), options=_open_options, progress=_open, step_limit=70),
    "close_drawer": Family(kinds=("drawer",), options=_close_options, progress=_close, step_limit=70),
    "slide": Family(kinds=("slider",), options=_slide_options, progress=_slide, step_limit=70),
    "sort_two": Family(
        kinds=("bins",), options=_sort_two_options, progress=_sort_two, step_limit=220, moves_target=True
    ),
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


def check_split(families: tuple[str, ...], split: str) -> None:
    """Refuse an unknown split, and a held-out split of verbs that have no held-out composition."""
    if split not in ("train", "held_out", "all"):
        raise InputError(
            where="tabletop split",
            expected="'train', 'held_out' or 'all'",
            got=repr(split),
            do=nearest(split, ("train", "held_out", "all")),
        )
    if split == "held_out" and not any(language.can_be_held_out(name) for name in families):
        raise InputError(
            where="tabletop split",
            expected="a family that is asked of coloured things",
            got=f"only {', '.join(families)}",
            do="Add a family such as 'reach', or use split='train'.",
        )


def in_split(task: Task, split: Split) -> bool:
    """Whether a task's (colour, shape, verb) composition belongs to a split."""
    return split == "all" or language.is_held_out(task.family, task.target) == (split == "held_out")


def valid_tasks(layout: Layout, families: tuple[str, ...], split: Split = "all") -> list[Task]:
    """Everything that can be asked of this scene, in a fixed order, with its plain wording."""
    tasks = []
    for name in families:
        for target, argument in FAMILIES[name].options(layout):
            task = Task(family=name, target=target, argument=argument)
            if in_split(task, split):
                tasks.append(replace(task, text=language.plain(name, target, argument)))
    return tasks


def progress(task: Task, layout: Layout, start: Snapshot, now: Snapshot) -> float:
    """How far a task has come, 0..1; exactly 1 when it is solved."""
    return float(FAMILIES[task.family].progress(task, layout, start, now))


def leftmost_task(layout: Layout, tasks: Iterable[Task]) -> Task:
    """The one task that the scene alone tells: about the leftmost target, of the last family that has it."""
    place = {thing.name: thing.x for thing in layout.things}
    order = list(FAMILIES)
    return min(tasks, key=lambda task: (place[task.target], -order.index(task.family), task.argument))


def solved_tasks(tasks: Iterable[Task], layout: Layout, start: Snapshot, now: Snapshot) -> Iterator[Task]:
    """Those of ``tasks`` that the physical state satisfies."""
    still = {name for name, xyz in now.positions.items() if abs(xyz - start.positions[name]).max() < 0.01}
    for task in tasks:
        if FAMILIES[task.family].moves_target and not still.isdisjoint(task.target.split(" and ")):
            continue
        if solved(task, layout, start, now):
            yield task


def solved(task: Task, layout: Layout, start: Snapshot, now: Snapshot) -> bool:
    """Whether the physical state satisfies the task."""
    return progress(task, layout, start, now) == 1.0
