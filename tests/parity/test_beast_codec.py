"""The BEAST tokeniser against its published code."""

from __future__ import annotations

import pytest

from crossroads.parity import beast_codec
from crossroads.parity.compare import compare
from golden import golden_cases, load_golden

pytestmark = pytest.mark.golden


@pytest.mark.parametrize("name", golden_cases("beast_codec"))
def test_every_recorded_output_of_beast_is_reproduced(name: str) -> None:
    case = load_golden("beast_codec", name)
    produced = beast_codec.run(case)
    assert produced.outputs.keys() == case.outputs.keys()
    assert [row for row in compare(case, produced) if not row.ok] == []
