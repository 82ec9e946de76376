"""mimic-video's action transformer against the published code, from the published weights."""

from __future__ import annotations

import pytest
import torch

from crossroads.parity import mimic_video
from crossroads.parity.compare import compare
from crossroads.recipes.mimic_video_names import mimic_names
from crossroads.recipes.names import exported, imported
from golden import golden_cases, load_golden

pytestmark = pytest.mark.golden
every_case = pytest.mark.parametrize("name", golden_cases("mimic_video_action_tower"))


@every_case
def test_every_recorded_output_of_the_action_transformer_is_reproduced(name: str) -> None:
    case = load_golden("mimic_video_action_tower", name)
    produced = mimic_video.run(case)
    assert produced.outputs.keys() == case.outputs.keys()
    assert [row for row in compare(case, produced) if not row.ok] == []


@every_case
def test_mimic_names_cover_every_published_tensor_and_lead_back_to_it(name: str) -> None:
    case = load_golden("mimic_video_action_tower", name)
    names = mimic_names(mimic_video.size_of(case), mimic_video.layers_of(case))
    back = exported(names, imported(names, case.weights))
    assert back.keys() == case.weights.keys()
    for key, tensor in back.items():
        torch.testing.assert_close(tensor, case.weights[key], atol=0, rtol=0)
