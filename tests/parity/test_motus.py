"""Motus against its published functions, from the published weights and recorded noise."""

from __future__ import annotations

import pytest
import torch

from crossroads.parity import motus
from crossroads.parity.compare import compare
from crossroads.recipes.motus_names import motus_names
from crossroads.recipes.names import exported, imported
from golden import golden_cases, load_golden

pytestmark = pytest.mark.golden
every_case = pytest.mark.parametrize("name", golden_cases("motus"))


@every_case
def test_every_recorded_output_of_motus_is_reproduced_from_the_published_weights(name: str) -> None:
    case = load_golden("motus", name)
    produced = motus.run(case)
    assert produced.outputs.keys() == case.outputs.keys()
    assert [row for row in compare(case, produced) if not row.ok] == []


@every_case
def test_motus_names_cover_every_published_tensor_and_lead_back_to_it(name: str) -> None:
    case = load_golden("motus", name)
    names = motus_names(motus.size_of(case), video="wan_model.")
    back = exported(names, imported(names, case.weights))
    assert back.keys() == case.weights.keys() - motus.COMPUTED
    for key, tensor in back.items():
        torch.testing.assert_close(tensor, case.weights[key], atol=0, rtol=0)
