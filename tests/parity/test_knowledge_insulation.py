"""Knowledge insulation against OpenTau's code: losses, gradients with and without the cut, chunks that begin given."""

from __future__ import annotations

import pytest
import torch

from crossroads.parity import knowledge_insulation
from crossroads.parity.compare import compare
from crossroads.parity.knowledge_insulation import HEAD, UNUSED
from crossroads.recipes.names import exported, imported
from golden import golden_cases, load_golden

pytestmark = pytest.mark.golden
every_case = pytest.mark.parametrize("name", golden_cases("knowledge_insulation"))


@every_case
def test_every_recorded_output_is_reproduced_and_only_padding_is_left_out(name: str) -> None:
    case = load_golden("knowledge_insulation", name)
    produced = knowledge_insulation.run(case)
    assert produced.outputs.keys() == case.outputs.keys()
    assert [row for row in compare(case, produced) if not row.ok] == []
    per_token = ("cross_", "vlm_position", "vlm_last", "discrete_logits")
    assert all(entry.startswith(per_token) for entry in produced.counts)
    assert torch.equal(produced.counts["vlm_position_ids"], case.outputs["prefix_pad_mask"].bool())


@every_case
def test_the_names_cover_every_published_tensor_but_the_head_of_tokens(name: str) -> None:
    case = load_golden("knowledge_insulation", name)
    names = knowledge_insulation.prepare(case, insulated=True).names
    back = exported(names, imported(names, case.weights))
    assert back.keys() | UNUSED | {f"{HEAD}.weight", f"{HEAD}.bias"} >= case.weights.keys()
    for weight, tensor in back.items():
        torch.testing.assert_close(tensor, case.weights[weight], atol=0, rtol=0)
