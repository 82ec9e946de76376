"""Being-H0.5 against its own code, from its weights; what a recording of one document in one mode cannot show."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from crossroads.errors import InputError
from crossroads.parity import being_h05
from crossroads.parity.being_h05_packing import splits_of
from crossroads.parity.case import GoldenCase, Named
from crossroads.parity.compare import compare
from crossroads.parity.systems import run
from crossroads.recipes.being_h05_names import being_h05_names
from crossroads.recipes.names import exported, imported
from golden import golden_cases, load_golden

pytestmark = pytest.mark.golden
every_case = pytest.mark.parametrize("name", golden_cases("being_h05"))


@every_case
def test_every_recorded_output_is_reproduced_from_the_published_weights(name: str) -> None:
    case = load_golden("being_h05", name)
    produced = run(case)
    assert produced.outputs.keys() == case.outputs.keys()
    assert [row for row in compare(case, produced) if not row.ok] == []


@every_case
def test_names_cover_every_published_tensor_and_lead_back_to_it(name: str) -> None:
    case = load_golden("being_h05", name)
    names = being_h05_names(
        being_h05.decoder_of(case, "llm"), being_h05.image_of(case), tied=being_h05.LAST not in case.weights
    )
    back = exported(names, imported(names, case.weights))
    assert back.keys() == case.weights.keys()
    for key, tensor in back.items():
        torch.testing.assert_close(tensor, case.weights[key], atol=0, rtol=0)


def changed(case: GoldenCase, more: dict[str, Any] | None = None, **constructor: object) -> GoldenCase:
    """The same case with another meta.json."""
    made = {**dict(case.meta["constructor"]), **constructor}
    return replace(case, meta=Named({**case.meta, **(more or {}), "constructor": made}, "meta.json"))


def packed_twice(case: GoldenCase) -> GoldenCase:
    """The recorded document, and the same once more behind it."""
    (length,), given = case.meta["sample_lens"], dict(case.inputs)
    for name, tensor in given.items():
        moved = name.endswith("_indexes")
        if name != "sample_noise":
            given[name] = torch.cat([tensor, tensor + length if moved else tensor])
    lengths = {"sample_lens": [length] * 2, "split_lens": [case.meta["split_lens"][0]] * 2}
    return replace(changed(case, lengths), inputs=Named(given, "inputs"))


def test_two_documents_answer_each_as_it_does_alone() -> None:
    case = load_golden("being_h05")
    twice = being_h05.run(packed_twice(case)).outputs
    for name in ("velocity", "action_features"):
        for row in twice[name]:
            torch.testing.assert_close(row, case.outputs[name][0], atol=1e-5, rtol=0)
    num = case.inputs["action_indexes"].shape[0] + 1
    assert twice["gen_last_hidden"].shape[0] == 2 * num
    for name in ("action_loss", "und_loss", "sample_actions"):
        torch.testing.assert_close(twice[name], case.outputs[name], atol=5e-5, rtol=0)
    torch.testing.assert_close(twice["attention_mask"], torch.block_diag(*[case.outputs["attention_mask"]] * 2))


@pytest.mark.parametrize(
    "change",
    [{"more": {"attn_modes": [["causal", "full"]]}, "attn_mode": "noise"}, {"attn_mode": "causal_actionfull"}],
)
def test_all_of_a_full_split_see_each_other_in_training_and_none_ahead_when_acting(change: dict[str, Any]) -> None:
    case = load_golden("being_h05")
    before, full = case.meta["split_lens"][0]
    whole = being_h05.run(changed(case, **change)).outputs
    at = torch.arange(before + full)
    seen = (at[:, None] >= at) | ((at[:, None] >= before) & (at >= before))
    assert torch.equal(whole["attention_mask"].bool(), seen)
    assert torch.equal(whole["inference_attention_mask"], case.outputs["inference_attention_mask"])
    torch.testing.assert_close(whole["und_last_hidden"], case.outputs["und_last_hidden"], atol=4e-5, rtol=0)
    torch.testing.assert_close(whole["sample_actions"], case.outputs["sample_actions"], atol=4e-5, rtol=0)
    assert (whole["velocity"][0, 0] - case.outputs["velocity"][0, 0]).abs().max() > 1e-3
    assert (whole["state_features"] - case.outputs["state_features"]).abs().max() < 1e-5


def test_a_picture_between_its_marks_is_full_where_the_mode_is_not_causal() -> None:
    case = load_golden("being_h05")
    lengths = {"split_lens": [[3, 6, 5]]}  # words, mark + picture + mark, state and actions
    assert splits_of(changed(case, lengths, attn_mode="noise")) == [(3, "causal"), (6, "full"), (5, "causal")]
    causal = splits_of(changed(case, lengths, attn_mode="causal_actionfull"))
    assert causal == [(3, "causal"), (6, "causal"), (5, "full")]
    assert splits_of(changed(case, lengths)) == [(14, "causal")]


@pytest.mark.parametrize("switch", ["use_mpg", "use_training_time_rtc", "vit_act", "layer_module"])
def test_a_switch_that_there_is_no_form_of_is_refused(switch: str) -> None:
    case = load_golden("being_h05")
    change: dict[str, Any] = {switch: True}
    if switch == "layer_module":
        change = {"llm": {**dict(case.meta["constructor"]["llm"]), switch: "Qwen3DecoderLayer"}}
    with pytest.raises(InputError, match=switch if switch != "vit_act" else "vit"):
        run(changed(case, **change))


def test_pictures_that_are_cut_are_refused() -> None:
    case = load_golden("being_h05")
    fewer = Named({**case.inputs, "vit_indexes": case.inputs["vit_indexes"][:-1]}, "inputs")
    with pytest.raises(InputError, match="vit_indexes"):
        being_h05.run(replace(case, inputs=fewer))
