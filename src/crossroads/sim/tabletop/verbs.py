"""Verbs: what each can be asked of in a layout, and how far it is done, judged by the physical state alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from crossroads.sim.tabletop.layout import Layout, Thing, far_enough
from crossroads.sim.tabletop.scene import BIN_INNER_M, DRAWER_TRAVEL_M
from crossroads.sim.tabletop.world import PRESS_M, Snapshot

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


def reach_options(layout: Layout) -> Iterator[tuple[str, str]]:
    for thing in layout.objects:
        yield thing.name, ""


def reach(task: Task, layout: Layout, start: Snapshot, now: Snapshot) -> float:
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


def push_options(layout: Layout) -> Iterator[tuple[str, str]]:
    for thing in layout.objects:
        for name, direction in DIRECTIONS.items():
            if corridor_is_free(layout, thing, thing.xy + 0.065 * direction):
                yield thing.name, name


def push(task: Task, layout: Layout, start: Snapshot, now: Snapshot) -> float:
    moved = (now.positions[task.target] - start.positions[task.target])[:2]
    direction = DIRECTIONS[task.argument]
    along = float(moved @ direction)
    across = math.dist(moved, along * direction)
    low = now.max_height_m[task.target] < layout.thing(task.target).half_height + 0.02
    return _ratio(along, PUSH_M, solved=along >= PUSH_M and across <= along and low)


# press ----------------------------------------------------------------------------------------------------------------


def press_options(layout: Layout) -> Iterator[tuple[str, str]]:
    for thing in layout.buttons:
        yield thing.name, ""


def press(task: Task, layout: Layout, start: Snapshot, now: Snapshot) -> float:
    aim = layout.thing(task.target)
    first = float(np.hypot(*(start.hand[:2] - aim.xy))) + start.hand[2]
    left = float(np.hypot(*(now.hand[:2] - aim.xy))) + now.hand[2]
    solved = now.pressed_m[task.target] > PRESS_M and task.target in now.touching
    return _ratio(first - left, first, solved=solved)


# fingers on something else --------------------------------------------------------------------------------------------


def _beside_m(layout: Layout, one: str, other: str) -> float:
    """Centres closer than this are next to each other."""
    return layout.thing(one).half_size + layout.thing(other).half_size + 0.028


def push_next_options(layout: Layout) -> Iterator[tuple[str, str]]:
    for thing in layout.objects:
        for other in layout.objects:
            offset = other.xy - thing.xy
            distance = math.hypot(*offset)
            near = thing.half_size + other.half_size
            if other is thing or not near + 0.06 < distance < 0.24:
                continue
            if corridor_is_free(layout, thing, thing.xy + offset * (1 - near / distance), ignore=(other.name,)):
                yield thing.name, other.name


def push_next(task: Task, layout: Layout, start: Snapshot, now: Snapshot) -> float:
    beside = _beside_m(layout, task.target, task.argument)
    first = _flat(start.positions[task.target], start.positions[task.argument])
    left = _flat(now.positions[task.target], now.positions[task.argument])
    moved = _flat(now.positions[task.target], start.positions[task.target])
    stayed = _flat(now.positions[task.argument], start.positions[task.argument]) < moved
    low = now.max_height_m[task.target] < layout.thing(task.target).half_height + 0.02
    return _ratio(first - left, first - beside, solved=left < beside and moved > 0.03 and stayed and low)


def press_two_options(layout: Layout) -> Iterator[tuple[str, str]]:
    for thing in layout.buttons:
        for other in layout.buttons:
            if other is not thing:
                yield thing.name, other.name


def press_two(task: Task, layout: Layout, start: Snapshot, now: Snapshot) -> float:
    order = now.pressed_order
    if task.target not in order:
        return 0.5 * press(task, layout, start, now)
    after = order[order.index(task.target) + 1 :]
    second = Task(family="press", target=task.argument)
    return 1.0 if task.argument in after else 0.5 + 0.49 * min(press(second, layout, start, now), 0.99)


# carry ----------------------------------------------------------------------------------------------------------------


def _hand_to(name: str, start: Snapshot, now: Snapshot) -> float:
    first = math.dist(start.hand, start.positions[name])
    return min(max(1 - math.dist(now.hand, now.positions[name]) / first, 0.0), 1.0)


def _carried(name: str, goal: np.ndarray, start: Snapshot, now: Snapshot, *, solved: bool | np.bool_) -> float:
    """A third for bringing the hand to the object, the rest for bringing the object to the goal."""
    first, left = _flat(start.positions[name], goal), _flat(now.positions[name], goal)
    return _ratio(0.3 * _hand_to(name, start, now) + 0.7 * max(1 - left / first, 0.0), 1.0, solved=solved)


def pick_options(layout: Layout) -> Iterator[tuple[str, str]]:
    for thing in layout.objects:
        yield thing.name, ""


def pick(task: Task, layout: Layout, start: Snapshot, now: Snapshot) -> float:
    risen = float(now.positions[task.target][2] - start.positions[task.target][2])
    solved = risen >= LIFT_M and task.target in now.touching
    return _ratio(0.5 * _hand_to(task.target, start, now) + 0.5 * max(risen, 0) / LIFT_M, 1.0, solved=solved)


def place_in_options(layout: Layout) -> Iterator[tuple[str, str]]:
    for thing in layout.objects:
        for other in layout.bins:
            yield thing.name, other.name


def _is_in_bin(name: str, bin_name: str, layout: Layout, now: Snapshot) -> bool:
    place, goal = now.positions[name], layout.thing(bin_name)
    inside = max(abs(place[0] - goal.x), abs(place[1] - goal.y)) < BIN_INNER_M
    return bool(inside and place[2] < 0.045 and _released(name, now))


def place_in(task: Task, layout: Layout, start: Snapshot, now: Snapshot) -> float:
    solved = _is_in_bin(task.target, task.argument, layout, now)
    return _carried(task.target, layout.thing(task.argument).xy, start, now, solved=solved)


def sort_two_options(layout: Layout) -> Iterator[tuple[str, str]]:
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


def sort_two(task: Task, layout: Layout, start: Snapshot, now: Snapshot) -> float:
    done = [place_in(part, layout, start, now) for part in parts(task)]
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


def place_next_options(layout: Layout) -> Iterator[tuple[str, str]]:
    for thing in layout.objects:
        for other in layout.objects:
            if other is not thing and beside_spots(layout, thing.name, other.xy, other.name):
                yield thing.name, other.name


def place_next(task: Task, layout: Layout, start: Snapshot, now: Snapshot) -> float:
    target = layout.thing(task.target)
    near = _flat(now.positions[task.target], now.positions[task.argument])
    lifted = now.max_height_m[task.target] > target.half_height + 0.025
    low = now.positions[task.target][2] < target.half_height + 0.012
    solved = near < _beside_m(layout, task.target, task.argument) and lifted and low and _released(task.target, now)
    return _carried(task.target, now.positions[task.argument], start, now, solved=solved)


def stack_options(layout: Layout) -> Iterator[tuple[str, str]]:
    flat = [thing for thing in layout.objects if thing.shape != "ball"]
    for thing, other in itertools.permutations(flat, 2):
        yield thing.name, other.name


def stack(task: Task, layout: Layout, start: Snapshot, now: Snapshot) -> float:
    place, base = now.positions[task.target], now.positions[task.argument]
    height = layout.thing(task.target).half_height + layout.thing(task.argument).half_height
    on_top = abs(place[2] - base[2] - height) < 0.008 and _flat(place, base) < 0.025
    return _carried(task.target, base, start, now, solved=bool(on_top and _released(task.target, now)))


# drawer and slider ----------------------------------------------------------------------------------------------------


def open_drawer_options(layout: Layout) -> Iterator[tuple[str, str]]:
    if layout.drawer is not None and layout.drawer_open_m < DRAWER_CLOSED_M:
        yield "drawer", ""


def open_drawer(task: Task, layout: Layout, start: Snapshot, now: Snapshot) -> float:
    done = 0.3 * _hand_to("drawer", start, now) + 0.7 * now.drawer_m / DRAWER_OPEN_M
    return _ratio(done, 1.0, solved=now.drawer_m >= DRAWER_OPEN_M)


def close_drawer_options(layout: Layout) -> Iterator[tuple[str, str]]:
    if layout.drawer is not None and layout.drawer_open_m > DRAWER_OPEN_M:
        yield "drawer", ""


def close_drawer(task: Task, layout: Layout, start: Snapshot, now: Snapshot) -> float:
    done = 0.3 * _hand_to("drawer", start, now) + 0.7 * (1 - now.drawer_m / DRAWER_TRAVEL_M)
    return _ratio(done, 1.0, solved=now.drawer_m <= DRAWER_CLOSED_M)


def slide_options(layout: Layout) -> Iterator[tuple[str, str]]:
    if layout.slider is not None:
        yield "slider", "left"
        yield "slider", "right"


def slide(task: Task, layout: Layout, start: Snapshot, now: Snapshot) -> float:
    sign = DIRECTIONS[task.argument][0]
    moved, needed = sign * (now.slider_m - start.slider_m), SLIDER_SIDE_M - sign * start.slider_m
    done = 0.3 * _hand_to("slider", start, now) + 0.7 * moved / needed
    return _ratio(done, 1.0, solved=sign * now.slider_m >= SLIDER_SIDE_M)
