"""MolmoAct2: the expert reads the keys of its own layer's number, without a gradient, and never the written actions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from every_recipe import fresh, gradients, policy_of, prepared_batch, seeded
from nano_batch import nano_batch

from crossroads.errors import InputError
from crossroads.recipes.molmoact2 import molmoact2
from crossroads.recipes.molmoact2_sizes import NANO, PUBLISHED
from crossroads.towers.molmo import MolmoBlock, MolmoExpert, MolmoFrame


def test_the_flow_loss_moves_the_language_model_only_where_the_cut_is_taken_away() -> None:
    batches, moved = [], []
    for insulated in (True, False):
        policy = fresh(molmoact2(replace(NANO, insulated=insulated)))
        policy.enter(replace(policy.recipe.phase("full"), losses=("action",)))
        found = gradients(policy, prepared_batch(policy))
        names = {name for name, grad in found.items() if grad is not None and bool(grad.any())}
        moved.append({name for name in names if "language" in name or "image" in name or "text" in name})
        with torch.no_grad():
            batches.append(policy.loss(nano_batch(policy.recipe), generator=seeded()).total)
    assert moved[0] == set()
    assert any("language" in name for name in moved[1])
    assert torch.equal(*batches)


def test_each_layer_reads_the_keys_of_its_own_number() -> None:
    policy = policy_of("molmoact2")
    policy.enter(policy.recipe.phase("full"))
    prepared = prepared_batch(policy)
    inputs = policy.inputs(prepared, frozenset(prepared.latents), {})
    with torch.no_grad():
        states = policy.net(inputs, {})
        read = {name: states[name] for name in ("image", "text")}
        action = {"action": inputs["action"]}
        before = policy.net(action, read)["action"].hidden
        last = {name: replace(state, hidden=state.hidden + 1) for name, state in read.items()}
        assert torch.equal(policy.net(action, last)["action"].hidden, before)
        for layer in (0, 5):
            keys = tuple(key + (at == layer) for at, key in enumerate(read["text"].keys))
            moved = {**read, "text": replace(read["text"], keys=keys)}
            assert not torch.equal(policy.net(action, moved)["action"].hidden, before)


def test_written_actions_are_not_read_and_not_run_to_act() -> None:
    layout = molmoact2().stage.layout
    assert layout.needed(["action"]) == {"action", "image", "text"}
    assert layout.stable(["action"]) == {"fast", "image", "text"}


@pytest.mark.parametrize("change", [{"depth": 5}, {"key_width": 96}, {"context_width": 96}])
def test_an_expert_that_does_not_fit_its_language_model_is_refused(change: dict[str, int]) -> None:
    with pytest.raises(InputError, match=r"keys 96|192|of 5 layers"):
        molmoact2(replace(NANO, expert=replace(NANO.expert, **change))).validate()


@pytest.mark.parametrize("waves", [8, 9])
def test_an_expert_weighs_what_its_sizes_say(waves: int) -> None:
    spec = MolmoExpert(width=8, mlp=12, depth=2, heads=2, context_width=6, key_width=4, waves=waves)
    modules = [MolmoFrame(spec), MolmoBlock(spec), MolmoBlock(spec)]
    assert sum(weight.numel() for module in modules for weight in module.parameters()) == spec.num_parameters()


def test_a_prompt_tells_the_state_in_tokens_of_its_own() -> None:
    prompt = PUBLISHED.text.prompt("Lift the Cube", (7, 255))
    assert "task is to lift the cube" in prompt
    assert "<state_start><state_7><state_255><state_end>" in prompt
