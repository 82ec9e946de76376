"""DreamVLA against its published class, from its weights."""

from __future__ import annotations

import re

import pytest
import torch

from crossroads.parity import dreamvla
from crossroads.parity.compare import compare
from crossroads.recipes.foresight_names import dreamvla_names
from crossroads.recipes.names import exported, imported
from golden import golden_cases, load_golden

pytestmark = pytest.mark.golden
every_case = pytest.mark.parametrize("name", golden_cases("dreamvla"))


@every_case
def test_every_recorded_output_is_reproduced_from_the_published_weights(name: str) -> None:
    case = load_golden("dreamvla", name)
    produced = dreamvla.run(case)
    assert produced.outputs.keys() >= case.outputs.keys()
    assert [row for row in compare(case, produced) if not row.ok] == []


@every_case
def test_names_cover_every_published_tensor_that_is_used_and_lead_back_to_it(name: str) -> None:
    case = load_golden("dreamvla", name)
    names = dreamvla_names(dreamvla.size_with_head(case))
    back = exported(names, imported(names, case.weights))
    unused = (*dreamvla.UNUSED, ".*_decoder_position_embedding")
    assert back.keys() == {key for key in case.weights if not any(re.fullmatch(part, key) for part in unused)}
    for key, tensor in back.items():
        torch.testing.assert_close(tensor, case.weights[key], atol=0, rtol=0)
