"""pi0 and pi0.5 against openpi's PyTorch code: every recorded output, from the published weights."""

from __future__ import annotations

import pytest
import torch

from crossroads.errors import InputError
from crossroads.parity import pi0
from crossroads.parity.compare import compare
from crossroads.parity.pi0 import UNUSED, Prepared, names_of, size_of
from crossroads.recipes.names import exported, imported, load_weights
from golden import golden_cases, load_golden

pytestmark = pytest.mark.golden
CASES = [(system, case) for system in ("pi0", "pi05") for case in golden_cases(system)]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def prepared(request: pytest.FixtureRequest) -> Prepared:
    return pi0.prepare(load_golden(*request.param))


def test_every_recorded_output_is_reproduced_from_the_published_weights(prepared: Prepared) -> None:
    produced = pi0.run(prepared.case)
    assert produced.outputs.keys() == prepared.case.outputs.keys()
    assert [row for row in compare(prepared.case, produced) if not row.ok] == []


def test_only_keys_values_and_positions_of_padding_are_left_out(prepared: Prepared) -> None:
    counts, pad = pi0.run(prepared.case).counts, prepared.case.outputs["pad_mask"].bool()
    assert all(name.startswith(("prefix_key", "prefix_value")) or name == "position_ids" for name in counts)
    for name, counted in counts.items():
        inside = pad if name == "position_ids" else pad[:, None, : prepared.case.outputs[name].shape[2], None]
        assert torch.equal(counted, inside)


def test_the_schedule_settles_the_recorded_actions_but_for_the_drift_of_time(prepared: Prepared) -> None:
    sampled = prepared.sample(prepared.stage.schedule)
    torch.testing.assert_close(sampled, prepared.case.outputs["sample_actions"], atol=1e-3, rtol=0.0)


def test_the_names_cover_every_published_tensor_and_lead_back_to_it(prepared: Prepared) -> None:
    names = names_of(size_of(prepared.case))
    back = exported(names, imported(names, prepared.case.weights))
    assert back.keys() | UNUSED >= prepared.case.weights.keys()
    for name, tensor in back.items():
        torch.testing.assert_close(tensor, prepared.case.weights[name], atol=0, rtol=0)


def test_weights_of_another_size_are_refused(prepared: Prepared) -> None:
    weights = imported(names_of(size_of(prepared.case)), prepared.case.weights)
    wrong = {**weights, "codecs.action.enter.bias": torch.zeros(3)}
    with pytest.raises(InputError, match=r"codecs\.action\.enter\.bias.*expected shape"):
        load_weights(prepared.net, wrong)
    with pytest.raises(InputError, match=r"missing \['codecs\.action\.enter\.bias'\]"):
        load_weights(prepared.net, {name: w for name, w in weights.items() if name != "codecs.action.enter.bias"})
