"""UVA's networks, its five questions and its samplers against their recordings."""

from __future__ import annotations

import pytest

from crossroads.parity.compare import compare
from crossroads.parity.systems import run
from golden import golden_cases, load_golden

pytestmark = pytest.mark.golden


@pytest.mark.parametrize("name", golden_cases("uva"))
def test_every_recorded_output_is_reproduced_from_the_published_weights(name: str) -> None:
    case = load_golden("uva", name)
    produced = run(case)
    assert produced.outputs.keys() == case.outputs.keys()
    assert [row for row in compare(case, produced) if not row.ok] == []
