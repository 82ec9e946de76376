"""VLA Foundry's head against its own code, from its weights."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

from crossroads.errors import InputError
from crossroads.parity import vla_foundry
from crossroads.parity.case import Named
from crossroads.parity.compare import compare
from crossroads.recipes.names import exported, imported
from crossroads.recipes.vla_foundry_names import UNUSED, head_names
from golden import golden_cases, load_golden

every_case = pytest.mark.parametrize("name", golden_cases("vla_foundry"))


@pytest.mark.golden
@every_case
def test_every_recorded_output_is_reproduced_from_the_published_weights(name: str) -> None:
    case = load_golden("vla_foundry", name)
    produced = vla_foundry.run(case)
    assert case.outputs.keys() <= produced.outputs.keys()
    assert [row for row in compare(case, produced) if not row.ok] == []


@pytest.mark.golden
@every_case
def test_names_cover_every_published_tensor_and_lead_back_to_it(name: str) -> None:
    case = load_golden("vla_foundry", name)
    names = head_names(vla_foundry.size_of(case))
    back = exported(names, imported(names, case.weights))
    assert back.keys() == {key for key in case.weights if not any(re.fullmatch(one, key) for one in UNUSED)}
    for key, tensor in back.items():
        torch.testing.assert_close(tensor, case.weights[key], atol=0, rtol=0)


@pytest.mark.golden
def test_a_setting_that_there_is_no_form_of_is_refused() -> None:
    case = load_golden("vla_foundry")
    made = dict(case.meta["constructor"])
    other = {"transformer": {**made["transformer"], "norm_type": "batch_norm"}}
    for change in ({"diffusion_step_conditioning": "film"}, other):
        meta = Named({**case.meta, "constructor": {**made, **change}}, "meta.json")
        with pytest.raises(InputError, match=r"meta\.json\.constructor"):
            vla_foundry.size_of(replace(case, meta=meta))
