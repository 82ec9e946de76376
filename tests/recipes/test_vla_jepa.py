"""VLA-JEPA: what the future may reach, and what teaches the latent actions."""

from __future__ import annotations

from dataclasses import replace

import torch
from every_recipe import fresh, policy_of, prepared_batch, seeded
from nano_batch import nano_batch

from crossroads.recipes.catalogue import recipe
from crossroads.stage import Phase


def test_acting_needs_no_predictor_and_no_latent_action_but_as_context() -> None:
    stage = recipe("vla_jepa").stage
    needed = stage.layout.needed(stage.outputs())
    assert {"video", "step"}.isdisjoint(needed)
    assert {"embodied", "latent", "image", "text", "state", "future", "action"} == needed


def test_the_next_frames_teach_the_latent_actions() -> None:
    policy = fresh(recipe("vla_jepa"))
    policy.enter(Phase(name="video", trains=("language", "predictor"), losses=("video",)))
    policy.losses(prepared_batch(policy), {}).total.sum().backward()
    latent = policy.net.get_parameter("codecs.latent.tokens").grad
    assert latent is not None
    assert bool((latent.abs().sum(dim=1) > 0).all())
    assert policy.net.get_parameter("codecs.embodied.tokens").grad is None


@torch.no_grad()
def test_a_later_frame_moves_no_earlier_prediction() -> None:
    """The loss of the first step is the same whatever the frames behind its target show."""
    policy = policy_of("vla_jepa")
    policy.enter(policy.recipe.phase("video"))
    batch = nano_batch(policy.recipe)
    only = torch.zeros_like(batch.future_valid)
    only[:, 0] = True
    ours = replace(batch, future_valid=only)
    frames = {name: torch.cat([clip[:, :1], 255 - clip[:, 1:]], dim=1) for name, clip in batch.future.items()}
    other = replace(ours, future=frames)
    first, second = (policy.loss(one, generator=seeded()).total for one in (ours, other))
    torch.testing.assert_close(first, second)
    assert not torch.equal(
        policy.loss(replace(other, future_valid=batch.future_valid), generator=seeded()).total, first
    )
