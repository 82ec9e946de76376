"""Real-time chunking against LeRobot's code: tables of weights and guided steps."""

from __future__ import annotations

import pytest

from crossroads.parity import rtc
from crossroads.parity.compare import compare
from golden import golden_cases, load_golden

pytestmark = pytest.mark.golden


@pytest.mark.parametrize("name", golden_cases("rtc"))
def test_every_recorded_table_and_run_is_reproduced(name: str) -> None:
    case = load_golden("rtc", name)
    produced = rtc.run(case)
    assert produced.outputs.keys() == case.outputs.keys()
    assert not produced.counts
    assert [row for row in compare(case, produced) if not row.ok] == []
