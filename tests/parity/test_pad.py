"""PAD against the published code, from the published weights."""

from __future__ import annotations

import pytest
import torch

from crossroads.parity import pad
from crossroads.parity.compare import compare
from crossroads.recipes.names import exported, imported
from crossroads.recipes.pad_names import pad_names
from golden import golden_cases, load_golden

pytestmark = pytest.mark.golden
every_case = pytest.mark.parametrize("name", golden_cases("pad"))


@every_case
def test_every_recorded_output_of_pad_is_reproduced_from_the_published_weights(name: str) -> None:
    case = load_golden("pad", name)
    produced = pad.run(case)
    assert produced.outputs.keys() == case.outputs.keys()
    assert [row for row in compare(case, produced) if not row.ok] == []


@every_case
def test_pad_names_cover_every_published_tensor_but_fixed_ones_and_lead_back_to_it(name: str) -> None:
    case = load_golden("pad", name)
    size, depth = pad.size_of(case)
    names = pad_names(size, "words", depth.patch if depth else 0)
    back = exported(names, imported(names, case.weights))
    assert back.keys() == case.weights.keys() - pad.FIXED
    for key, tensor in back.items():
        torch.testing.assert_close(tensor, case.weights[key], atol=0, rtol=0)
