"""Noise schedules against the published schedulers: training grids, weights, Euler and UniPC."""

from __future__ import annotations

import pytest

from crossroads.parity import schedules
from crossroads.parity.compare import compare
from golden import golden_cases, load_golden

pytestmark = pytest.mark.golden


@pytest.mark.parametrize("name", golden_cases("schedules"))
def test_every_recorded_table_and_trajectory_is_reproduced(name: str) -> None:
    case = load_golden("schedules", name)
    produced = schedules.run(case)
    assert produced.outputs.keys() >= case.outputs.keys()
    assert not produced.counts
    assert {allowed.relative for allowed in produced.tolerances.values()} == {1e-5}
    assert [row for row in compare(case, produced) if not row.ok] == []
