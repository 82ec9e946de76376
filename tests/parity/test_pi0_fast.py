"""pi0-FAST against LeRobot's PyTorch code: every recorded output, from the published weights."""

from __future__ import annotations

import pytest
import torch

from crossroads.parity import pi0_fast
from crossroads.parity.compare import compare
from crossroads.parity.pi0_fast import UNUSED, Prepared
from crossroads.parity.recorded import all_valid, embedded, interpreter
from crossroads.recipes.names import exported, imported, pi0_fast_names
from crossroads.schedule import Decode
from golden import golden_cases, load_golden

pytestmark = pytest.mark.golden


@pytest.fixture(scope="module", params=golden_cases("pi0_fast"))
def prepared(request: pytest.FixtureRequest) -> Prepared:
    return pi0_fast.prepare(load_golden("pi0_fast", request.param))


def test_every_recorded_output_of_pi0_fast_is_reproduced_from_the_published_weights(prepared: Prepared) -> None:
    produced = pi0_fast.run(prepared.case)
    assert produced.outputs.keys() == prepared.case.outputs.keys()
    assert [row for row in compare(prepared.case, produced) if not row.ok] == []


def test_pi0_fast_names_cover_every_published_tensor_and_lead_back_to_it(prepared: Prepared) -> None:
    names = pi0_fast_names(prepared.size)
    back = exported(names, imported(names, prepared.case.weights))
    assert back.keys() | (UNUSED if prepared.size.text.tied else set()) == prepared.case.weights.keys()
    for name, tensor in back.items():
        torch.testing.assert_close(tensor, prepared.case.weights[name], atol=0, rtol=0)


@torch.no_grad()
def test_the_schedule_writes_what_the_training_step_finds_most_likely(prepared: Prepared) -> None:
    """Ours differs from LeRobot's acting in one thing, which the recipe states: it acts as it was trained."""
    observed = {name: prepared.latents[name] for name in ("image", "text")}
    written = interpreter(prepared.net, observed, {}).run((Decode(stream="action", max_tokens=5),)).streams["action"]
    start = torch.full_like(written[:, :1], prepared.size.next_token.start_token)
    read = torch.cat([start, written[:, :-1]], dim=1)
    action = all_valid(read)
    again = pi0_fast.Prepared(
        case=prepared.case, size=prepared.size, net=prepared.net, latents={**prepared.latents, "action": action}
    )
    inputs = embedded(prepared.net, again.latents, {}, pi0_fast.GROUPS)
    scores = prepared.net.codec("action").read(prepared.net(inputs, {})["action"].hidden)
    going_on = (written == prepared.size.next_token.end_token).cumsum(dim=1) == 0
    assert torch.equal(scores.argmax(dim=-1)[going_on], written[going_on])
