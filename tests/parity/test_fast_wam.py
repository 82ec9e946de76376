"""Fast-WAM and its two imagining forms against the published code, from the published weights and recorded noise."""

from __future__ import annotations

import pytest
import torch

from crossroads.parity import fast_wam
from crossroads.parity.compare import compare
from crossroads.parity.fast_wam import FORMS, Prepared
from crossroads.parity.recorded import mask_between
from crossroads.recipes.names import exported, fast_wam_names, imported
from golden import golden_cases, load_golden

pytestmark = pytest.mark.golden
CASES = [(form, case) for form in FORMS for case in golden_cases(form)]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def prepared(request: pytest.FixtureRequest) -> Prepared:
    return fast_wam.prepare(load_golden(*request.param))


def test_every_recorded_output_of_fast_wam_is_reproduced_from_the_published_weights(prepared: Prepared) -> None:
    produced = fast_wam.run(prepared.case)
    assert produced.outputs.keys() == prepared.case.outputs.keys()
    assert not produced.counts
    assert [row for row in compare(prepared.case, produced) if not row.ok] == []


def test_the_edges_of_fast_wam_give_the_published_attention_mask(prepared: Prepared) -> None:
    """Where the published network holds the frame of now twice, seeing either copy is seeing it."""
    recorded, num = prepared.case.outputs["train.attention_mask"].bool(), prepared.num_tokens
    names = [name for copy in prepared.clips for name in copy] + ["action"]
    order = [(name, number) for name in names for number in range(num[name])]
    ours = mask_between(prepared.net.layout, num, order)
    same = torch.tensor([[a == b for b in order] for a in order])
    anywhere = (recorded.float() @ same.float()) > 0
    assert torch.equal(ours, anywhere)
    assert not ours.all()


def test_fast_wam_names_cover_every_published_tensor_and_lead_back_to_it(prepared: Prepared) -> None:
    names = fast_wam_names(prepared.size)
    back = exported(names, imported(names, prepared.case.weights))
    assert back.keys() == prepared.case.weights.keys()
    for name, tensor in back.items():
        torch.testing.assert_close(tensor, prepared.case.weights[name], atol=0, rtol=0)
