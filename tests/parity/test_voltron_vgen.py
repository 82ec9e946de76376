"""The recorded case of voltron_vgen against ours."""

from __future__ import annotations

import pytest

from crossroads.parity import voltron_vgen
from crossroads.parity.compare import compare
from golden import golden_cases, load_golden

pytestmark = pytest.mark.golden


@pytest.mark.parametrize("name", golden_cases("voltron_vgen"))
def test_every_recorded_output_is_reproduced(name: str) -> None:
    case = load_golden("voltron_vgen", name)
    produced = voltron_vgen.run(case)
    assert produced.outputs.keys() == case.outputs.keys()
    assert [row for row in compare(case, produced) if not row.ok] == []
