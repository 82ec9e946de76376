"""LAPA's quantiser against its published class: every recorded output, from the published weights."""

from __future__ import annotations

import pytest
import torch

from crossroads.parity import lapa
from crossroads.parity.compare import compare
from crossroads.recipes.lapa_names import quantiser_names, unread
from crossroads.recipes.names import exported, imported
from golden import golden_cases, load_golden

pytestmark = pytest.mark.golden


@pytest.mark.parametrize("name", golden_cases("lapa"))
def test_every_recorded_output_of_lapa_is_reproduced_from_the_published_weights(name: str) -> None:
    case = load_golden("lapa", name)
    produced = lapa.run(case)
    assert produced.outputs.keys() == case.outputs.keys()
    assert [row for row in compare(case, produced) if not row.ok] == []


@pytest.mark.parametrize("name", golden_cases("lapa"))
def test_lapa_names_cover_every_published_tensor_and_lead_back_to_it(name: str) -> None:
    case = load_golden("lapa", name)
    spec = lapa.spec_of(case)
    names = quantiser_names(spec)
    back = exported(names, imported(names, case.weights))
    assert back.keys() | unread(spec) == case.weights.keys()
    for key, tensor in back.items():
        torch.testing.assert_close(tensor, case.weights[key], atol=0, rtol=0)
