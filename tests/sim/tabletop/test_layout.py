"""Scenes are random, crowded with shared colours and shapes, and always fit the table."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossroads.sim.tabletop.env import MIN_TASKS, draw_scene
from crossroads.sim.tabletop.layout import KINDS, OBJECT_REACH_M, sample_layout
from crossroads.sim.tabletop.tasks import ALL_FAMILIES, valid_tasks

seeds = st.integers(0, 10**6)


@given(seed=seeds, kind=st.sampled_from(KINDS))
def test_no_two_things_share_a_name_or_a_place(seed: int, kind: str) -> None:
    layout = sample_layout(np.random.default_rng(seed), kind)
    names = [thing.name for thing in layout.things]
    assert len(set(names)) == len(names)
    for one, other in itertools.combinations(layout.objects, 2):
        assert np.linalg.norm(one.xy - other.xy) > 0.09
    assert all(np.abs(thing.xy).max() <= OBJECT_REACH_M for thing in layout.objects)
    assert 3 <= len(layout.objects) <= 5


def test_colours_and_shapes_are_shared_so_that_both_words_matter() -> None:
    layouts = [sample_layout(np.random.default_rng(seed), "buttons") for seed in range(200)]
    shared_colour = np.mean([len({t.colour for t in layout.objects}) < len(layout.objects) for layout in layouts])
    shared_shape = np.mean([len({t.shape for t in layout.objects}) < len(layout.objects) for layout in layouts])
    assert shared_colour > 0.5
    assert shared_shape > 0.5


@given(seed=seeds, family=st.sampled_from(ALL_FAMILIES))
def test_every_scene_admits_at_least_eight_instructions(seed: int, family: str) -> None:
    layout, task = draw_scene(seed, (family,), "train")
    tasks = valid_tasks(layout, ALL_FAMILIES)
    assert len(tasks) >= MIN_TASKS == 8
    assert task.family == family
    assert task.key in {other.key for other in tasks}
    assert len({other.text for other in tasks}) == len(tasks), "two tasks with the same words cannot be told apart"


def test_neither_place_nor_order_of_objects_gives_the_target_away() -> None:
    ranks = []
    for seed in range(400):
        layout, task = draw_scene(seed, ("reach",), "train")
        ranks.append([thing.name for thing in layout.objects].index(task.target) / (len(layout.objects) - 1))
    assert np.mean(ranks) == pytest.approx(0.5, abs=0.07)
