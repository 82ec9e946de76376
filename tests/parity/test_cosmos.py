"""The Cosmos tower against diffusers, as recorded."""

from __future__ import annotations

import pytest
import torch

from crossroads.parity import cosmos_block
from crossroads.parity.compare import compare
from crossroads.recipes.names import exported, imported
from golden import golden_cases, load_golden

pytestmark = pytest.mark.golden


@pytest.mark.parametrize("name", golden_cases("cosmos_block"))
def test_every_recorded_output_of_the_cosmos_tower_is_reproduced(name: str) -> None:
    case = load_golden("cosmos_block", name)
    produced = cosmos_block.run(case)
    assert produced.outputs.keys() == case.outputs.keys()
    assert [row for row in compare(case, produced) if not row.ok] == []


@pytest.mark.parametrize("name", golden_cases("cosmos_block"))
def test_cosmos_names_cover_every_tensor_and_lead_back_to_it(name: str) -> None:
    case = load_golden("cosmos_block", name)
    names = cosmos_block.names_of(case)
    back = exported(names, imported(names, case.weights))
    assert back.keys() == case.weights.keys()
    for key, tensor in back.items():
        torch.testing.assert_close(tensor, case.weights[key], atol=0, rtol=0)
