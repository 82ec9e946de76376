"""The frame some steps ahead, read from learned queries by a small decoder over masked patches.

GR-1 (arXiv 2312.13139) and Seer (arXiv 2412.15109), after masked autoencoders (He et al. 2022, arXiv 2111.06377): the
states of a camera's queries stand before one mask for each patch, two layers read them all, and what is left at the
masks are pixels. Each patch of the target has mean 0 and deviation 1, so a prediction is no picture by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from crossroads.codecs.fused_pixels import ExactLayer, VisionTower
from crossroads.codecs.resampled import MEAN, STD
from crossroads.codecs.spec import Latent
from crossroads.codecs.steps import Steps
from crossroads.streams import ViewKind, linear_flops, linear_parameters
from crossroads.towers.spec import axis_angles
from crossroads.types import Batch, Observation, Window


@dataclass(frozen=True, kw_only=True)
class MaskedDecoder:
    """``depth`` layers as wide as the tower, over ``num_queries`` states and ``num_masks`` masks, to rows of ``size``
    numbers. ``marked``: the queries have places as the masks do."""

    num_queries: int
    num_masks: int
    size: int
    depth: int = 2
    heads: int = 16
    marked: bool = False

    def layer(self, width: int) -> VisionTower:
        return VisionTower(width=width, mlp=4 * width, depth=1, heads=self.heads)

    def num_parameters(self, width: int) -> int:
        w, inner = width, linear_parameters(width, 4 * width) + linear_parameters(4 * width, width)
        layer = 4 * w + linear_parameters(w, 3 * w) + linear_parameters(w, w) + inner
        return linear_parameters(w, w) + w + self.depth * layer + 2 * w + linear_parameters(w, self.size)

    def flops(self, width: int) -> int:
        """One set of queries."""
        num = self.num_queries + self.num_masks
        layer = linear_flops(num, width, 12 * width) + 2 * linear_flops(num, width, num)
        ends = linear_flops(self.num_queries, width, width) + linear_flops(self.num_masks, width, self.size)
        return self.depth * layer + ends


class DecoderLayer(ExactLayer):
    """timm's block with PyTorch's own epsilon."""

    def __init__(self, spec: VisionTower) -> None:
        super().__init__(spec)
        self.norm_attention.eps = self.norm_mlp.eps = 1e-5


class MaskedDecoderNet(nn.Module):
    """The module of :class:`MaskedDecoder`; places are fixed."""

    places: Tensor

    def __init__(self, spec: MaskedDecoder, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.enter, self.mask = nn.Linear(width, width), nn.Parameter(0.02 * torch.randn(width))
        known = [square_places(spec.num_queries, width)] if spec.marked else []
        self.register_buffer("places", torch.cat([*known, square_places(spec.num_masks, width)]))
        self.layers = nn.ModuleList([DecoderLayer(spec.layer(width)) for _ in range(spec.depth)])
        self.norm, self.leave = nn.LayerNorm(width), nn.Linear(width, spec.size)

    def forward(self, states: Float[Tensor, "b q w"]) -> Float[Tensor, "b p c"]:
        masks = repeat(self.mask, "w -> b p w", b=len(states), p=self.spec.num_masks)
        x, places = torch.cat([self.enter(states), masks], dim=1), self.places
        missing = x.shape[1] - len(places)
        x = x + torch.cat([places.new_zeros(missing, places.shape[1]), places])
        for layer in self.layers:
            x = layer(x)
        return self.leave(self.norm(x[:, self.spec.num_queries :]))


def square_places(num: int, width: int) -> Float[Tensor, "n w"]:
    """Fixed sinusoids of columns, then of rows, of a square grid (MAE's ``get_2d_sincos_pos_embed``); of numbers on a
    line where ``num`` is no square."""
    side = round(num**0.5)
    index = torch.arange(num)
    axes = (index % side, index // side) if side**2 == num else (index, torch.zeros(num))
    angles = [axis_angles(axis[:, None].float(), (width // 2,), 1e4) for axis in axes]
    waves = torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1).float()
    return nn.functional.pad(waves, (0, width - waves.shape[1]))[:, :width]


@dataclass(frozen=True, kw_only=True)
class FuturePatches:
    """At each of ``steps`` and for each camera ``num_queries`` queries for the frame ``steps.ahead`` later.

    ``patch``: pixels of a target's patch, of pictures resized as in ``image_hw``. ``even``: each patch is divided by
    its deviation plus 1e-6 ("deviation", GR-1) or by the root of its variance plus 1e-6 ("variance", Seer), or is left
    as it is (None). ``placed``: queries are told their step; ``marked``: they have
    places in the decoder. One decoder serves all cameras.
    """

    cameras: tuple[str, ...]
    image_hw: tuple[int, int]
    patch: int
    num_queries: int
    steps: Steps
    depth: int = 2
    heads: int = 16
    even: Literal["deviation", "variance"] | None = "deviation"
    placed: bool = False
    marked: bool = False

    @property
    def decoder(self) -> MaskedDecoder:
        return MaskedDecoder(
            num_queries=self.num_queries,
            num_masks=(self.image_hw[0] // self.patch) * (self.image_hw[1] // self.patch),
            size=3 * self.patch**2,
            depth=self.depth,
            heads=self.heads,
            marked=self.marked,
        )

    @property
    def views(self) -> tuple[ViewKind, ...]:
        return ("noised",)

    def num_tokens(self, view: ViewKind) -> int:
        return self.steps.num * len(self.cameras) * self.num_queries

    def window(self) -> Window:
        return self.steps.seen(self.cameras, self.image_hw)

    def num_parameters(self, width: int) -> int:
        return len(self.cameras) * self.num_queries * width + self.decoder.num_parameters(width)

    def embed_flops(self, view: ViewKind, width: int) -> int:
        return 0

    def read_flops(self, view: ViewKind, width: int) -> int:
        return self.steps.num * len(self.cameras) * self.decoder.flops(width)

    def encode_flops(self, view: ViewKind) -> int:
        return 0

    def decode_flops(self) -> int:
        return 0


class FuturePatchCodec(nn.Module):
    """The module of :class:`FuturePatches`; a row of its latent is one camera's frame, answered by its queries."""

    def __init__(self, spec: FuturePatches, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.queries = nn.Parameter(0.02 * torch.randn(len(spec.cameras) * spec.num_queries, width))
        self.decoder = MaskedDecoderNet(spec.decoder, width)

    def observe(self, obs: Observation) -> Latent:
        raise AssertionError("a future is never observed: a recipe with a 'now' view of it is refused")

    def target(self, batch: Batch) -> Latent:
        spec, first = self.spec, self.spec.steps.ahead - 1
        wanted = slice(first, first + spec.steps.num)
        shown = torch.stack([batch.future[camera][:, wanted] for camera in spec.cameras], dim=2)
        values = self.rows(rearrange(shown.float() / 255, "b t v h w c -> b (t v) c h w"))
        each = len(spec.cameras) * spec.num_queries
        valid = batch.future_valid[:, wanted].repeat_interleave(each, dim=1)
        return Latent(values=rearrange(values, "b n p c -> b n (p c)"), valid=valid)

    def rows(self, pictures: Float[Tensor, "b n 3 h w"]) -> Float[Tensor, "b n p c"]:
        """What is to be told of pictures with pixels from 0 to 1."""
        mean, std = (pictures.new_tensor(part)[:, None, None] for part in (MEAN, STD))
        return self.patches((pictures - mean) / std)

    def answered(self, rows: Float[Tensor, "m p c"]) -> Float[Tensor, "m p c"]:
        """What the decoder says, as it is compared."""
        return rows

    def patches(self, pixels: Float[Tensor, "b n 3 h w"]) -> Float[Tensor, "b n p c"]:
        """Pictures cut into patches, each made even."""
        size = self.spec.patch
        cut = rearrange(pixels, "b n c (h p) (w q) -> b n (h w) (p q c)", p=size, q=size)
        if self.spec.even is None:
            return cut
        mean, variance = cut.mean(dim=-1, keepdim=True), cut.var(dim=-1, keepdim=True)
        deviation = variance.sqrt() + 1e-6 if self.spec.even == "deviation" else (variance + 1e-6).sqrt()
        return (cut - mean) / deviation

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        decoder = self.spec.decoder
        return (self.spec.steps.num * len(self.spec.cameras), decoder.num_masks * decoder.size)

    def embed(self, latent: Tensor, level: Tensor) -> Float[Tensor, "b n w"]:
        return repeat(self.queries, "n w -> b (t n) w", b=len(latent), t=self.spec.steps.num)

    def read(self, hidden: Float[Tensor, "b n w"]) -> Float[Tensor, "b m c"]:
        states = rearrange(hidden, "b (m q) w -> (b m) q w", q=self.spec.num_queries)
        return rearrange(self.answered(self.decoder(states)), "(b m) p c -> b m (p c)", b=len(hidden))

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        return self.spec.steps.grid(num_tokens, placed=self.spec.placed)
