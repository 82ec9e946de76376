"""What a frozen encoder will say of the frame some steps ahead, read from learned queries as its pixels are.

DreamVLA (arXiv 2507.04447) foresees states of DINOv2 beside pixels. Without a published encoder these are histograms of
oriented gradients, which need no weights (Dalal and Triggs 2005; as a target: Wei et al. 2022, arXiv 2112.09133).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from crossroads.codecs.foreseen import FuturePatchCodec, FuturePatches, MaskedDecoder
from crossroads.codecs.published import vision_encoder
from crossroads.codecs.resampled import MEAN, STD


@dataclass(frozen=True, kw_only=True)
class Orientations:
    """How strong the edges of each of ``bins`` directions are in each square of ``cell`` pixels of a grey picture."""

    cell: int
    bins: int = 9

    @property
    def size(self) -> int:
        return self.bins

    def num(self, image_hw: tuple[int, int]) -> int:
        return (image_hw[0] // self.cell) * (image_hw[1] // self.cell)


@dataclass(frozen=True, kw_only=True)
class EncoderStates:
    """Final states of patches of a published vision transformer (DINOv2), ``size`` numbers each, of pictures ``square``
    pixels wide and high."""

    source: str
    size: int
    patch: int = 14
    square: int = 224

    def num(self, image_hw: tuple[int, int]) -> int:
        return (self.square // self.patch) ** 2


@dataclass(frozen=True, kw_only=True)
class FutureFeatures(FuturePatches):
    """As :class:`FuturePatches` with the rows of ``told_by``. Rows have length 1, so their squared distance is twice
    what is missing of their cosine. ``even`` and ``patch`` tell nothing here. The encoder's work is not counted: it is
    done once for each frame."""

    told_by: Orientations | EncoderStates

    @property
    def decoder(self) -> MaskedDecoder:
        return MaskedDecoder(
            num_queries=self.num_queries,
            num_masks=self.told_by.num(self.image_hw),
            size=self.told_by.size,
            depth=self.depth,
            heads=self.heads,
            marked=self.marked,
        )


class FutureFeatureCodec(FuturePatchCodec):
    """The module of :class:`FutureFeatures`."""

    spec: FutureFeatures

    @torch.no_grad()
    def rows(self, pictures: Float[Tensor, "b n 3 h w"]) -> Float[Tensor, "b n p c"]:
        return told_of(pictures, self.spec.told_by)

    def answered(self, rows: Float[Tensor, "m p c"]) -> Float[Tensor, "m p c"]:
        return functional.normalize(rows, dim=-1)


def told_of(pictures: Float[Tensor, "b n 3 h w"], told_by: Orientations | EncoderStates) -> Float[Tensor, "b n p c"]:
    """Rows of length 1; pixels from 0 to 1."""
    flat = rearrange(pictures, "b n c h w -> (b n) c h w")
    found = oriented(flat, told_by) if isinstance(told_by, Orientations) else states_of(flat, told_by)
    return rearrange(functional.normalize(found, dim=-1), "(b n) p c -> b n p c", n=pictures.shape[1])


def oriented(pictures: Float[Tensor, "m 3 h w"], spec: Orientations) -> Float[Tensor, "m p c"]:
    """Pixels from 0 to 1; an edge counts for its direction, which turns by half a circle, by its strength."""
    grey = functional.pad(pictures.mean(dim=1, keepdim=True), (1, 1, 1, 1), mode="replicate")[:, 0]
    across, down = grey[:, 1:-1, 2:] - grey[:, 1:-1, :-2], grey[:, 2:, 1:-1] - grey[:, :-2, 1:-1]
    direction = torch.atan2(down, across) % math.pi
    which = (direction / math.pi * spec.bins).long().clamp(max=spec.bins - 1)
    strength = functional.one_hot(which, spec.bins) * torch.hypot(across, down).unsqueeze(-1)
    return reduce(strength, "m (h p) (w q) c -> m (h w) c", "sum", p=spec.cell, q=spec.cell)


def states_of(pictures: Float[Tensor, "m 3 h w"], spec: EncoderStates) -> Float[Tensor, "m p c"]:
    """Pixels from 0 to 1."""
    square = functional.interpolate(pictures, size=(spec.square,) * 2, mode="bicubic", align_corners=False)
    mean, std = (square.new_tensor(part)[:, None, None] for part in (MEAN, STD))
    encoder = vision_encoder(spec.source).to(pictures.device)
    return encoder((square - mean) / std).last_hidden_state[:, 1:].float()
