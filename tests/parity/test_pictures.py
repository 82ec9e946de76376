"""Planners and painters of pictures against their recordings, from the recorded weights."""

from __future__ import annotations

import pytest

from crossroads.parity.compare import compare
from crossroads.parity.systems import run
from golden import golden_cases, load_golden

pytestmark = pytest.mark.golden
CASES = [(system, name) for system in ("avdc", "genima_controlnet") for name in golden_cases(system)]


@pytest.mark.parametrize(("system", "name"), CASES)
def test_every_recorded_output_is_reproduced_from_the_published_weights(system: str, name: str) -> None:
    case = load_golden(system, name)
    produced = run(case)
    assert produced.outputs.keys() == case.outputs.keys()
    assert [row for row in compare(case, produced) if not row.ok] == []
