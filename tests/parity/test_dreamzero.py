"""DreamZero against the published code, from the published weights."""

from __future__ import annotations

import pytest
import torch

from crossroads.parity import dreamzero
from crossroads.parity.compare import compare
from crossroads.recipes.names import dreamzero_names, exported, imported
from golden import golden_cases, load_golden

pytestmark = pytest.mark.golden


@pytest.mark.parametrize("name", golden_cases("dreamzero"))
def test_every_recorded_output_of_dreamzero_is_reproduced_from_the_published_weights(name: str) -> None:
    case = load_golden("dreamzero", name)
    produced = dreamzero.run(case)
    assert produced.outputs.keys() == case.outputs.keys()
    assert not produced.counts
    assert [row for row in compare(case, produced) if not row.ok] == []


@pytest.mark.parametrize("name", golden_cases("dreamzero"))
def test_dreamzero_names_cover_every_published_tensor_and_lead_back_to_it(name: str) -> None:
    case = load_golden("dreamzero", name)
    names = dreamzero_names(dreamzero.size_of(case))
    back = exported(names, imported(names, case.weights))
    assert back.keys() == case.weights.keys()
    for key, tensor in back.items():
        torch.testing.assert_close(tensor, case.weights[key], atol=0, rtol=0)
