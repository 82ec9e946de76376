"""Diffusion Policy: what it glances back at, where its chunk begins, and what its keypoints are."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from every_recipe import close, policy_of, seeded
from nano_batch import nano_batch

from crossroads.build import build_net
from crossroads.codecs.action_tokens import ActionCodec
from crossroads.codecs.keypoints import mean_places
from crossroads.errors import InputError
from crossroads.net import StreamNet
from crossroads.policy import StreamPolicy
from crossroads.recipe import Recipe
from crossroads.recipes.diffusion_policy import diffusion_policy
from crossroads.recipes.diffusion_policy_sizes import NANO
from crossroads.types import Batch, Observation

every_name = pytest.mark.parametrize("name", ["diffusion_policy", "diffusion_policy_transformer"])


def at_present(batch: Batch) -> Observation:
    """The second moment of a window, with the first before it."""
    images = {camera: frames[:, 0] for camera, frames in batch.future.items()}
    return replace(batch.obs, images=images, state=batch.later_state[:, 0], before=(batch.obs,))


@every_name
def test_a_training_window_shows_what_acting_sees_at_its_second_step(name: str) -> None:
    policy = policy_of(name)
    batch = nano_batch(policy.recipe)
    latents = policy.prepare(batch, policy.groups(), seeded()).latents
    for group in ("image", "state", "text"):
        seen = policy.net.observe(group, at_present(batch))
        assert torch.equal(seen.values, latents[group].values)
        assert torch.equal(seen.valid, latents[group].valid)


@every_name
def test_a_moment_with_nothing_before_it_stands_twice_and_one_before_it_is_read(name: str) -> None:
    policy = policy_of(name)
    obs = at_present(nano_batch(policy.recipe))
    alone = replace(obs, before=())

    def acted(shown: Observation) -> torch.Tensor:
        return policy.act(shown, policy.start(2), generator=seeded())[0].values

    assert torch.equal(acted(alone), acted(replace(alone, before=(alone,))))
    assert not torch.allclose(acted(alone), acted(obs))
    assert not torch.allclose(acted(obs), acted(obs.told(("close the drawer", "reach the ball"))))


@every_name
def test_a_chunk_begins_at_the_present_which_is_its_second_step(name: str) -> None:
    policy = policy_of(name)
    obs, stage = nano_batch(policy.recipe).obs, policy.recipe.stage
    assert (policy.before_s, policy.passed_s, stage.glances, stage.looks_back) == ((0.1,), (), 2, 1)
    assert policy.recipe.chunk.num_actions == policy.recipe.window.num_actions - 1
    settled, codec = policy.settle(obs, generator=seeded()), policy.net.codec("action")
    assert isinstance(codec, ActionCodec)
    whole = policy.space.clamp(codec.decode(settled.streams["action"]))
    close(policy.act(obs, policy.start(2), generator=seeded())[0].values, whole[:, 1:])


def test_keypoints_stand_where_their_maps_are_bright_each_camera_with_an_eye_of_its_own() -> None:
    maps = torch.zeros(1, 2, 3, 5)
    maps[0, 0, 2, 0] = 100.0
    close(mean_places(maps), torch.tensor([[[1.0, -1.0], [0.0, 0.0]]]))
    two = recipe_of_two_cameras()
    policy = StreamPolicy(two, policy_net(two), policy_of("diffusion_policy").space)
    batch = nano_batch(two)
    found = policy.net.codec("image").embed(policy.net.observe("image", at_present(batch)).values, torch.zeros(2, 1))
    seen = at_present(batch)
    swapped = {"front": seen.images["wrist"], "wrist": seen.images["front"]}
    other = policy.net.observe("image", replace(seen, images=swapped)).values
    moved = policy.net.codec("image").embed(other, torch.zeros(2, 1))
    close(moved[:, :2], found[:, :2])  # the moment before
    assert not torch.allclose(moved[:, 2:], found[:, 2:].flip(1))


def recipe_of_two_cameras() -> Recipe:
    seen = NANO.denoiser.seen
    assert seen is not None
    image = replace(NANO.image, cameras=("front", "wrist"))
    return diffusion_policy(replace(NANO, image=image, denoiser=replace(NANO.denoiser, seen=replace(seen, cameras=2))))


def policy_net(recipe: Recipe) -> StreamNet:
    torch.manual_seed(0)
    return build_net(recipe.stage)


def test_numbers_that_enter_as_they_are_need_a_tower_as_wide() -> None:
    wide = replace(NANO, denoiser=replace(NANO.denoiser, width=6))
    with pytest.raises(InputError, match=r"BareActions.*\(4\), got 6"):
        policy_net(diffusion_policy(wide))
