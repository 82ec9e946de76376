"""Genie's latent actions: the loss is the published sum, and actions are read of codes alone."""

from __future__ import annotations

import torch
from every_recipe import fresh, policy_of, seeded
from nano_batch import nano_batch

from crossroads.codecs.motion import MotionClipCodec
from crossroads.recipes.catalogue import recipe


@torch.no_grad()
def test_the_loss_is_the_error_of_the_pixels_plus_what_the_codes_owe() -> None:
    policy = fresh(recipe("genie_lam"))
    policy.enter(policy.recipe.phase("latent_actions"))
    batch = nano_batch(policy.recipe)
    codec = policy.net.own_codec("motion")
    assert isinstance(codec, MotionClipCodec)
    frames = codec.frames(batch)
    made = codec.model(frames, torch.zeros(2, 4, 1, 16))
    expected = ((made.next - frames[:, 1:]) ** 2).mean(dim=(1, 2, 3, 4)) + made.owed
    torch.testing.assert_close(policy.loss(batch, generator=seeded()).terms["motion"], expected)


def test_actions_are_read_of_what_stands_at_the_codes() -> None:
    layout = recipe("genie_lam").stage.layout
    read = {edge.src for edge in layout.edges if edge.dst == "action"}
    assert read == {"action", "latent"}
    assert "motion" not in layout.needed(recipe("genie_lam").stage.outputs())


@torch.no_grad()
def test_as_many_codes_are_written_as_there_are_transitions() -> None:
    policy = policy_of("genie_lam")
    settled = policy.settle(nano_batch(policy.recipe).obs, generator=seeded())
    written = settled.streams["latent"]
    assert written.shape == (2, 4)
    assert int(written.max()) < 8
