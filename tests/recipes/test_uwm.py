"""UWM: one network, five questions; what it is told, and that what is held or given stands where it should."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from every_recipe import policy_of, prepared_batch, seeded
from nano_batch import ROBOT, nano_batch

from crossroads.axes import computed
from crossroads.build import build
from crossroads.codecs.stacked_latents import StackedCodec
from crossroads.errors import InputError
from crossroads.policy import StreamPolicy
from crossroads.recipe import diff
from crossroads.recipes.uwm import FORWARD, JOINT, POLICY, QUESTIONS, uwm, uwm_current
from crossroads.recipes.uwm_sizes import NANO
from crossroads.schedule import Denoise


@pytest.mark.parametrize("name", QUESTIONS)
def test_each_question_is_another_schedule_of_one_recipe(name: str) -> None:
    question = QUESTIONS[name]
    recipe = uwm(question=question)
    recipe.validate()
    assert recipe.stage.streams == uwm().stage.streams
    assert tuple(leg.streams for leg in recipe.stage.schedule if isinstance(leg, Denoise)) == question.legs
    assert computed(recipe).paradigm == question.paradigm


@pytest.fixture(scope="module")
def policy() -> StreamPolicy:
    return policy_of("uwm")


@torch.no_grad()
def test_both_levels_are_told_to_every_token_and_each_makes_a_difference(policy: StreamPolicy) -> None:
    prepared = prepared_batch(policy)
    names = frozenset(prepared.latents)
    inputs = policy.inputs(prepared, names, {})
    wanted = torch.cat([prepared.levels["action"], prepared.levels["video"]], dim=1)
    for name in ("action", "video", "registers"):
        heard = inputs[name].heard
        assert heard is not None
        assert torch.equal(heard, wanted)
    before = policy.net(inputs, {})
    for stream in ("action", "video"):
        levels = {**prepared.levels, stream: torch.full((2, 1), 0.31)}
        changed = {
            name: policy.net.embed(
                name,
                prepared.latents[name].shown,
                levels[name],
                {other: latent.valid for other, latent in prepared.latents.items()},
                levels=levels,
            )
            for name in names
        }
        after = policy.net(changed, {})
        for name in ("action", "video"):
            assert not torch.allclose(after[name].hidden, before[name].hidden, atol=1e-3), (stream, name)


def test_what_is_held_stays_noise_at_level_one_and_what_is_given_is_answered_with() -> None:
    recipe = uwm(question=FORWARD)
    forward = build(recipe, ROBOT, seed=1)
    batch = nano_batch(recipe)
    action = forward.net.target("action", batch).values
    settled = forward.settle(batch.obs, generator=seeded(), known={"action": action}).streams
    assert torch.equal(settled["action"], action)
    other = forward.settle(batch.obs, generator=seeded(), known={"action": action + 0.5}).streams
    assert not torch.allclose(settled["video"], other["video"])
    acting = build(uwm(question=POLICY), ROBOT, seed=1)
    found = acting.settle(batch.obs, generator=seeded())
    assert found.streams.keys() == {"action"}
    joint = build(uwm(question=JOINT), ROBOT, seed=1).imagine(batch.obs, generator=seeded())
    assert joint["front"].shape == (2, 2, 64, 64, 3)


def test_latents_of_frames_are_patched_and_taken_apart_again(policy: StreamPolicy) -> None:
    codec = policy.net.codec("video")
    assert isinstance(codec, StackedCodec)
    tokens = torch.randn(2, *codec.latent_shape("noised"))
    assert torch.equal(codec.patched(codec.unpatched(tokens)), tokens)
    batch = nano_batch(policy.recipe)
    first = codec.target(batch)
    turned = {camera: frames.flip(1) for camera, frames in batch.future.items()}
    z, flipped = (codec.unpatched(found.values) for found in (first, codec.target(replace(batch, future=turned))))
    torch.testing.assert_close(z.flip(2), flipped)  # each frame on its own
    valid = torch.ones(2, 2, dtype=torch.bool)
    valid[1, 1] = False
    assert codec.target(replace(batch, future_valid=valid)).valid.tolist() == [[True] * 16, [False] * 16]


def test_what_cannot_be_heard_is_refused() -> None:
    with pytest.raises(InputError, match="Flow or Diffusion"):
        uwm().vary({"stage.streams.registers.hears": ("image",)})
    with pytest.raises(InputError, match="the same of all streams"):
        uwm().vary({"stage.streams.registers.hears": ("action",)})


def test_without_registers_there_is_no_stream_of_them() -> None:
    bare = uwm(replace(NANO, registers=replace(NANO.registers, num=0)))
    bare.validate()
    assert {stream.name for stream in bare.stage.streams} == {"action", "video", "image", "text"}


def test_the_control_reconstructs_the_frame_that_is_seen_and_differs_in_nothing_else() -> None:
    """The paper's comparison: later frames against the present one, under the same loss, with the same network."""
    assert uwm_current().window.future_s == (0.0, 0.0)
    lines = diff(uwm(), uwm_current()).splitlines()[1:]
    assert lines
    assert all("future_s" in line for line in lines)
