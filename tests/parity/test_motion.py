"""DreamDojo's latent action model and 1X's STMaskGIT against their published classes, from the published weights."""

from __future__ import annotations

import pytest
import torch

from crossroads.parity import dreamdojo_lam, genie_stmaskgit, systems
from crossroads.parity.compare import compare
from crossroads.recipes.motion_names import dreamdojo_names, frequencies, masked_clip_names
from crossroads.recipes.names import exported, imported
from golden import golden_cases, load_golden

pytestmark = pytest.mark.golden
CASES = [(system, name) for system in ("dreamdojo_lam", "genie_stmaskgit") for name in golden_cases(system)]


@pytest.mark.parametrize(("system", "name"), CASES)
def test_every_recorded_output_is_reproduced_from_the_published_weights(system: str, name: str) -> None:
    case = load_golden(system, name)
    produced = systems.run(case)
    assert produced.outputs.keys() == case.outputs.keys()
    assert [row for row in compare(case, produced) if not row.ok] == []


@pytest.mark.parametrize(("system", "name"), CASES)
def test_names_cover_every_published_tensor_and_lead_back_to_it(system: str, name: str) -> None:
    case = load_golden(system, name)
    if system == "dreamdojo_lam":
        spec = dreamdojo_lam.spec_of(case)
        names, known = dreamdojo_names(spec), frequencies(spec)
    else:
        names, known = masked_clip_names(genie_stmaskgit.spec_of(case)), frozenset[str]()
    back = exported(names, imported(names, case.weights))
    assert back.keys() | known == case.weights.keys()
    for key, tensor in back.items():
        torch.testing.assert_close(tensor, case.weights[key], atol=0, rtol=0)
