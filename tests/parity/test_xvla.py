"""X-VLA against LeRobot's port of it, from its weights."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

from crossroads.errors import InputError
from crossroads.parity import xvla
from crossroads.parity.case import Named
from crossroads.parity.compare import compare
from crossroads.recipes.names import exported, imported
from crossroads.recipes.xvla_names import UNUSED, xvla_names
from golden import golden_cases, load_golden

every_case = pytest.mark.parametrize("name", golden_cases("xvla"))


@pytest.mark.golden
@every_case
def test_every_recorded_output_is_reproduced_from_the_published_weights(name: str) -> None:
    case = load_golden("xvla", name)
    produced = xvla.run(case)
    assert case.outputs.keys() <= produced.outputs.keys()
    assert [row for row in compare(case, produced) if not row.ok] == []


@pytest.mark.golden
@every_case
def test_names_cover_every_published_tensor_and_lead_back_to_it(name: str) -> None:
    case = load_golden("xvla", name)
    names = xvla_names(xvla.size_of(case))
    back = exported(names, imported(names, case.weights))
    assert back.keys() == {key for key in case.weights if not any(re.fullmatch(one, key) for one in UNUSED)}
    for key, tensor in back.items():
        torch.testing.assert_close(tensor, case.weights[key], atol=0, rtol=0)


@pytest.mark.golden
def test_an_action_space_that_is_not_known_suggests_the_nearest() -> None:
    case = load_golden("xvla")
    meta = Named({**case.meta, "constructor": {**dict(case.meta["constructor"]), "action_mode": "ee6"}}, "meta.json")
    with pytest.raises(InputError, match=r"action_mode.*Did you mean 'ee6d'"):
        xvla.size_of(replace(case, meta=meta))
