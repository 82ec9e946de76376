"""Every sentence is made of known words, and held-out compositions hold out each verb, colour and shape fairly."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from crossroads.errors import InputError
from crossroads.sim.tabletop import language
from crossroads.sim.tabletop.env import TabletopEnv, draw_scene
from crossroads.sim.tabletop.scene import COLOURS, SHAPES
from crossroads.sim.tabletop.tasks import ALL_FAMILIES, FAMILIES, check_split, valid_tasks


def test_every_family_has_wordings_and_every_wording_a_family() -> None:
    assert set(language.WORDINGS) == set(FAMILIES)
    assert all(len(set(wordings)) >= 4 for wordings in language.WORDINGS.values())


def test_every_word_of_every_sentence_is_in_the_vocabulary() -> None:
    known = set(language.vocabulary())
    rng = np.random.default_rng(0)
    for seed, family in itertools.product(range(3), ALL_FAMILIES):
        layout, _ = draw_scene(seed, (family,), "all")
        for task in valid_tasks(layout, (family,)):
            for text in (
                task.text,
                language.paraphrase(*task.key, rng),
                language.paraphrase(*task.key, rng, unseen=True),
            ):
                assert set(re.findall(r"[a-z]+", text)) <= known, text
                assert "{" not in text
                assert "  " not in text


def test_held_out_compositions_hide_no_single_word() -> None:
    for family in ("reach", "push", "pick", "stack"):
        held = {(c, s) for c, s in itertools.product(COLOURS, SHAPES) if language.is_held_out(family, f"{c} {s}")}
        assert 0 < len(held) <= 4
        assert {s for _, s in held} == set(SHAPES)
        for colour in COLOURS:
            assert any((colour, shape) not in held for shape in SHAPES), "this colour would never be trained"


def test_the_training_split_never_names_what_is_held_out_and_the_other_split_nothing_else() -> None:
    for seed in range(40):
        _, task = draw_scene(seed, ("reach", "push", "press"), "train")
        assert not language.is_held_out(task.family, task.target)
        _, task = draw_scene(seed, ("reach", "push", "press"), "held_out")
        assert language.is_held_out(task.family, task.target)


def test_a_split_that_would_be_empty_is_refused() -> None:
    with pytest.raises(InputError, match="coloured things"):
        TabletopEnv(families=("open_drawer", "slide"), split="held_out")
    with pytest.raises(InputError, match="'held_out'"):
        check_split(("reach",), "heldout")


def test_the_unseen_wording_is_never_drawn_for_training() -> None:
    unseen = language.WORDINGS["reach"][-1].split(" {")[0]
    rng = np.random.default_rng(0)
    drawn = {language.paraphrase("reach", "red cube", "", rng) for _ in range(200)}
    assert len(drawn) > 4
    assert not any(text.startswith(unseen) for text in drawn)
