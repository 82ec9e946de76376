"""Space-time blocks and what is built of them: who reads whom, what is counted, what a bottleneck holds."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from crossroads.codecs.masked_clip import MaskedClip, MaskedClipNet
from crossroads.codecs.motion_transformer import MotionTransformer, MotionTransformerNet, divergence, dreamdojo_blocks
from crossroads.codecs.space_time import SpaceTime, SpaceTimeNet
from crossroads.errors import InputError

BLOCKS = SpaceTime(width=8, heads=2, mlp=12, depth=2)
FORMS = [
    BLOCKS,
    replace(BLOCKS, qk_norm=True, qkv_bias=True),
    replace(BLOCKS, time_norm=False, out_bias=False, mlp_bias=False, rotary=True),
    replace(BLOCKS, over_time=False),
]


def seeded(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("spec", FORMS)
@torch.no_grad()
def test_weights_and_work_are_the_counted_ones(spec: SpaceTime) -> None:
    net = SpaceTimeNet(spec)
    assert sum(parameter.numel() for parameter in net.parameters()) == spec.num_parameters()
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        net(seeded(1, 3, 5, 8))
    assert counter.get_total_flops() == spec.flops(3, 5)


@pytest.mark.parametrize(
    ("spec", "reach"),
    [(BLOCKS, [1, 2]), (replace(BLOCKS, causal=False), [0, 1, 2]), (replace(BLOCKS, over_time=False), [1])],
)
@torch.no_grad()
def test_a_frame_reaches_those_that_may_read_it(spec: SpaceTime, reach: list[int]) -> None:
    net, x = SpaceTimeNet(spec), seeded(1, 3, 4, 8)
    other = x.clone()
    other[:, 1] += 1
    moved = (net(x) - net(other)).abs().amax(dim=(0, 2, 3)) > 0
    assert moved.nonzero().flatten().tolist() == reach


@torch.no_grad()
def test_frames_without_rotation_have_no_order_and_with_it_they_have() -> None:
    x = seeded(1, 3, 2, 8)
    for rotary in (False, True):
        torch.manual_seed(0)
        net = SpaceTimeNet(replace(BLOCKS, causal=False, rotary=rotary))
        assert torch.allclose(net(x.flip(1)).flip(1), net(x), atol=1e-5) == (not rotary)


def motion(codebook: int) -> MotionTransformer:
    return MotionTransformer(
        image_hw=(8, 12),
        patch=4,
        encoder=dreamdojo_blocks(8, 2, 1, causal=True),
        decoder=dreamdojo_blocks(8, 2, 1, causal=True),
        code_size=4,
        codebook=codebook,
    )


@pytest.mark.parametrize("codebook", [0, 5])
def test_a_change_is_read_of_frames_so_far_and_carried_by_the_latent_alone(codebook: int) -> None:
    """With causal blocks a later frame moves neither an earlier latent nor the frames that are made before it."""
    torch.manual_seed(0)
    net = MotionTransformerNet(motion(codebook))
    frames, noise = torch.rand(2, 4, 3, 8, 12), seeded(2, 3, 1, 4)
    other = frames.clone()
    other[:, 3] = 1 - other[:, 3]
    with torch.no_grad():
        one, two = net(frames, noise), net(other, noise)
    assert torch.equal(one.latent[:, :2], two.latent[:, :2])
    assert torch.equal(one.next[:, :2], two.next[:, :2])
    assert one.next.shape == (2, 3, 3, 8, 12)
    with torch.no_grad():
        torch.testing.assert_close(net.decoded(frames[:, :3], one.latent), one.next)
        torch.testing.assert_close(net.decoded(other[:, :3], one.latent), one.next)


def test_a_gaussian_owes_nothing_where_it_is_the_normal_one() -> None:
    assert divergence(torch.zeros(1, 2, 8)).tolist() == [[0.0, 0.0]]
    found = seeded(1, 2, 8).requires_grad_(True)
    mean, spread = found.chunk(2, dim=-1)
    ours = divergence(found)
    reference = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, (0.5 * spread).exp()), torch.distributions.Normal(0.0, 1.0)
    )
    torch.testing.assert_close(ours, reference.sum(dim=-1))


def test_codes_pass_the_gradient_straight_through_and_draw_entries_to_what_they_stand_for() -> None:
    torch.manual_seed(0)
    net = MotionTransformerNet(motion(5))
    made = net(torch.rand(2, 3, 3, 8, 12), seeded(2, 2, 1, 4))
    torch.testing.assert_close(made.latent, net.codebook[made.codes[..., 0]][:, :, None])
    (into_decoder,) = torch.autograd.grad(made.next.sum(), net.gather.weight, retain_graph=True)
    assert into_decoder.any()
    assert torch.autograd.grad(made.next.sum(), net.codebook, retain_graph=True, allow_unused=True)[0] is None
    (pulled,) = torch.autograd.grad(made.owed.sum(), net.codebook)
    assert set(pulled.abs().sum(dim=1).nonzero().flatten().tolist()) == set(made.codes.flatten().tolist())


CLIP = MaskedClip(num_frames=3, num_tokens=4, base=3, num_digits=2, blocks=SpaceTime(width=8, heads=2, mlp=16, depth=1))


def test_digits_and_numbers_are_inverse_to_each_other() -> None:
    tokens = torch.arange(CLIP.mask)
    assert torch.equal(CLIP.number(CLIP.digits(tokens)), tokens)
    assert CLIP.digits(torch.tensor(5)).tolist() == [2, 1]


@torch.no_grad()
def test_a_frame_is_written_once_and_what_is_kept_stays() -> None:
    torch.manual_seed(0)
    net = MaskedClipNet(CLIP)
    net.places.normal_()
    assert sum(parameter.numel() for parameter in net.parameters()) == CLIP.num_parameters()
    tokens = torch.full((2, 3, 4), CLIP.mask)
    tokens[:, 0] = torch.randint(0, CLIP.mask, (2, 4))
    seen: list[Tensor] = []

    def order(sure: Tensor) -> Tensor:
        seen.append(sure)
        return torch.arange(4.0).expand(2, 4)

    written = net.write(tokens, 1, 4, order)
    assert len(seen) == 3
    assert bool((written < CLIP.mask).all())
    assert [CLIP.masked_after(step, 4) for step in range(3)] == [4, 3, 2]  # none is kept, then the last one is
    at_once = net.spec.number(net(tokens)[:, 1].argmax(dim=-1))
    assert torch.equal(net.write(tokens, 1, 1, order), at_once)
    assert torch.equal(written[:, 3:], at_once[:, 3:])
    with pytest.raises(InputError, match="frame 2: expected a masked frame"):
        net.write(tokens.index_fill(1, torch.tensor(2), 0), 2, 2, order)


@torch.no_grad()
def test_actions_move_the_frames_from_theirs_on() -> None:
    torch.manual_seed(0)
    net, tokens = MaskedClipNet(CLIP), torch.zeros(1, 3, 4, dtype=torch.long)
    actions = torch.zeros(1, 3, 8)
    actions[:, 1, :4] = 1.0
    moved = (net(tokens, actions) - net(tokens)).abs().amax(dim=(0, 2, 3, 4)) > 1e-6
    assert moved.tolist() == [False, True, True]
