"""UWM against the published code, from the published weights."""

from __future__ import annotations

import pytest
import torch

from crossroads.parity import uwm
from crossroads.parity.compare import compare
from crossroads.recipes.names import exported, imported
from crossroads.recipes.uwm_names import uwm_names
from golden import golden_cases, load_golden

pytestmark = pytest.mark.golden
every_case = pytest.mark.parametrize("name", golden_cases("uwm"))


@every_case
def test_every_recorded_output_of_uwm_is_reproduced_from_the_published_weights(name: str) -> None:
    case = load_golden("uwm", name)
    produced = uwm.run(case)
    assert produced.outputs.keys() == case.outputs.keys()
    assert [row for row in compare(case, produced) if not row.ok] == []


@every_case
def test_uwm_names_cover_every_published_tensor_and_lead_back_to_it(name: str) -> None:
    case = load_golden("uwm", name)
    names = uwm_names(uwm.size_of(case))
    back = exported(names, imported(names, case.weights))
    assert back.keys() == case.weights.keys()
    for key, tensor in back.items():
        torch.testing.assert_close(tensor, case.weights[key], atol=0, rtol=0)
