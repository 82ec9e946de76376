"""UVA: one pass of the transformer for a chunk, frames to come that teach and are not needed to act."""

from __future__ import annotations

import torch
from every_recipe import close, policy_of, seeded
from nano_batch import nano_batch

from crossroads.codecs.bare_latents import BareLatentCodec


def test_the_frames_are_learned_beside_the_actions_and_left_out_in_acting() -> None:
    policy = policy_of("uva")
    layout, batch = policy.net.layout, nano_batch(policy.recipe)
    assert "video" not in layout.needed(["action"])
    assert layout.stable(["action"]) >= {"image", "text"}  # the transformer runs once for a chunk
    before = policy.settle(batch.obs, generator=seeded()).streams["action"]
    moved = [weight for name, weight in policy.net.named_parameters() if ".video_head." in name]
    with torch.no_grad():
        for weight in moved:
            weight.add_(1.0)
    assert moved
    assert torch.equal(policy.settle(batch.obs, generator=seeded()).streams["action"], before)
    policy.zero_grad()
    policy.loss(batch, generator=seeded()).terms["video"].sum().backward()
    transformer = [weight for name, weight in policy.net.named_parameters() if ".model." in name]
    assert transformer
    assert all(weight.grad is not None and bool((weight.grad != 0).any()) for weight in transformer)


def test_the_frame_of_now_stands_in_the_place_of_each_frame() -> None:
    policy = policy_of("uva")
    codec, obs = policy.net.codec("image"), nano_batch(policy.recipe).obs
    assert isinstance(codec, BareLatentCodec)
    first, second = codec.observe(obs).values.chunk(2, dim=1)
    assert torch.equal(first, second)
    pictures = obs.images["front"][:, None]
    close(codec.unpatched(first.repeat(1, 2, 1))[:, 0, 0], codec._encoded(pictures)[:, 0])
