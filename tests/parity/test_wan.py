"""The Wan tower on its own against diffusers' ``WanTransformer3DModel``: one level per sample, one level per token."""

from __future__ import annotations

import pytest
import torch

from crossroads.parity import wan_block
from crossroads.parity.compare import compare
from crossroads.parity.wan_block import MODES, names_of
from crossroads.recipes.names import exported, imported
from golden import golden_cases, load_golden

pytestmark = pytest.mark.golden


@pytest.mark.parametrize("name", golden_cases("wan_block"))
def test_every_recorded_output_of_the_modes_that_the_wan_tower_carries_is_reproduced(name: str) -> None:
    case = load_golden("wan_block", name)
    produced = wan_block.run(case)
    assert produced.outputs.keys() == {name for name in case.outputs if name.startswith(tuple(f"{m}." for m in MODES))}
    assert not produced.counts
    rows = compare(case, produced)
    assert [row for row in rows if not row.ok and not row.name.startswith("i2v.")] == []
    assert {row.verdict for row in rows if row.name.startswith("i2v.")} <= {"not produced"}


@pytest.mark.parametrize("name", golden_cases("wan_block"))
@pytest.mark.parametrize("mode", MODES)
def test_diffusers_names_cover_every_tensor_of_the_mode_and_lead_back_to_it(name: str, mode: str) -> None:
    case = load_golden("wan_block", name)
    names = names_of(case, mode)
    back = exported(names, imported(names, case.weights))
    assert back.keys() == {name for name in case.weights if name.startswith(f"{mode}.")}
    for name, tensor in back.items():
        torch.testing.assert_close(tensor, case.weights[name], atol=0, rtol=0)
