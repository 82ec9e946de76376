"""Being-H0.7: two branches over one context, which do not see each other and are brought together."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from every_recipe import close, gradients, policy_of, prepared_batch, seeded
from nano_batch import nano_batch

from crossroads.errors import InputError
from crossroads.objectives import Align
from crossroads.recipes.being_h07 import being_h07


def test_branches_see_one_context_and_not_each_other() -> None:
    layout = being_h07().stage.layout
    prior, posterior = layout.needed(["action"]), layout.needed(["action_posterior"])
    assert prior & posterior == {"image", "text", "state"}
    assert prior - posterior == {"plan", "action"}
    assert posterior - prior == {"plan.posterior", "action_posterior"}


def test_both_branches_stand_at_the_same_places() -> None:
    policy = policy_of("being_h07")
    prepared = prepared_batch(policy)
    inputs = policy.inputs(prepared, frozenset(prepared.latents), {})
    for ours, theirs in (("plan", "plan.posterior"), ("action", "action_posterior")):
        assert torch.equal(inputs[ours].places.index, inputs[theirs].places.index)
        assert torch.equal(inputs[ours].places.grid.nan_to_num(), inputs[theirs].places.grid.nan_to_num())
        assert torch.equal(inputs[ours].level, inputs[theirs].level)


@torch.no_grad()
def test_branches_of_one_content_are_one_and_apart_by_nothing() -> None:
    policy = policy_of("being_h07")
    prepared = prepared_batch(policy)
    same = {"plan.posterior": "plan", "action_posterior": "action"}
    latents = {name: prepared.latents[same.get(name, name)] for name in prepared.latents}
    owed = {name: prepared.owed[same.get(name, name)] for name in prepared.owed}
    terms = policy.losses(replace(prepared, latents=latents, owed=owed), {}).terms
    close(terms["action_posterior"], terms["action"])
    assert terms["plan"].abs().max() < 1e-12
    assert bool((policy.losses(prepared, {}).terms["plan"] > 1e-9).all())


def test_what_brings_them_together_teaches_both() -> None:
    policy = policy_of("being_h07")
    policy.enter(replace(policy.recipe.phases[0], losses=("plan",)))
    found = gradients(policy, prepared_batch(policy))
    policy.enter(policy.recipe.phases[0])
    for weight in ("tokens", "enter.weight", "frames", "resampler.latents"):
        grad = found[f"net.codecs.plan.{weight}"]
        assert grad is not None
        assert bool((grad != 0).any())


@torch.no_grad()
def test_the_future_moves_the_posterior_branch_alone() -> None:
    policy = policy_of("being_h07")
    batch = nano_batch(policy.recipe)
    other = replace(batch, future={camera: frames.flip(1, 2) for camera, frames in batch.future.items()})
    ours, theirs = (policy.loss(one, generator=seeded()).terms for one in (batch, other))
    assert torch.equal(ours["action"], theirs["action"])
    for name in ("plan", "action_posterior"):
        assert not torch.equal(ours[name], theirs[name])


def test_views_that_are_aligned_are_a_prior_and_a_posterior_of_layers_that_exist() -> None:
    for stream, layers in (("plan", (6,)), ("plan", ()), ("state", (0,))):
        with pytest.raises(InputError, match=f"stream {stream}, Align"):
            being_h07().vary({f"stage.streams.{stream}.objective": Align(layers=layers)})
