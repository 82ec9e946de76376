"""Memory: lasting parts against a built policy and its optimiser, and how each part scales."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from every_recipe import policy_of, seeded
from nano_batch import nano_batch

from crossroads.build import build_net
from crossroads.cost.flops import Work, parameters
from crossroads.cost.memory import (
    FLOAT32,
    MIXED,
    Precision,
    TrainingMemory,
    acting_memory,
    state_numbers,
    training_memory,
)
from crossroads.errors import InputError
from crossroads.interpreter import Interpreter
from crossroads.recipe import Recipe
from crossroads.recipes.catalogue import PUBLISHED, RECIPES, recipe
from crossroads.train.optim import RunningAverage, TrainConfig, build_optimiser, trainable

CONFIG = TrainConfig(
    steps=1,
    batch_size=2,
    learning_rate=1e-3,
    warmup_steps=0,
    final_learning_rate_fraction=1.0,
    weight_decay=0.0,
    betas=(0.9, 0.95),
    clip_norm=1.0,
    ema_decay=0.99,
    seed=0,
    checkpoint_every=1,
    log_every=1,
    mixed_precision=False,
)


def memory_of(chosen: Recipe, phase: str, batch_size: int, precision: Precision = FLOAT32) -> TrainingMemory:
    work = Work(stage=chosen.stage)
    return training_memory(chosen.phase(phase), work, parameters(chosen), batch_size=batch_size, precision=precision)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_weights_are_the_bytes_of_the_built_policy(name: str) -> None:
    policy = policy_of(name)
    told = memory_of(policy.recipe, policy.recipe.phases[0].name, 1)
    assert told.weights == sum(weight.nbytes for weight in policy.parameters())


@pytest.mark.parametrize("phase", ["full", "head"])
def test_gradients_moments_and_average_are_the_bytes_of_a_real_step(phase: str) -> None:
    policy = policy_of("fast_wam")
    policy.enter(policy.recipe.phase(phase))
    told = memory_of(policy.recipe, phase, 2)
    before = {name: weight.detach().clone() for name, weight in policy.named_parameters()}
    optimiser = build_optimiser(policy, CONFIG)
    policy.loss(nano_batch(policy.recipe), generator=seeded()).total.mean().backward()
    gradients = [weight.grad for weight in policy.parameters() if weight.grad is not None]
    optimiser.step()
    moments = [
        value for state in optimiser.state.values() for name, value in state.items() if name.startswith("exp_avg")
    ]
    average = RunningAverage(trainable(policy), 0.99)
    with torch.no_grad():
        for name, weight in policy.named_parameters():
            weight.copy_(before[name])
    policy.zero_grad(set_to_none=True)
    # the last layer's weights of a tower whose output nobody uses get no gradient and no moments
    assert told.gradients == pytest.approx(sum(gradient.nbytes for gradient in gradients), rel=0.02)
    assert told.moments == pytest.approx(sum(moment.nbytes for moment in moments), rel=0.02)
    assert told.average == sum(value.nbytes for value in average.values.values())


@pytest.mark.parametrize("name", ["pi0", "fast_wam_idm"])
def test_twice_the_batch_doubles_the_activations_and_nothing_else(name: str) -> None:
    one, two = (memory_of(recipe(name), "full", size, MIXED) for size in (8, 16))
    assert two.activations == 2 * one.activations > 0
    assert replace(two, batch_size=8, activations=one.activations) == one
    assert two.total - one.total == one.activations


def test_bfloat16_halves_products_but_not_norms_and_keeps_copies() -> None:
    mixed, single = memory_of(recipe("pi0"), "full", 4, MIXED), memory_of(recipe("pi0"), "full", 4)
    assert single.activations / 2 < mixed.activations < single.activations
    assert single.copies == 0
    assert 0 < mixed.copies < mixed.weights / 2
    assert (mixed.weights, mixed.gradients, mixed.moments) == (single.weights, single.gradients, single.moments)


def test_a_frozen_backbone_owes_no_gradients_moments_or_average() -> None:
    full, head = (memory_of(recipe("fast_wam", "published"), phase, 1, MIXED) for phase in ("full", "head"))
    assert head.weights == full.weights
    assert head.moments < full.moments / 4
    assert head.copies > full.copies / 2, "gradients of the state's projection pass through the frozen video tower"


@pytest.mark.parametrize("name", ["pi0", "fast_wam_idm"])
def test_what_a_group_leaves_behind_is_what_the_interpreter_keeps(name: str) -> None:
    policy = policy_of(name)
    obs = nano_batch(policy.recipe, size=1).obs
    length = policy.net.own_codec("text").observe(obs).valid.shape[1]
    work = Work(stage=policy.recipe.stage, tokens={"text": length})
    running = Interpreter(policy.net, obs, seeded())
    with torch.no_grad():
        running.run(policy.recipe.stage.schedule)
    assert len(running.states) >= 3
    for group, state in running.states.items():
        kept = sum(part.numel() for part in (*state.keys, *state.values, state.hidden))
        assert state_numbers(group, work, answers=bool(state.hidden.shape[1])) == kept
    all_of_it = acting_memory(work, parameters(policy.recipe))
    kept = sum(state_numbers(group, work, bool(state.hidden.shape[1])) for group, state in running.states.items())
    assert all_of_it.cache >= 2 * kept
    assert all_of_it.weights == 2 * parameters(policy.recipe).total


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_weights_are_counted_without_any(name: str) -> None:
    chosen = recipe(name, "published")
    with torch.device("meta"):
        net = build_net(chosen.stage)
    frozen = sum(num for part, num in parameters(chosen).parts.items() if part.startswith("autoencoders"))
    assert memory_of(chosen, chosen.phases[0].name, 1).weights == 4 * (
        sum(weight.numel() for weight in net.parameters()) + frozen
    )


def test_a_batch_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="at least 1, got 0"):
        memory_of(recipe("pi0"), "full", 0)
