"""Tiles are the picture where one covers it or nothing looks across their seams, and near it with a real network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from einops import reduce, repeat
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from wan_twin import FORMS, tiny_wan

from crossroads.codecs.tiling import Tiling, decode_tiled, encode_tiled
from crossroads.codecs.video_autoencoder import NanoAutoencoder, NanoAutoencoderNet
from crossroads.codecs.wan_autoencoder import WanAutoencoderNet
from crossroads.errors import InputError

SPEC = NanoAutoencoder(channels=3, width=8)


class Averages:
    """An autoencoder without a view beyond its own latent; it counts the pixels of its largest call."""

    def __init__(self) -> None:
        self.spec, self.largest = SPEC, 0

    def encode(self, pixels: Tensor) -> Tensor:
        self.largest = max(self.largest, pixels.shape[2] * pixels.shape[3])
        return reduce(pixels, "b t (h p) (w q) c -> b t h w c", "mean", p=8, q=8)

    def decode(self, latent: Tensor) -> Tensor:
        self.largest = max(self.largest, latent.shape[2] * latent.shape[3] * 64)
        return repeat(latent, "b t h w c -> b t (h p) (w q) c", p=8, q=8)


SIDES = st.integers(1, 9)


@given(SIDES, SIDES, SIDES, SIDES, st.integers(0, 8))
def test_tiles_of_a_network_that_sees_no_neighbours_are_the_picture(
    rows: int, columns: int, high: int, wide: int, overlap: int
) -> None:
    tiling = Tiling(tile_hw=(8 * high, 8 * wide), overlap=8 * min(overlap, high - 1, wide - 1))
    net, generator = Averages(), torch.Generator().manual_seed(0)
    pixels = torch.rand(1, 2, 8 * rows, 8 * columns, 3, generator=generator)
    latent = net.encode(pixels)
    shown = net.decode(latent)
    net.largest = 0
    torch.testing.assert_close(encode_tiled(net, pixels, tiling), latent)
    torch.testing.assert_close(decode_tiled(net, latent, tiling), shown)
    assert net.largest <= 64 * high * wide  # nothing larger than a tile ever went through


def smooth(frames: int, hw: tuple[int, int]) -> Tensor:
    """A clip that changes slowly over the picture, as pictures do."""
    coarse = torch.rand(frames, 3, 4, 6, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return functional.interpolate(coarse, size=hw, mode="bilinear").permute(0, 2, 3, 1)[None]


def off(found: Tensor, expected: Tensor) -> float:
    """Root of the mean squared difference, in standard deviations of what was expected."""
    return float((found - expected).pow(2).mean().sqrt() / expected.std())


def nano(folder: Path) -> NanoAutoencoderNet:
    torch.manual_seed(0)
    return NanoAutoencoderNet(SPEC)


def wan_22(folder: Path) -> WanAutoencoderNet:
    return WanAutoencoderNet(tiny_wan(FORMS[1], folder)[0])


# Measured with these random weights: 0.051 and 0.040; 0.124 and 0.295, Wan's middle attending over the whole frame.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "frames", "side", "encode_bound", "decode_bound"),
    [
        (nano, 5, 32, 0.07, 0.06),
        pytest.param(wan_22, 1, 32, 0.15, 0.35, marks=pytest.mark.peer),
    ],
)
@torch.no_grad()
def test_overlapping_tiles_are_near_the_untiled_picture_and_nearer_than_tiles_set_edge_to_edge(
    make: Callable[[Path], Any], frames: int, side: int, encode_bound: float, decode_bound: float, tmp_path: Path
) -> None:
    net = make(tmp_path)
    pixels = smooth(frames, (4 * side, 6 * side))
    z = net.encode(pixels)
    shown = net.decode(z)
    blended, cut = (Tiling(tile_hw=(3 * side, 3 * side), overlap=overlap) for overlap in (side, 0))
    coded, seen = off(encode_tiled(net, pixels, blended), z), off(decode_tiled(net, z, blended), shown)
    assert 0 < coded < encode_bound
    assert 0 < seen < decode_bound
    assert coded < off(encode_tiled(net, pixels, cut), z)
    assert seen < off(decode_tiled(net, z, cut), shown)
    whole = Tiling(tile_hw=(4 * side, 8 * side), overlap=side)
    assert torch.equal(encode_tiled(net, pixels, whole), z)
    assert torch.equal(decode_tiled(net, z, whole), shown)


def test_tiles_that_are_not_whole_latents_or_overlap_wholly_are_refused() -> None:
    with pytest.raises(InputError, match=r"multiples of the autoencoder's 8 pixels per latent, got .*overlap 12"):
        encode_tiled(Averages(), smooth(1, (128, 128)), Tiling(tile_hw=(64, 64), overlap=12))
    with pytest.raises(InputError, match="below the tile's smaller side, 32, got 32"):
        Tiling(tile_hw=(32, 64), overlap=32)
