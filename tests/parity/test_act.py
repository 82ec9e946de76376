"""ACT against the published code, from the published weights."""

from __future__ import annotations

import pytest
import torch

from crossroads.parity import act
from crossroads.parity.compare import compare
from crossroads.recipes.act_names import act_names
from crossroads.recipes.names import exported, imported
from golden import golden_cases, load_golden

pytestmark = pytest.mark.golden
every_case = pytest.mark.parametrize("name", golden_cases("act"))


@every_case
def test_every_recorded_output_is_reproduced_from_the_published_weights(name: str) -> None:
    case = load_golden("act", name)
    produced = act.run(case)
    assert produced.outputs.keys() == case.outputs.keys()
    assert [row for row in compare(case, produced) if not row.ok] == []


@every_case
def test_names_cover_every_published_tensor_that_is_used_and_lead_back_to_it(name: str) -> None:
    case = load_golden("act", name)
    names = act_names(act.size_of(case))
    back = exported(names, imported(names, case.weights))
    assert case.weights.keys() - back.keys() == {"pos_table", "is_pad_head.weight", "is_pad_head.bias"}
    for key, tensor in back.items():
        torch.testing.assert_close(tensor, case.weights[key], atol=0, rtol=0)
