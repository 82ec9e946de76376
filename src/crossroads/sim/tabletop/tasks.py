"""What can be asked of a scene and when it is done: families of tasks, judged by the physical state alone.

`valid_tasks` lists everything a hand could be told to do in a layout; every scene admits at least eight, so that only
the words say which one is meant. `solved` is the predicate, `progress` a dense 0..1 version of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Literal

from crossroads.errors import InputError, nearest
from crossroads.sim.tabletop import language, verbs
from crossroads.sim.tabletop.layout import Layout
from crossroads.sim.tabletop.verbs import Family, Task
from crossroads.sim.tabletop.world import Snapshot

Split = Literal["train", "held_out", "all"]
Pairing = Literal["any", "leftmost"]
"""Which of a scene's instructions is the usual one: any of them, or always the one about the leftmost thing (a scene
that gives its instruction away, as in sets with one instruction per scene)."""

_OPEN_TABLE = ("buttons", "drawer", "slider")
FAMILIES: dict[str, Family] = {
    "reach": Family(kinds=_OPEN_TABLE, options=verbs.reach_options, progress=verbs.reach, step_limit=50),
    "push": Family(
        kinds=_OPEN_TABLE, options=verbs.push_options, progress=verbs.push, step_limit=70, moves_target=True
    ),
    "press": Family(kinds=_OPEN_TABLE, options=verbs.press_options, progress=verbs.press, step_limit=50),
    "push_next": Family(
        kinds=_OPEN_TABLE, options=verbs.push_next_options, progress=verbs.push_next, step_limit=90, moves_target=True
    ),
    "press_two": Family(kinds=("buttons",), options=verbs.press_two_options, progress=verbs.press_two, step_limit=90),
    "pick": Family(
        kinds=(*_OPEN_TABLE, "bins"), options=verbs.pick_options, progress=verbs.pick, step_limit=70, moves_target=True
    ),
    "place_in": Family(
        kinds=("bins",), options=verbs.place_in_options, progress=verbs.place_in, step_limit=120, moves_target=True
    ),
    "place_next": Family(
        kinds=_OPEN_TABLE,
        options=verbs.place_next_options,
        progress=verbs.place_next,
        step_limit=120,
        moves_target=True,
    ),
    "stack": Family(
        kinds=("buttons", "bins"), options=verbs.stack_options, progress=verbs.stack, step_limit=120, moves_target=True
    ),
    "open_drawer": Family(
        kinds=("drawer",), options=verbs.open_drawer_options, progress=verbs.open_drawer, step_limit=70
    ),
    "close_drawer": Family(
        kinds=("drawer",), options=verbs.close_drawer_options, progress=verbs.close_drawer, step_limit=70
    ),
    "slide": Family(kinds=("slider",), options=verbs.slide_options, progress=verbs.slide, step_limit=70),
    "sort_two": Family(
        kinds=("bins",), options=verbs.sort_two_options, progress=verbs.sort_two, step_limit=220, moves_target=True
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
