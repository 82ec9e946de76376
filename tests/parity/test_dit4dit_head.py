"""The action head of DiT4DiT against the published code, from the published weights."""

from __future__ import annotations

import pytest
import torch

from crossroads.parity import dit4dit_head
from crossroads.parity.compare import compare
from crossroads.recipes.dit4dit_names import head_names
from crossroads.recipes.names import exported, imported
from golden import golden_cases, load_golden

pytestmark = pytest.mark.golden
every_case = pytest.mark.parametrize("name", golden_cases("dit4dit_head"))


@every_case
def test_every_recorded_output_of_the_head_is_reproduced_from_the_published_weights(name: str) -> None:
    case = load_golden("dit4dit_head", name)
    produced = dit4dit_head.run(case)
    assert produced.outputs.keys() == case.outputs.keys()
    assert [row for row in compare(case, produced) if not row.ok] == []


@every_case
def test_head_names_cover_every_published_tensor_and_lead_back_to_it(name: str) -> None:
    case = load_golden("dit4dit_head", name)
    names = head_names(dit4dit_head.size_of(case))
    back = exported(names, imported(names, case.weights))
    assert back.keys() == case.weights.keys()
    for key, tensor in back.items():
        torch.testing.assert_close(tensor, case.weights[key], atol=0, rtol=0)
