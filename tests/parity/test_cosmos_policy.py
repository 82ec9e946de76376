"""Cosmos Policy against the published code, from the published weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from crossroads.parity import cosmos_policy
from crossroads.parity.case import Named
from crossroads.parity.compare import compare
from crossroads.recipes.names import cosmos_policy_names, exported, imported
from golden import golden_cases, load_golden

pytestmark = pytest.mark.golden


@pytest.mark.parametrize("name", golden_cases("cosmos_policy"))
def test_every_recorded_output_of_cosmos_policy_is_reproduced_from_the_published_weights(name: str) -> None:
    case = load_golden("cosmos_policy", name)
    produced = cosmos_policy.run(case)
    assert produced.outputs.keys() == case.outputs.keys()
    assert [row for row in compare(case, produced) if not row.ok] == []


@pytest.mark.parametrize("name", golden_cases("cosmos_policy"))
def test_cosmos_policy_names_cover_every_published_weight_and_lead_back_to_it(name: str) -> None:
    case = load_golden("cosmos_policy", name)
    names = cosmos_policy_names(cosmos_policy.size_of(case))
    back = exported(names, imported(names, case.weights))
    assert back.keys() == case.weights.keys() - cosmos_policy.TABLES
    for key, tensor in back.items():
        torch.testing.assert_close(tensor, case.weights[key], atol=0, rtol=0)


@pytest.mark.parametrize("name", golden_cases("cosmos_policy"))
def test_a_noise_scale_per_frame_is_the_scale_of_the_sample(name: str) -> None:
    """Other recordings give each frame its (equal) scale."""
    case = load_golden("cosmos_policy", name)
    num = case.inputs["x0_latents"].shape[2]
    wide = case.inputs["sigma"][:, :1].expand(-1, num)
    each = replace(case, inputs=Named({**case.inputs, "sigma": wide}, case.inputs.where))
    ours, same = (cosmos_policy.trained(cosmos_policy.prepare(found)) for found in (case, each))
    for output in ours.keys() - {"loss.weights_per_sigma"}:
        torch.testing.assert_close(same[output], ours[output])
