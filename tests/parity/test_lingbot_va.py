"""LingBot-VA against the published code, from the published weights."""

from __future__ import annotations

import re

import pytest
import torch

from crossroads.parity import lingbot_va
from crossroads.parity.compare import compare
from crossroads.recipes.lingbot_va_names import UNUSED, lingbot_va_names
from crossroads.recipes.names import exported, imported
from golden import golden_cases, load_golden

pytestmark = pytest.mark.golden


@pytest.mark.parametrize("name", golden_cases("lingbot_va"))
def test_every_recorded_output_of_lingbot_va_is_reproduced_from_the_published_weights(name: str) -> None:
    case = load_golden("lingbot_va", name)
    produced = lingbot_va.run(case)
    assert produced.outputs.keys() == case.outputs.keys()
    assert not produced.counts
    assert [row for row in compare(case, produced) if not row.ok] == []


@pytest.mark.parametrize("name", golden_cases("lingbot_va"))
def test_lingbot_va_names_cover_every_published_tensor_that_is_read_and_lead_back_to_it(name: str) -> None:
    case = load_golden("lingbot_va", name)
    names = lingbot_va_names(lingbot_va.size_of(case))
    back = exported(names, imported(names, case.weights))
    assert back.keys() == {key for key in case.weights if not re.fullmatch(UNUSED, key)}
    for key, tensor in back.items():
        torch.testing.assert_close(tensor, case.weights[key], atol=0, rtol=0)


def test_the_server_table_gives_the_oldest_slots_away_and_does_not_take_them_back() -> None:
    """Seven slots: a chunk of 4 and one of 2 are kept; the next 3 take the one free slot and two of the oldest."""
    slots = lingbot_va.Slots.empty(7)
    slots.write("video.clean", 0, 4, imagined=False)
    slots.write("action.clean", 0, 2, imagined=False)
    taken = slots.write("video", 4, 3, imagined=False)
    assert taken.tolist() == [0, 1, 6]
    slots.valid[taken] = False  # the noised chunk frees its own
    assert slots.there("video.clean", 4).tolist() == [[False, False, True, True]]
    assert slots.there("action.clean", 2).all()
    assert slots.number[slots.valid].tolist() == [0, 0, 1, 1]
