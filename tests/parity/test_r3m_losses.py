"""The recorded case of r3m_losses against ours."""

from __future__ import annotations

import pytest

from crossroads.parity import r3m_losses
from crossroads.parity.compare import compare
from golden import golden_cases, load_golden

pytestmark = pytest.mark.golden


@pytest.mark.parametrize("name", golden_cases("r3m_losses"))
def test_every_recorded_output_is_reproduced(name: str) -> None:
    case = load_golden("r3m_losses", name)
    produced = r3m_losses.run(case)
    assert produced.outputs.keys() == case.outputs.keys()
    assert [row for row in compare(case, produced) if not row.ok] == []
