"""The nano autoencoder is causal in time, 4x in time and 8x in space, and costs what its description says."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from crossroads.codecs.video_autoencoder import NanoAutoencoder, NanoAutoencoderNet

SPEC = NanoAutoencoder(channels=4, width=8)


def pixels(frames: int) -> torch.Tensor:
    return torch.rand(1, frames, 16, 24, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("frames", [1, 5, 9])
@torch.no_grad()
def test_time_shrinks_by_four_after_the_first_frame_and_space_by_eight(frames: int) -> None:
    net = NanoAutoencoderNet(SPEC)
    z = net.encode(pixels(frames))
    assert z.shape == (1, 1 + (frames - 1) // 4, 2, 3, 4)
    assert net.decode(z).shape == (1, frames, 16, 24, 3)


@torch.no_grad()
def test_encoding_is_causal_so_the_first_frame_streamed_is_the_first_latent() -> None:
    net = NanoAutoencoderNet(SPEC)
    whole = net.encode(pixels(9))
    for frames in (1, 5):
        torch.testing.assert_close(net.encode(pixels(9)[:, :frames]), whole[:, : 1 + (frames - 1) // 4])
    changed = pixels(9)
    changed[:, 5:] = 0
    assert torch.equal(net.encode(changed)[:, :2], whole[:, :2])
    assert not torch.equal(net.encode(changed)[:, 2:], whole[:, 2:])


@torch.no_grad()
def test_decoding_is_causal() -> None:
    net = NanoAutoencoderNet(SPEC)
    z = net.encode(pixels(9))
    torch.testing.assert_close(net.decode(z[:, :2]), net.decode(z)[:, :5])


@torch.no_grad()
def test_latents_are_normalised_per_channel_on_the_way_in_and_restored_on_the_way_out() -> None:
    net = NanoAutoencoderNet(SPEC)
    plain = net.encode(pixels(5))
    shown = net.decode(plain)
    net.mean.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    net.std.copy_(torch.tensor([0.5, 1.0, 2.0, 4.0]))
    torch.testing.assert_close(net.encode(pixels(5)), (plain - net.mean) / net.std)
    torch.testing.assert_close(net.decode(net.encode(pixels(5))), shown, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frames", [1, 5, 9])
@torch.no_grad()
def test_its_cost_and_size_are_what_the_description_says(frames: int) -> None:
    net = NanoAutoencoderNet(SPEC)
    with FlopCounterMode(display=False) as encode:
        z = net.encode(pixels(frames))
    with FlopCounterMode(display=False) as decode:
        net.decode(z)
    assert SPEC.encode_flops(frames, (16, 24)) == encode.get_total_flops()
    assert SPEC.decode_flops(z.shape[1], (16, 24)) == decode.get_total_flops()
    assert SPEC.num_parameters() == sum(parameter.numel() for parameter in net.parameters())
