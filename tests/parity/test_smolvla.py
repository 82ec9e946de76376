"""SmolVLA against LeRobot's code, from its weights."""

from __future__ import annotations

import pytest
import torch

from crossroads.parity import smolvla
from crossroads.parity.compare import compare
from crossroads.recipes.names import exported, imported
from crossroads.recipes.smolvla_names import smolvla_names
from golden import golden_cases, load_golden

every_case = pytest.mark.parametrize("name", golden_cases("smolvla"))


@pytest.mark.golden
@every_case
def test_every_recorded_output_is_reproduced_from_the_published_weights(name: str) -> None:
    case = load_golden("smolvla", name)
    produced = smolvla.run(case)
    assert case.outputs.keys() <= produced.outputs.keys()
    assert [row for row in compare(case, produced) if not row.ok] == []


@pytest.mark.golden
@every_case
def test_names_cover_every_published_tensor_and_lead_back_to_it(name: str) -> None:
    case = load_golden("smolvla", name)
    names = smolvla_names(smolvla.size_of(case), "")
    back = exported(names, imported(names, case.weights))
    assert back.keys() == case.weights.keys() - smolvla.UNUSED
    for key, tensor in back.items():
        torch.testing.assert_close(tensor, case.weights[key], atol=0, rtol=0)


def test_recorded_places_fall_one_row_and_column_short() -> None:
    assert smolvla.recorded_places(2, 3).tolist() == [0, 0, 1, 0, 0, 1]
    assert smolvla.recorded_places(4, 4).tolist()[::5] == [0, 0, 5, 10]
