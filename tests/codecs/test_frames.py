"""Numbers as latent frames and cameras one after another in time: round trips, places, and whose weights are used."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from nano_batch import ROBOT, nano_batch

from crossroads.build import build
from crossroads.codecs.frames import ActionFrameCodec, FrameCodec, StateFrameCodec, ValueFrameCodec
from crossroads.codecs.latents import LatentEnds
from crossroads.codecs.slots import CameraSlots, SlotCodec
from crossroads.codecs.video_autoencoder import NanoAutoencoder
from crossroads.errors import InputError
from crossroads.policy import StreamPolicy
from crossroads.recipes.cosmos_policy import cosmos_policy
from crossroads.recipes.cosmos_policy_sizes import NANO
from crossroads.types import Batch


@pytest.fixture(scope="module")
def policy() -> StreamPolicy:
    return build(cosmos_policy(), ROBOT, seed=0)


@pytest.fixture(scope="module")
def batch() -> Batch:
    return nano_batch(cosmos_policy())


def test_actions_state_and_value_come_back_from_their_frames(policy: StreamPolicy, batch: Batch) -> None:
    action, later, value = (policy.net.codec(name) for name in ("action", "future_state", "value"))
    assert isinstance(action, ActionFrameCodec)
    assert isinstance(later, StateFrameCodec)
    assert isinstance(value, ValueFrameCodec)
    torch.testing.assert_close(action.decode(action.target(batch).values)[0], batch.actions[0])
    torch.testing.assert_close(later.decode(later.target(batch).values), batch.later_state[:, 0])
    torch.testing.assert_close(value.decode(value.target(batch).values), batch.value)


def test_a_chunk_that_its_episode_cuts_off_holds_its_last_action_and_one_without_actions_counts_for_nothing(
    policy: StreamPolicy, batch: Batch
) -> None:
    codec = policy.net.codec("action")
    assert isinstance(codec, ActionFrameCodec)
    valid = batch.actions_valid.clone()
    valid[0], valid[1] = torch.arange(valid.shape[1]) < 5, False
    latent = codec.target(replace(batch, actions_valid=valid))
    assert latent.valid.all(dim=1).tolist() == [True, False]
    read = codec.decode(latent.values)
    torch.testing.assert_close(read[0, :5], batch.actions[0, :5])
    torch.testing.assert_close(read[0, 5:], batch.actions[0, 4].expand(7, -1))


def test_frames_use_the_video_streams_own_maps_and_no_others(policy: StreamPolicy) -> None:
    video, action = policy.net.codec("video"), policy.net.codec("action")
    assert isinstance(video, LatentEnds)
    latent = torch.randn(2, 64, 16)
    zero = torch.zeros(2, 1)
    assert torch.equal(action.embed(latent, zero), video.embed(latent, zero))
    assert torch.equal(action.read(video.embed(latent, zero)), video.read(video.embed(latent, zero)))
    names = [name for name, _ in policy.named_parameters() if ".codecs." in name]
    assert {name.split(".")[2] for name in names} == {"video", "text"}


def test_every_latent_frame_of_the_clip_has_one_owner(policy: StreamPolicy) -> None:
    times = []
    for name, group in policy.net.layout.groups.items():
        codec = policy.net.codec(name)
        if isinstance(codec, FrameCodec | SlotCodec):
            grid = codec.grid(group.view.kind, group.stream.codec.num_tokens(group.view.kind))
            times += grid[:, 0].unique().tolist()
    assert sorted(times) == list(range(7))


def test_what_is_observed_of_a_clip_is_what_the_whole_clip_gives(policy: StreamPolicy, batch: Batch) -> None:
    """The autoencoder is causal: the frames of now do not depend on what comes after them."""
    codec = policy.net.codec("video")
    assert isinstance(codec, SlotCodec)
    now = codec.observe(batch.obs)
    pictures = {2: batch.obs.images["front"], 5: batch.future["front"][:, 0]}
    clip = codec._blank(2, "noised")
    for slot, picture in pictures.items():
        clip[:, 4 * slot - 3 : 4 * slot + 1] = picture[:, None].float() / 127.5 - 1
    whole = codec.autoencoder.encode(clip)
    torch.testing.assert_close(codec.pictures(now.values), whole[:, [0, 2]])
    torch.testing.assert_close(codec.pictures(codec.target(batch).values), whole[:, [5]])


def test_places_that_cannot_be_a_clip_are_refused() -> None:
    made = {"image_hw": (64, 64), "after_s": 1.2, "autoencoder": NanoAutoencoder()}
    for cameras, now, future in (
        (("front",), (0,), (5,)),
        (("front",), (2,), (2,)),
        (("front", "wrist"), (2,), (5, 6)),
        (("front",), (5,), (2,)),
    ):
        with pytest.raises(InputError, match="CameraSlots"):
            CameraSlots(cameras=cameras, now=now, future=future, **made)
    assert NANO.video.num_frames("now") == 9
    assert NANO.video.num_frames("noised") == 21
