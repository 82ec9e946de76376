"""The Wan tower on its own against diffusers' ``WanTransformer3DModel``: one level per sample, one level per token."""

from __future__ import annotations

import pytest
import torch

from crossroads.parity import wan_block
from crossroads.parity.compare import compare
from crossroads.parity.wan_block import modes_of, names_of
from crossroads.recipes.names import exported, imported
from golden import golden_cases, load_golden

pytestmark = pytest.mark.golden


@pytest.mark.parametrize("name", golden_cases("wan_block"))
def test_every_recorded_output_of_the_wan_tower_is_reproduced(name: str) -> None:
    case = load_golden("wan_block", name)
    produced = wan_block.run(case)
    assert produced.outputs.keys() == case.outputs.keys()
    assert not produced.counts
    assert [row for row in compare(case, produced) if not row.ok] == []


@pytest.mark.parametrize("name", golden_cases("wan_block"))
def test_diffusers_names_cover_every_tensor_of_a_mode_and_lead_back_to_it(name: str) -> None:
    case = load_golden("wan_block", name)
    for mode in modes_of(case):
        names = names_of(case, mode)
        back = exported(names, imported(names, case.weights))
        assert back.keys() == {name for name in case.weights if name.startswith(f"{mode}.")}
        for tensor_name, tensor in back.items():
            torch.testing.assert_close(tensor, case.weights[tensor_name], atol=0, rtol=0)
