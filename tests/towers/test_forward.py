"""Towers that are called as a whole: clips do not mix, padding is not read, taps have the sizes that are told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from crossroads.errors import InputError
from crossroads.towers.forward import ForwardTower, Told, read_tokens, read_width
from crossroads.towers.mdt import MdtDecoder, MdtEncoder
from crossroads.towers.spec import Context
from crossroads.towers.video_former import VideoFormer
from crossroads.towers.video_unet import VideoUNet

UNET = VideoUNet(
    frames=2,
    latent_hw=(4, 4),
    channels=3,
    beside=3,
    block_channels=(8, 8),
    heads=(1, 1),
    context_width=6,
    attends=(True, False),
    layers=(1, 1),
    time_id_width=4,
    groups=4,
)
FORMER = VideoFormer(width=8, depth=2, heads=2, head_dim=4, context_width=5, frames=3, per_frame=2)
DECODER = MdtDecoder(width=8, depth=2, heads=2, context_width=8)


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def reading(hidden: torch.Tensor, valid: torch.Tensor | None = None) -> tuple[Context, ...]:
    return (Context(hidden=hidden, valid=torch.ones(hidden.shape[:2], dtype=torch.bool) if valid is None else valid),)


def made(spec: ForwardTower) -> Any:
    torch.manual_seed(0)
    return spec.frame().eval()


@torch.no_grad()
def test_clips_of_one_call_are_those_of_two_and_taps_have_the_sizes_that_are_told() -> None:
    frame, x, words = made(UNET), drawn(1, 2 * UNET.clip, 6), drawn(1, 3, 6)
    level = torch.tensor([[0.2, 0.9]])
    both = Told(level=level, contexts=reading(words))
    answer = frame.enter(x, both)
    for index in range(2):
        told = Told(level=level[:, index : index + 1], contexts=reading(words))
        part = slice(index * UNET.clip, (index + 1) * UNET.clip)
        torch.testing.assert_close(frame.enter(x[:, part], told), answer[:, part])
    for at in range(UNET.num_taps):
        assert both.taps[at].shape == (1, read_tokens(UNET, 2 * UNET.clip, at), read_width(UNET, at))


@torch.no_grad()
def test_words_that_are_not_there_change_nothing() -> None:
    frame, x, words = made(UNET), drawn(2, UNET.clip, 6), drawn(2, 4, 6)
    short = frame.enter(x, Told(level=torch.full((2, 1), 0.5), contexts=reading(words[:, :2])))
    valid = torch.tensor([[True, True, False, False]]).expand(2, -1)
    padded = frame.enter(x, Told(level=torch.full((2, 1), 0.5), contexts=reading(words, valid)))
    torch.testing.assert_close(padded, short)
    assert not torch.allclose(frame.enter(x, Told(level=torch.full((2, 1), 0.5), contexts=reading(words))), short)


def test_norms_of_fewer_groups_are_made_here_and_nowhere_else() -> None:
    groups = {part.num_groups for part in made(UNET).modules() if isinstance(part, nn.GroupNorm)}
    assert groups == {UNET.groups}
    assert nn.GroupNorm(2, 8).num_groups == 2
    assert nn.GroupNorm.__module__.startswith("torch")


def test_a_unet_without_words_or_with_tuples_of_two_lengths_says_so() -> None:
    with pytest.raises(InputError, match="cross edge from the words"):
        made(UNET).enter(drawn(1, UNET.clip, 6), Told(level=torch.ones(1, 1), contexts=()))
    with pytest.raises(InputError, match="each of 2 blocks"):
        replace(UNET, heads=(1, 1, 1))


@pytest.mark.parametrize("over_time", [True, False])
def test_frames_meet_in_the_video_former_only_over_time(over_time: bool) -> None:
    spec = replace(FORMER, over_time=over_time)
    features = drawn(1, 3 * 4, 5).requires_grad_()
    out = made(spec).enter(drawn(1, 6, 8), Told(level=torch.zeros(1, 1), contexts=reading(features)))
    (grad,) = torch.autograd.grad(out[:, :2].square().sum(), features)  # of the first frame's tokens
    seen = (grad != 0).any(dim=-1).reshape(3, 4)
    assert bool(seen[0].all())
    assert bool(seen[1:].all()) if over_time else not bool(seen[1:].any())


@torch.no_grad()
def test_features_of_two_cameras_meet_frame_by_frame() -> None:
    spec = replace(FORMER, cameras=2, over_time=False)
    one, other = drawn(2, 1, 3, 2, 5)
    frame, tokens = made(spec), drawn(1, 6, 8)
    behind = torch.cat([one.flatten(1, 2), other.flatten(1, 2)], dim=1)
    told = Told(level=torch.zeros(1, 1), contexts=reading(behind))
    beside = frame.gathered(tokens.unflatten(1, (3, 2)), torch.cat([one, other], dim=2))
    torch.testing.assert_close(frame.enter(tokens, told), beside)


@pytest.mark.parametrize("causal", [True, False])
def test_an_action_depends_on_no_later_action_and_on_later_states_only_as_the_switch_says(causal: bool) -> None:
    frame = made(replace(DECODER, causal_reading=causal))
    actions, states = drawn(1, 3, 8).requires_grad_(), drawn(1, 5, 8).requires_grad_()
    out = frame.enter(actions, Told(level=torch.full((1, 1), 0.5), contexts=reading(states)))
    own, read = torch.autograd.grad(out[:, 1].square().sum(), (actions, states))
    assert (own != 0).any(dim=-1).tolist() == [[True, True, False]]
    assert (read != 0).any(dim=-1).sum() == (2 if causal else 5)


@torch.no_grad()
def test_an_encoder_leaves_goal_features_and_state_at_its_tap_and_reads_no_padding() -> None:
    spec = MdtEncoder(width=8, depth=1, heads=2, context_width=5, image_width=6, num_seen=4)
    frame, seen, words, state = made(spec), drawn(1, 4, 5), drawn(1, 3, 6), drawn(1, 1, 8)
    valid = torch.tensor([[True, True, False]])
    told = [
        Told(level=torch.zeros(1, 1), contexts=(*reading(seen), *goal))
        for goal in (reading(words, valid), reading(words[:, :2]))
    ]
    out = [frame.enter(state, each) for each in told]
    torch.testing.assert_close(told[0].taps[0], told[1].taps[0])
    assert told[0].taps[0].shape == (1, read_tokens(spec, 1, 0), 8)
    torch.testing.assert_close(told[0].taps[0][:, -1:], out[0])
    with pytest.raises(InputError, match="only one of them"):
        frame.enter(state, Told(level=torch.zeros(1, 1), contexts=reading(seen)))
