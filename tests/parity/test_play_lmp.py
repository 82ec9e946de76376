"""Play-LMP and HULC against the published code, from the published weights."""

from __future__ import annotations

import re

import pytest
import torch

from crossroads.parity import play_lmp
from crossroads.parity.case import GoldenCase
from crossroads.parity.compare import compare
from crossroads.recipes.names import exported, imported
from crossroads.recipes.play_lmp_names import play_lmp_names
from golden import golden_cases, load_golden

pytestmark = pytest.mark.golden
every_case = pytest.mark.parametrize(
    ("system", "name"), [(system, name) for system in ("mcil", "hulc") for name in golden_cases(system)]
)


@every_case
def test_every_recorded_output_of_play_lmp_is_reproduced(system: str, name: str) -> None:
    case = load_golden(system, name)
    produced = play_lmp.run(case)
    assert produced.outputs.keys() >= case.outputs.keys()
    assert [row for row in compare(case, produced) if not row.ok] == []


@every_case
def test_play_lmp_names_cover_every_published_tensor_that_is_used_and_lead_back_to_it(system: str, name: str) -> None:
    case = load_golden(system, name)
    size = play_lmp.size_of(case, case.meta["constructor_arguments"])
    names = play_lmp_names(size, apart=system == "mcil")
    back = exported(names, imported(names, case.weights))
    assert all(re.fullmatch(play_lmp.UNUSED, left) for left in case.weights.keys() - back.keys())
    for key, tensor in back.items():
        torch.testing.assert_close(tensor, case.weights[key], atol=0, rtol=0)


def test_a_plan_drawn_from_its_prior_reads_nothing_behind_the_first_step() -> None:
    """The published proposal sees the first moment and the goal; so does ours, to the last bit."""
    case = load_golden("mcil")
    seen = case.inputs["percep_emb"].clone()
    seen[:, 1:] += 1.0
    changed = GoldenCase(
        system=case.system,
        folder=case.folder,
        meta=case.meta,
        weights=case.weights,
        inputs=type(case.inputs)({**case.inputs, "percep_emb": seen}, case.inputs.where),
        outputs=case.outputs,
    )
    found, other = play_lmp.run(case).outputs, play_lmp.run(changed).outputs
    assert torch.equal(found["plan_from_prior"], other["plan_from_prior"])
    assert torch.equal(found["act_step_1"], other["act_step_1"])
    assert not torch.equal(found["posterior_mean"], other["posterior_mean"])
    assert not torch.equal(found["act_step_2"], other["act_step_2"])
