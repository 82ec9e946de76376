"""OpenVLA-OFT against its published classes, from their weights."""

from __future__ import annotations

import re

import pytest
import torch

from crossroads.parity import openvla_oft
from crossroads.parity.compare import compare
from crossroads.recipes.names import exported, imported
from crossroads.recipes.openvla_oft_names import openvla_oft_names, unused
from golden import golden_cases, load_golden

pytestmark = pytest.mark.golden
every_case = pytest.mark.parametrize("name", golden_cases("openvla_oft"))


@every_case
def test_every_recorded_output_is_reproduced_from_the_published_weights(name: str) -> None:
    case = load_golden("openvla_oft", name)
    produced = openvla_oft.run(case)
    assert produced.outputs.keys() == case.outputs.keys()
    assert [row for row in compare(case, produced) if not row.ok] == []


@every_case
def test_names_cover_every_published_tensor_that_is_used_and_lead_back_to_it(name: str) -> None:
    case = load_golden("openvla_oft", name)
    size, made = openvla_oft.size_of(case), case.meta["constructor"]
    names = openvla_oft_names(size, vla="vla.", blank=made["empty_token_id"], stop=made["stop_token_id"])
    back = exported(names, imported(names, case.weights))
    patterns = unused(size, "vla.")
    assert back.keys() == {key for key in case.weights if not any(re.fullmatch(part, key) for part in patterns)}
    for key, tensor in back.items():
        torch.testing.assert_close(tensor, case.weights[key], atol=0, rtol=0)
