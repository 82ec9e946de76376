"""Encodes and decodes large frames in overlapping tiles, whose seams are blended.

Memory of an autoencoder grows with the picture; of a tile it does not. The tiles run apart, each through all its
frames, and are averaged where they overlap with weights that fade linearly towards a tile's inner edges. One tile that
covers the picture is the picture; several are near it and not equal, since convolutions see borders that are not there
and Wan's middle block attends over the whole frame. Not diffusers' ``enable_tiling``, which fails for Wan 2.2's form in
older releases (Wan-Video/Wan2.2 issue 125; 0.35.2 takes its space factor for 8 and cuts pixels where it has latents).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from crossroads.codecs.streaming import AutoencoderSpec
from crossroads.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """Tiles of ``tile_hw`` pixels, of which neighbours share at least ``overlap``; all in whole latents."""

    tile_hw: tuple[int, int]
    overlap: int

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < min(self.tile_hw):
            raise InputError(
                where="Tiling.overlap",
                expected=f"pixels from 0 to below the tile's smaller side, {min(self.tile_hw)}",
                got=str(self.overlap),
                do="Make the tiles larger or the overlap smaller; a quarter of a tile is usual.",
            )

    def in_latents(self, factor: int) -> Tiling:
        """The same tiles counted in latents of ``factor`` pixels a side."""
        sizes = (*self.tile_hw, self.overlap)
        if any(size % factor for size in sizes):
            raise InputError(
                where="Tiling",
                expected=f"multiples of the autoencoder's {factor} pixels per latent",
                got=f"tile_hw {self.tile_hw}, overlap {self.overlap}",
                do="Round them.",
            )
        return Tiling(tile_hw=(sizes[0] // factor, sizes[1] // factor), overlap=self.overlap // factor)


class Autoencoder(Protocol):
    """Pixels to latents and back, whole clips at a time."""

    @property
    def spec(self) -> AutoencoderSpec: ...

    def encode(self, pixels: Float[Tensor, "b t h w 3"]) -> Float[Tensor, "b t2 h2 w2 c"]: ...

    def decode(self, latent: Float[Tensor, "b t2 h2 w2 c"]) -> Float[Tensor, "b t h w 3"]: ...


@torch.no_grad()
def encode_tiled(net: Autoencoder, pixels: Float[Tensor, "b t h w 3"], tiling: Tiling) -> Float[Tensor, "b t2 h2 w2 c"]:
    """Pixels in -1..1 to normalised latents, tile by tile."""
    factor = net.spec.space_factor
    return _tiled(net.encode, pixels, tiling.in_latents(factor), inward=factor, outward=1)


@torch.no_grad()
def decode_tiled(net: Autoencoder, latent: Float[Tensor, "b t2 h2 w2 c"], tiling: Tiling) -> Float[Tensor, "b t h w 3"]:
    """Normalised latents to pixels in -1..1, tile by tile."""
    factor = net.spec.space_factor
    return _tiled(net.decode, latent, tiling.in_latents(factor), inward=1, outward=factor)


def _tiled(
    run: Callable[[Tensor], Tensor], x: Float[Tensor, "b t h w c"], tiling: Tiling, *, inward: int, outward: int
) -> Float[Tensor, "b t2 h2 w2 d"]:
    """``run`` on tiles counted in latents; a latent is ``inward`` numbers of ``x`` and ``outward`` of the result."""
    size_hw = x.shape[2] // inward, x.shape[3] // inward
    tile_hw = min(tiling.tile_hw[0], size_hw[0]), min(tiling.tile_hw[1], size_hw[1])
    if tile_hw == size_hw:
        return run(x)
    down, across = (_starts(size, tile, tiling.overlap) for size, tile in zip(size_hw, tile_hw, strict=True))
    total = weight = None
    for top in down:
        for left in across:
            tile = x[:, :, _span(top, tile_hw[0], inward), _span(left, tile_hw[1], inward)]
            found = run(tile).float()
            if total is None or weight is None:
                whole_hw = size_hw[0] * outward, size_hw[1] * outward
                total = found.new_zeros(*found.shape[:2], *whole_hw, found.shape[-1])
                weight = found.new_zeros(*whole_hw, 1)
            fade = (
                _fade(start, size, whole, tiling.overlap, outward, found.device)
                for start, size, whole in zip((top, left), tile_hw, size_hw, strict=True)
            )
            share = torch.outer(*fade)[..., None]
            place = _span(top, tile_hw[0], outward), _span(left, tile_hw[1], outward)
            total[:, :, *place] += share * found
            weight[place] += share
    assert total is not None
    assert weight is not None
    return total / weight


def _span(start: int, size: int, factor: int) -> slice:
    return slice(start * factor, (start + size) * factor)


def _starts(size: int, tile: int, overlap: int) -> list[int]:
    """Where tiles of one size begin so that they cover a side; the last is moved inward, and overlaps more."""
    num = 1 + -(-(size - tile) // max(tile - overlap, 1))
    return [min(index * (tile - overlap), size - tile) for index in range(num)]


def _fade(start: int, tile: int, whole: int, overlap: int, factor: int, device: torch.device) -> Float[Tensor, " n"]:
    """Weights along one side of a tile: 1, falling to almost 0 over the overlap where a neighbour takes over."""
    place = (torch.arange(tile * factor, device=device) + 0.5) / max(overlap * factor, 1)
    before = place if start > 0 else torch.ones_like(place)
    after = place.flip(0) if start + tile < whole else torch.ones_like(place)
    return torch.minimum(before, after).clamp(max=1.0)
