"""A fingerprint tells plans apart by what they mean, and only by that; every recipe fits a robot and its recording."""

from __future__ import annotations

from dataclasses import dataclass, field, make_dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recordings import episodes, write

from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.window import Windows
from crossroads.errors import InputError
from crossroads.pilot.plan import PROFILES, fingerprint, fit
from crossroads.recipes.catalogue import RECIPES, recipe


@dataclass(frozen=True, kw_only=True)
class Part:
    size: int
    steps: int = 5
    names: tuple[str, ...] = ()
    inner: object = None
    note: str = field(default="", compare=False)


@given(st.integers(), st.integers(), st.lists(st.text()))
def test_values_that_differ_have_fingerprints_that_differ(size: int, steps: int, names: list[str]) -> None:
    part = Part(size=size, steps=steps, names=tuple(names))
    changed = (replace(part, size=size + 1), replace(part, steps=steps + 1), replace(part, names=(*part.names, "a")))
    assert len({fingerprint(one) for one in (part, *changed)}) == 4
    assert fingerprint(replace(part, inner=part)) != fingerprint(replace(part, inner=changed[1]))


def test_a_field_that_came_later_leaves_the_fingerprints_of_what_was_before_alone() -> None:
    older = make_dataclass("Part", [("size", int)], frozen=True, kw_only=True)
    assert fingerprint(older(size=3)) == fingerprint(Part(size=3)) != fingerprint(Part(size=3, steps=6))


def test_what_is_only_said_does_not_count_and_a_class_of_equal_fields_does() -> None:
    assert fingerprint(Part(size=3, note="a")) == fingerprint(Part(size=3))
    other = make_dataclass("Other", [("size", int)], frozen=True, kw_only=True)
    assert fingerprint(other(size=3)) != fingerprint(Part(size=3))


def test_every_change_of_a_recipes_meaning_is_another_fingerprint_and_its_notes_are_none() -> None:
    one = recipe("fast_wam")
    assert fingerprint(replace(one, departs=("in words",))) == fingerprint(one)
    assert replace(one, departs=("in words",)) == one
    assert len({fingerprint(recipe(name)) for name in ("fast_wam", "fast_wam_joint", "fast_wam_idm", "pi0")}) == 4
    assert fingerprint(one.vary({"stage.schedule.0.solver.steps": 3})) != fingerprint(one)
    assert fingerprint(PROFILES["smoke"]) != fingerprint(PROFILES["laptop"])


def test_a_recording_fills_the_window_of_every_recipe_that_was_sized_for_its_robot(tmp_path: Path) -> None:
    dataset = LeRobotDataset.open(write(tmp_path / "toy", episodes(1)))
    acting = [name for name in RECIPES if any(s.carries == "action" for s in recipe(name).stage.streams)]
    assert {"lingbot_va", "dreamzero", "pi0"} <= set(acting)
    for name in acting:
        window = fit(recipe(name), dataset.space, dataset.cameras).window
        if window.num_marks:  # the recording does not say where its cameras are
            with pytest.raises(InputError, match="where cameras and robot are"):
                Windows(dataset, window, episodes=(0,), cache=None).batch([0])
            continue
        windows = Windows(dataset, window, episodes=(0,), cache=None)
        batch = windows.batch([0])
        assert batch.actions.shape[1:] == (windows.window.num_actions, dataset.space.action_size), name
