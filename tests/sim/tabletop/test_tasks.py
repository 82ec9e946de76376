"""Success is what the physics says: predicates are true after the deed, and false before it or after another deed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crossroads.errors import InputError
from crossroads.sim.tabletop.env import TabletopEnv, draw_scene
from crossroads.sim.tabletop.tasks import ALL_FAMILIES, Task, progress, solved
from crossroads.sim.tabletop.world import Snapshot, World


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_nothing_is_solved_at_the_start(world: World, family: str) -> None:
    for seed in range(5):
        layout, task = draw_scene(seed, (family,), "all")
        world.load(layout)
        start = world.snapshot()
        assert not solved(task, layout, start, start)
        assert 0 <= progress(task, layout, start, start) < 1


def _moved(now: Snapshot, name: str, to: np.ndarray, *, touching: frozenset[str] = frozenset()) -> Snapshot:
    return replace(now, positions={**now.positions, name: to}, touching=touching)


def test_a_push_counts_only_in_its_direction_on_its_object_and_along_the_table(world: World) -> None:
    layout, _ = draw_scene(3, ("push",), "all")
    world.load(layout)
    start = world.snapshot()
    name = layout.objects[0].name
    other = layout.objects[1].name
    left = Task(family="push", target=name, argument="left")
    place = start.positions[name]
    after = _moved(start, name, place + np.array((-0.06, 0.01, 0)))
    assert solved(left, layout, start, after)
    assert not solved(replace(left, argument="right"), layout, start, after)
    assert not solved(replace(left, target=other), layout, start, after)
    assert not solved(left, layout, start, _moved(start, name, place + np.array((-0.04, 0, 0))))
    assert not solved(left, layout, start, _moved(start, name, place + np.array((-0.06, 0.08, 0))))
    carried = replace(after, max_height_m={**after.max_height_m, name: 0.1})
    assert not solved(left, layout, start, carried), "lifting is not pushing"


def test_reaching_needs_a_hand_that_stays(world: World) -> None:
    layout, task = draw_scene(0, ("reach",), "all")
    world.load(layout)
    start = world.snapshot()
    top = start.positions[task.target] + np.array((0, 0, layout.thing(task.target).half_height))
    above = replace(start, hand=top + np.array((0.02, 0, 0.02)), hand_step_m=0.005)
    assert solved(task, layout, start, above)
    assert not solved(task, layout, start, replace(above, hand_step_m=0.02)), "passing over does not count"
    assert not solved(task, layout, start, replace(above, hand=top + np.array((0, 0, 0.05))))
    assert not solved(task, layout, start, replace(above, hand=top + np.array((0.045, 0, 0.02))))


def test_an_object_in_the_bin_counts_once_it_is_let_go(world: World) -> None:
    layout, task = draw_scene(0, ("place_in",), "all")
    world.load(layout)
    start = world.snapshot()
    spot = np.array((*layout.thing(task.argument).xy, 0.028))
    assert solved(task, layout, start, _moved(start, task.target, spot))
    assert not solved(task, layout, start, _moved(start, task.target, spot, touching=frozenset({task.target})))
    assert not solved(task, layout, start, _moved(start, task.target, spot + np.array((0.06, 0, 0))))
    assert not solved(task, layout, start, _moved(start, task.target, spot + np.array((0, 0, 0.05))))


def test_two_buttons_count_in_the_order_that_was_asked(world: World) -> None:
    layout, task = draw_scene(0, ("press_two",), "all")
    world.load(layout)
    start = world.snapshot()
    assert solved(task, layout, start, replace(start, pressed_order=(task.target, task.argument)))
    assert not solved(task, layout, start, replace(start, pressed_order=(task.argument, task.target)))
    assert not solved(task, layout, start, replace(start, pressed_order=(task.target,)))


def test_a_drawer_or_slider_counts_only_at_its_end(world: World) -> None:
    layout, task = draw_scene(0, ("slide",), "all")
    world.load(layout)
    start = world.snapshot()
    sign = -1 if task.argument == "left" else 1
    assert solved(task, layout, start, replace(start, slider_m=sign * 0.04))
    assert not solved(task, layout, start, replace(start, slider_m=-sign * 0.04))
    layout, task = draw_scene(0, ("open_drawer",), "all")
    world.load(layout)
    start = world.snapshot()
    assert solved(task, layout, start, replace(start, drawer_m=0.05))
    assert not solved(task, layout, start, replace(start, drawer_m=0.03))


def test_an_unknown_family_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="'push'"):
        TabletopEnv(families=("pusch",))
    with pytest.raises(InputError, match="at least one family"):
        TabletopEnv(families=())
