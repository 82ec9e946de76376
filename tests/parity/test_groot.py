"""The action head of GR00T N1 against the published code, from the published weights."""

from __future__ import annotations

import pytest
import torch

from crossroads.parity import groot
from crossroads.parity.compare import compare
from crossroads.recipes.groot_names import groot_names
from crossroads.recipes.names import exported, imported
from golden import golden_cases, load_golden

pytestmark = pytest.mark.golden
CASES = [(form, name) for form in groot.FORMS for name in golden_cases(form)]
every_case = pytest.mark.parametrize(("form", "name"), CASES)


@every_case
def test_every_recorded_output_of_the_head_is_reproduced_from_the_published_weights(form: str, name: str) -> None:
    case = load_golden(form, name)
    produced = groot.run(case)
    assert produced.outputs.keys() == case.outputs.keys()
    assert [row for row in compare(case, produced) if not row.ok] == []


@every_case
def test_head_names_cover_every_published_tensor_and_lead_back_to_it(form: str, name: str) -> None:
    case = load_golden(form, name)
    names = groot_names(groot.size_of(case), "")
    back = exported(names, imported(names, case.weights))
    assert back.keys() == case.weights.keys()
    for key, tensor in back.items():
        torch.testing.assert_close(tensor, case.weights[key], atol=0, rtol=0)
