"""pi0 on Qwen3-VL and on Gemma 3: what their published sizes weigh, and that words are read in one direction only."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from every_recipe import policy_of, prepared_batch
from torch import Tensor

from crossroads.build import build_net
from crossroads.cost.flops import parameters
from crossroads.recipes.catalogue import recipe

WEIGHTS = {"pi0_qwen3": 2_127_532_032, "pi0_gemma3": 4_300_079_472}
"""Of the vision-language model alone, as the hub counts Qwen/Qwen3-VL-2B-Instruct and google/gemma-3-4b-it."""


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_published_size_weighs_as_much_as_its_language_model_and_is_built_as_counted(name: str) -> None:
    large = recipe(name, "published")
    parts = parameters(large).parts
    language = sum(parts[part] for part in ("towers.language", "codecs.image", "codecs.text"))
    assert language == pytest.approx(WEIGHTS[name], rel=0.001)
    with torch.device("meta"):
        net = build_net(large.stage)
    assert sum(weight.numel() for weight in net.parameters()) == sum(parts.values())


def seen_by_the_others(name: str) -> dict[str, Tensor]:
    """Where the states of pictures and words change with the last word: for each token, whether it does."""
    policy = policy_of(name)
    given = prepared_batch(policy)
    text, names = given.latents["text"], frozenset(("image", "text"))
    last = text.valid.sum(dim=1) - 1
    other = replace(text, values=text.values.index_put((torch.arange(len(last)), last), torch.tensor(7)))
    assert not torch.equal(other.values, text.values)
    with torch.no_grad():
        found = [
            policy.net(policy.inputs(replace(given, latents={**given.latents, "text": shown}), names, {}), {})
            for shown in (text, other)
        ]
    changed = {group: (found[0][group].hidden != found[1][group].hidden).any(dim=-1) for group in names}
    before = torch.arange(text.valid.shape[1]) < last[:, None]
    words = changed["text"]
    return {"image": changed["image"], "before": words[before], "last": words[range(len(last)), last]}


@pytest.mark.parametrize(("name", "back"), [("pi0", True), ("pi0_qwen3", False), ("pi0_gemma3", False)])
def test_a_word_is_read_by_what_comes_before_it_only_where_the_prompt_is_read_both_ways(name: str, back: bool) -> None:
    found = seen_by_the_others(name)
    assert found["last"].all()
    for part in ("image", "before"):
        assert found[part].all() if back else not found[part].any()
