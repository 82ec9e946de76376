"""GR-1 against its published class, from its weights."""

from __future__ import annotations

import re

import pytest
import torch

from crossroads.codecs.foreseen import square_places
from crossroads.parity import gr1
from crossroads.parity.compare import compare
from crossroads.recipes.foresight_names import GR1_UNUSED, gr1_names
from crossroads.recipes.names import exported, imported
from golden import golden_cases, load_golden

pytestmark = pytest.mark.golden
every_case = pytest.mark.parametrize("name", golden_cases("gr1"))


@every_case
def test_every_recorded_output_is_reproduced_from_the_published_weights(name: str) -> None:
    case = load_golden("gr1", name)
    produced = gr1.run(case)
    assert produced.outputs.keys() >= case.outputs.keys()
    assert [row for row in compare(case, produced) if not row.ok] == []


@every_case
def test_names_cover_every_published_tensor_that_is_used_and_lead_back_to_it(name: str) -> None:
    case = load_golden("gr1", name)
    names = gr1_names(gr1.size_of(case))
    back = exported(names, imported(names, case.weights))
    unused = (*GR1_UNUSED, "decoder_pos_embed")
    assert back.keys() == {key for key in case.weights if not any(re.fullmatch(part, key) for part in unused)}
    for key, tensor in back.items():
        torch.testing.assert_close(tensor, case.weights[key], atol=0, rtol=0)


@every_case
def test_fixed_places_of_the_decoder_are_the_published_ones(name: str) -> None:
    places = load_golden("gr1", name).weights["decoder_pos_embed"][0]
    torch.testing.assert_close(square_places(*places.shape), places, atol=1e-6, rtol=0)
