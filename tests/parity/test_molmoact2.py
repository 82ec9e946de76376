"""MolmoAct2's language model and expert against LeRobot's port of them, from their weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from crossroads.errors import InputError
from crossroads.parity import molmoact2
from crossroads.parity.case import Named
from crossroads.parity.compare import compare
from crossroads.recipes.molmoact2_names import molmoact2_names, separated
from crossroads.recipes.names import exported, imported
from golden import golden_cases, load_golden

every_case = pytest.mark.parametrize("name", golden_cases("molmoact2"))


@pytest.mark.golden
@every_case
def test_every_recorded_output_is_reproduced_from_the_published_weights(name: str) -> None:
    case = load_golden("molmoact2", name)
    produced = molmoact2.run(case)
    assert case.outputs.keys() <= produced.outputs.keys()
    assert [row for row in compare(case, produced) if not row.ok] == []


@pytest.mark.golden
@every_case
def test_names_cover_every_published_tensor_and_lead_back_to_it(name: str) -> None:
    case = load_golden("molmoact2", name)
    language, expert = molmoact2.towers_of(case)
    weights = separated(molmoact2.whole_tables(case.weights), language)
    names = molmoact2_names(language, expert)
    back = exported(names, imported(names, weights))
    assert back.keys() == weights.keys() - molmoact2.UNUSED
    for key, tensor in back.items():
        torch.testing.assert_close(tensor, weights[key], atol=0, rtol=0)


@pytest.mark.golden
def test_words_of_actions_are_hidden_from_the_expert_alone() -> None:
    case = load_golden("molmoact2")
    made, ids = dict(case.meta["constructor"]), case.inputs["input_ids"]
    alone = replace(case, meta=Named({**case.meta, "constructor": {**made, "action_mode": "continuous"}}, "meta.json"))
    valid = case.inputs["attention_mask"].bool()
    assert torch.equal(molmoact2.read_by_expert(alone), valid)
    hidden = valid & ~molmoact2.read_by_expert(case)
    assert {made["action_start_token_id"], made["action_end_token_id"]} <= set(ids[hidden].tolist())


@pytest.mark.golden
def test_a_form_of_the_language_model_that_is_not_there_is_refused() -> None:
    case = load_golden("molmoact2")
    made = dict(case.meta["constructor"])
    text = {**made["text_config"], "norm_after": True}
    with pytest.raises(InputError, match="norm_after"):
        molmoact2.towers_of(
            replace(case, meta=Named({**case.meta, "constructor": {**made, "text_config": text}}, "meta.json"))
        )
