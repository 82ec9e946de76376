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

from crossroads.codecs.streaming import CausalEncoder, Past
from crossroads.codecs.video_autoencoder import NanoAutoencoder
from crossroads.codecs.wan_autoencoder import WanAutoencoder
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

    def laid(self, size_hw: tuple[int, int]) -> tuple[tuple[int, int], tuple[list[int], list[int]]]:
        """The size of each tile of a picture, no larger than the picture, and the rows and columns where they start."""
        tile_hw = min(self.tile_hw[0], size_hw[0]), min(self.tile_hw[1], size_hw[1])
        starts = (_starts(size, tile, self.overlap) for size, tile in zip(size_hw, tile_hw, strict=True))
        return tile_hw, (next(starts), next(starts))

    def passes(self, size_hw: tuple[int, int]) -> tuple[int, tuple[int, int]]:
        """How many tiles a picture is, and their size."""
        tile_hw, (down, across) = self.laid(size_hw)
        return len(down) * len(across), tile_hw


@dataclass(frozen=True, kw_only=True)
class TiledAutoencoder:
    """An autoencoder in whose place it stands in a recipe, run on tiles where a picture is larger than one of them.

    Its memory is that of a tile then, its work that of all tiles, and its latents are near those of the whole picture.
    """

    whole: NanoAutoencoder | WanAutoencoder
    tiling: Tiling

    def __post_init__(self) -> None:
        self.tiling.in_latents(self.whole.space_factor)  # raises where tiles are not whole latents

    @property
    def channels(self) -> int:
        return self.whole.channels

    @property
    def space_factor(self) -> int:
        return self.whole.space_factor

    def latent_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        return self.whole.latent_hw(image_hw)

    def encode_flops(self, num_frames: int, image_hw: tuple[int, int]) -> int:
        num, tile_hw = self.tiling.passes(image_hw)
        return num * self.whole.encode_flops(num_frames, tile_hw)

    def decode_flops(self, num_latents: int, image_hw: tuple[int, int]) -> int:
        num, tile_hw = self.tiling.passes(image_hw)
        return num * self.whole.decode_flops(num_latents, tile_hw)

    def num_parameters(self) -> int:
        return self.whole.num_parameters()


class Autoencoder(CausalEncoder, Protocol):
    """Pixels to latents and back, whole clips or group by group."""

    def encode(self, pixels: Float[Tensor, "b t h w 3"]) -> Float[Tensor, "b t2 h2 w2 c"]: ...

    def decode(self, latent: Float[Tensor, "b t2 h2 w2 c"]) -> Float[Tensor, "b t h w 3"]: ...


@dataclass(frozen=True, kw_only=True)
class Tiled:
    """The network of :class:`TiledAutoencoder`: another's, run tile by tile."""

    net: Autoencoder
    spec: TiledAutoencoder

    @torch.no_grad()
    def encode(self, pixels: Float[Tensor, "b t h w 3"]) -> Float[Tensor, "b t2 h2 w2 c"]:
        """Pixels in -1..1 to normalised latents."""
        return self._inward(self.net.encode, pixels)

    @torch.no_grad()
    def encode_group(self, pixels: Float[Tensor, "b t h w 3"], past: Past) -> tuple[Float[Tensor, "b 1 h2 w2 c"], Past]:
        """The next group of a clip (``codecs.streaming``); each tile has a past, one stands behind the other."""
        num, _ = self.spec.tiling.passes((pixels.shape[2], pixels.shape[3]))
        size = len(past) // num
        pasts = [past[index * size : (index + 1) * size] for index in range(num)]

        def run(tile: Tensor) -> Tensor:
            latent, now = self.net.encode_group(tile, pasts.pop(0))
            pasts.append(now)
            return latent

        latent = self._inward(run, pixels)
        return latent, tuple(kept for part in pasts for kept in part)

    @torch.no_grad()
    def decode(self, latent: Float[Tensor, "b t2 h2 w2 c"]) -> Float[Tensor, "b t h w 3"]:
        """Normalised latents to pixels in -1..1."""
        factor = self.spec.space_factor
        return _tiled(self.net.decode, latent, self.spec.tiling.in_latents(factor), inward=1, outward=factor)

    def _inward(self, run: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
        factor = self.spec.space_factor
        return _tiled(run, pixels, self.spec.tiling.in_latents(factor), inward=factor, outward=1)


def _tiled(
    run: Callable[[Tensor], Tensor], x: Float[Tensor, "b t h w c"], tiling: Tiling, *, inward: int, outward: int
) -> Float[Tensor, "b t2 h2 w2 d"]:
    """``run`` on tiles counted in latents; a latent is ``inward`` numbers of ``x`` and ``outward`` of the result."""
    size_hw = x.shape[2] // inward, x.shape[3] // inward
    tile_hw, (down, across) = tiling.laid(size_hw)
    if tile_hw == size_hw:
        return run(x)
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
