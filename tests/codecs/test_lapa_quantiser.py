"""LAPA's quantiser: what noise substitution is, where gradients go, how the codebook is kept in use."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from crossroads.codecs.lapa_quantiser import LapaQuantiser, LapaQuantiserNet
from crossroads.errors import InputError

SPEC = LapaQuantiser(
    image_hw=(16, 16), patch=2, width=16, code_size=4, depth=1, time_depth=1, heads=2, head_dim=8, codebook=6
)


def made(spec: LapaQuantiser = SPEC) -> tuple[LapaQuantiserNet, Tensor, Tensor]:
    torch.manual_seed(0)
    net = LapaQuantiserNet(spec)
    return net, torch.rand(3, 2, 3, *spec.image_hw), torch.randn(3, 1, spec.num_codes, spec.code_size)


def test_the_noise_is_as_long_as_the_way_to_the_codebook() -> None:
    net, frames, noise = made()
    change = net.change(net.patches(frames))
    motion = net(frames, noise)
    latent, codes = net.latent(frames)
    assert torch.equal(codes, motion.codes)
    torch.testing.assert_close(latent, net.codebook[codes])
    far = (change - latent[:, 0]).norm(dim=-1)
    torch.testing.assert_close((motion.latent[:, 0] - change).norm(dim=-1), far)
    assert (far[..., None] <= torch.cdist(change, net.codebook) + 1e-6).all()


def test_the_gradient_reaches_the_entries_that_are_used_and_no_other() -> None:
    net, frames, noise = made()
    motion = net(frames, noise)
    ((motion.next - frames[:, 1:]) ** 2).mean().backward()
    assert net.codebook.grad is not None
    moved = net.codebook.grad.abs().sum(dim=1) > 0
    assert set(moved.nonzero().flatten().tolist()) == set(motion.codes.flatten().tolist())


@pytest.mark.parametrize("steps", [10, 11])
def test_entries_that_are_hardly_used_become_copies_of_the_others(steps: int) -> None:
    net, frames, noise = made()
    used = net.latent(frames)[1].unique()
    before = net.codebook.detach().clone()
    for _ in range(steps):
        net(frames, noise)
    scarce = [code for code in range(SPEC.codebook) if code not in used.tolist()]
    assert scarce
    torch.testing.assert_close(net.codebook[used], before[used], atol=0, rtol=0)
    copied = [any(torch.equal(net.codebook[code], before[other]) for other in used) for code in scarce]
    assert copied == [steps == 11] * len(scarce)  # the step after the tenth begins with it
    assert int(net.used.sum()) == 3 * SPEC.num_codes * (1 if steps == 11 else 10)


def test_nothing_is_counted_or_replaced_where_nothing_is_learned() -> None:
    net, frames, noise = made()
    with torch.no_grad():
        net(frames, noise)
    net.requires_grad_(False)
    net(frames, noise)
    net.requires_grad_(True).eval()
    net(frames, noise)
    assert (int(net.step), int(net.used.sum())) == (0, 0)


@pytest.mark.parametrize(("num", "patch"), [(1, 2), (2, 2), (16, 1), (64, 1)])
def test_other_numbers_of_codes_have_convolutions_of_their_own(num: int, patch: int) -> None:
    spec = replace(SPEC, num_codes=num, patch=patch)
    net, frames, noise = made(spec)
    assert net(frames, noise).codes.shape == (3, 1, num)
    assert sum(parameter.numel() for parameter in net.parameters()) == spec.num_parameters()


def test_a_grid_that_gives_another_number_of_codes_is_refused() -> None:
    with pytest.raises(InputError, match=r"LapaQuantiser\.num_codes: .*got 4 on 16 x 16 patches"):
        replace(SPEC, patch=1)
