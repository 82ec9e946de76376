"""V-JEPA 2-AC's predictor, VLA-JEPA's, and VLA-JEPA's action head against their published classes."""

from __future__ import annotations

import pytest

from crossroads.parity import systems
from crossroads.parity.compare import compare
from golden import golden_cases, load_golden

pytestmark = pytest.mark.golden
SYSTEMS = ("vjepa2_ac", "vla_jepa", "vla_jepa_head")


@pytest.mark.parametrize(("system", "name"), [(system, name) for system in SYSTEMS for name in golden_cases(system)])
def test_every_recorded_output_is_reproduced_from_the_published_weights(system: str, name: str) -> None:
    case = load_golden(system, name)
    produced = systems.run(case)
    assert produced.outputs.keys() == case.outputs.keys()
    assert [row for row in compare(case, produced) if not row.ok] == []
