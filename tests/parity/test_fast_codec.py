"""The FAST tokeniser against its published code, to the last integer."""

from __future__ import annotations

import pytest
import torch

from crossroads.codecs.fast import Fast, FastTokeniser
from crossroads.parity import fast_codec
from crossroads.parity.compare import compare
from golden import golden_cases, load_golden

pytestmark = pytest.mark.golden
every_case = pytest.mark.parametrize("name", golden_cases("fast_codec"))


@every_case
def test_every_recorded_output_of_fast_is_reproduced(name: str) -> None:
    case = load_golden("fast_codec", name)
    produced = fast_codec.run(case)
    assert produced.outputs.keys() == case.outputs.keys()
    assert [row for row in compare(case, produced) if not row.ok] == []


@every_case
def test_a_fit_of_the_recorded_chunks_learns_the_recorded_byte_pairs(name: str) -> None:
    case = load_golden("fast_codec", name)
    made, recorded = case.meta["constructor"], fast_codec.tokeniser_of(case)
    ours = FastTokeniser(Fast(size=recorded.spec.size, scale=made["scale"]), *case.meta["test_shapes"][0])
    ours.fit(fast_codec.corpus(case))
    assert int(ours.least) == made["min_token"]
    for part in ("alphabet", "merges"):
        assert torch.equal(ours.state_dict()[part], recorded.state_dict()[part])
