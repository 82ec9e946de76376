"""Video as latent tokens: autoencode, patchify, one linear map; the frame observed now is the first latent.

The clip [now; future] is encoded in one causal pass, so the first latent depends on the observed frame alone (Wan 2.2
TI2V conditioning as used by Fast-WAM, arXiv 2603.16666: first latent clean at level 0). Several cameras are placed on
one canvas before encoding: side by side, as Fast-WAM does for LIBERO, or in rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from einops import rearrange, repeat
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from crossroads.codecs.image_autoencoder import ImageAutoencoder, ImageAutoencoderNet
from crossroads.codecs.spec import Latent
from crossroads.codecs.streaming import EncoderState, encode_stream
from crossroads.codecs.tiling import Autoencoder, Tiled, TiledAutoencoder
from crossroads.codecs.video_autoencoder import TIME_FACTOR, NanoAutoencoder, NanoAutoencoderNet
from crossroads.codecs.wan_autoencoder import WanAutoencoder, WanAutoencoderNet
from crossroads.errors import InputError
from crossroads.streams import ViewKind, linear_flops, linear_parameters
from crossroads.types import NOTHING, Batch, Observation, Window

NUM_MARKS = 2
"""Channels beside the latent's own: clean, padded."""


@dataclass(frozen=True, kw_only=True)
class VideoLatents:
    """Future frames at ``future_s`` (a multiple of 4 of them), patches of ``patch`` latents square.

    ``marked``: the ends of Cosmos-Predict2, without biases and with two more channels in: one is 1 on clean tokens
    (level 0), one marks padded pixels, of which there are none. ``beside``: channels in that condition the clip (Wan
    2.1 I2V: 4 of a mask, which is 1 at the first frame, and the latents of that frame with grey ones behind it).
    ``columns``: cameras per row of
    the canvas, row by row, grey where none is left (DreamZero: three views on a canvas of 2 x 2); 0: all in one row.
    """

    cameras: tuple[str, ...]
    image_hw: tuple[int, int]
    future_s: tuple[float, ...]
    autoencoder: NanoAutoencoder | WanAutoencoder | TiledAutoencoder
    patch: int = 1
    marked: bool = False
    beside: int = 0
    columns: int = 0

    def __post_init__(self) -> None:
        if len(self.future_s) % TIME_FACTOR:
            raise InputError(
                where="VideoLatents.future_s",
                expected=f"a multiple of {TIME_FACTOR} future frames (one latent each {TIME_FACTOR})",
                got=str(len(self.future_s)),
                do="Change the list of future times.",
            )

    @property
    def tiles(self) -> tuple[int, int]:
        """Rows and columns of cameras on the canvas."""
        columns = self.columns or len(self.cameras)
        return -(-len(self.cameras) // columns), columns

    @property
    def latent_hw(self) -> tuple[int, int]:
        """Rows and columns of latents on the canvas."""
        (down, across), (rows, columns) = self.tiles, self.autoencoder.latent_hw(self.image_hw)
        return rows * down, columns * across

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Rows and columns of patches on the canvas."""
        rows, columns = self.latent_hw
        return rows // self.patch, columns // self.patch

    @property
    def num_future(self) -> int:
        return len(self.future_s) // TIME_FACTOR

    @property
    def patch_size(self) -> int:
        return self.autoencoder.channels * self.patch**2

    @property
    def enter_size(self) -> int:
        """Numbers of a patch as the tower's first linear map takes it."""
        return self.patch_size + self.num_more * self.patch**2

    @property
    def num_more(self) -> int:
        """Channels in, beside the latent's own."""
        return (NUM_MARKS if self.marked else 0) + self.beside

    @property
    def views(self) -> tuple[ViewKind, ...]:
        return ("now", "noised", "clean")

    @property
    def clip(self) -> str:
        """The name of what is encoded: everything here that decides the latents, but for the autoencoder's weights."""
        told = (self.cameras, self.image_hw, self.future_s, self.tiles, self.autoencoder)
        return hashlib.sha256(repr(told).encode()).hexdigest()[:32]

    def num_tokens(self, view: ViewKind) -> int:
        rows, columns = self.grid_hw
        return rows * columns * (1 if view == "now" else self.num_future)

    def window(self) -> Window:
        asked = {"cameras": self.cameras, "image_hw": self.image_hw, "future_s": self.future_s}
        return Window(**{**vars(NOTHING), **asked})

    def num_parameters(self, width: int) -> int:
        """The autoencoder's are counted apart: no phase trains them."""
        if self.marked:
            return width * (self.enter_size + self.patch_size)
        return linear_parameters(self.enter_size, width) + linear_parameters(width, self.patch_size)

    def embed_flops(self, view: ViewKind, width: int) -> int:
        return linear_flops(self.num_tokens(view), self.enter_size, width)

    def read_flops(self, view: ViewKind, width: int) -> int:
        return linear_flops(self.num_tokens(view), width, self.patch_size)

    def encode_flops(self, view: ViewKind) -> int:
        """The frame of now alone, or the whole clip (whose first latent is then dropped); and what enters beside."""
        whole = self.autoencoder.encode_flops(1 + len(self.future_s), self._canvas_hw)
        own = self.autoencoder.encode_flops(1, self._canvas_hw) if view == "now" else whole
        return own + (whole if self.beside else 0)

    def decode_flops(self) -> int:
        return self.autoencoder.decode_flops(1 + self.num_future, self._canvas_hw)

    @property
    def _canvas_hw(self) -> tuple[int, int]:
        return self.image_hw[0] * self.tiles[0], self.image_hw[1] * self.tiles[1]


def on_canvas(images: Mapping[str, Tensor], cameras: tuple[str, ...], columns: int) -> Float[Tensor, "*b h w 3"]:
    """Cameras in rows of ``columns`` (0: all in one), pixels in -1..1; a place without a camera is 0, grey."""
    across = columns or len(cameras)
    down = -(-len(cameras) // across)
    shown = [images[camera].float() / 127.5 - 1 for camera in cameras]
    shown += [torch.zeros_like(shown[0])] * (down * across - len(shown))
    return torch.cat([torch.cat(shown[row * across : (row + 1) * across], dim=-2) for row in range(down)], dim=-3)


class LatentSpec(Protocol):
    """What the maps between latent frames and a tower need to know."""

    @property
    def autoencoder(self) -> NanoAutoencoder | WanAutoencoder | TiledAutoencoder | ImageAutoencoder: ...

    @property
    def patch(self) -> int: ...

    @property
    def marked(self) -> bool: ...

    @property
    def num_more(self) -> int: ...

    @property
    def patch_size(self) -> int: ...

    @property
    def enter_size(self) -> int: ...

    @property
    def grid_hw(self) -> tuple[int, int]: ...

    def num_tokens(self, view: ViewKind) -> int: ...


def autoencoder_of(
    spec: NanoAutoencoder | WanAutoencoder | ImageAutoencoder,
) -> NanoAutoencoderNet | WanAutoencoderNet | ImageAutoencoderNet:
    """The module of an autoencoder."""
    if isinstance(spec, ImageAutoencoder):
        return ImageAutoencoderNet(spec)
    return NanoAutoencoderNet(spec) if isinstance(spec, NanoAutoencoder) else WanAutoencoderNet(spec)


class LatentEnds(nn.Module):
    """Pictures to latent frames to tokens and back; the autoencoder is never trained through it."""

    def __init__(self, spec: LatentSpec, width: int) -> None:
        super().__init__()
        self.spec = spec
        whole = spec.autoencoder.whole if isinstance(spec.autoencoder, TiledAutoencoder) else spec.autoencoder
        self.autoencoder = autoencoder_of(whole)
        self.enter = nn.Linear(spec.enter_size, width, bias=not spec.marked)
        self.leave = nn.Linear(width, spec.patch_size, bias=not spec.marked)

    @property
    def coder(self) -> Autoencoder:
        """The autoencoder as it is run: on whole pictures, or on tiles of them."""
        spec = self.spec.autoencoder
        assert not isinstance(self.autoencoder, ImageAutoencoderNet), "frames that are encoded one by one"
        return Tiled(net=self.autoencoder, spec=spec) if isinstance(spec, TiledAutoencoder) else self.autoencoder

    def decode(self, latent: Float[Tensor, "b n c"], now: Float[Tensor, "b m c"]) -> dict[str, Tensor]:
        """Future pictures by camera."""
        raise NotImplementedError  # abstract

    def shown(self, latent: Float[Tensor, "b n c"], before: list[Tensor]) -> dict[str, Tensor]:
        """The frames of a settled latent by camera; ``before``: the latents of the frames before it."""
        whole = self.decode(latent, torch.cat(before, dim=1))
        num = TIME_FACTOR * latent.shape[1] // self.spec.num_tokens("now")
        return {camera: frames[:, -num:] for camera, frames in whole.items()}

    def _tokens(self, z: Float[Tensor, "b t h w c"]) -> Float[Tensor, "b n c2"]:
        return rearrange(z, "b t (h p) (w q) c -> b (t h w) (p q c)", p=self.spec.patch, q=self.spec.patch)

    def _latent(self, z: Float[Tensor, "b t h w c"], valid: Tensor) -> Latent:
        tokens = self._tokens(z)
        per_latent = tokens.shape[1] // z.shape[1]
        return Latent(values=tokens, valid=repeat(valid.to(z.device), "b t -> b (t n)", n=per_latent))

    def pictures(self, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b t h w c2"]:
        """Tokens as latent frames."""
        (rows, columns), p = self.spec.grid_hw, self.spec.patch
        return rearrange(tokens, "b (t h w) (p q c) -> b t (h p) (w q) c", h=rows, w=columns, p=p, q=p)

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (self.spec.num_tokens(view), self.spec.patch_size)

    def embed(self, latent: Float[Tensor, "b n c"], level: Tensor) -> Float[Tensor, "b n w"]:
        """Tokens of a latent, with what enters beside it or (Wan's channels are zero then) alone."""
        return self.enter(self._more(latent, level) if self.spec.num_more else latent)

    def _more(self, latent: Float[Tensor, "b n c"], level: Tensor) -> Float[Tensor, "b n d"]:
        """The other channels behind the latent's own, at every place of a patch."""
        spec = self.spec
        places = latent[..., : spec.patch_size].unflatten(-1, (spec.patch**2, -1))
        more = latent.new_zeros(*places.shape[:-1], spec.num_more)
        if spec.marked:
            more[..., 0] = (level == 0).to(latent.dtype)[..., None].expand(places.shape[:-1])
        if latent.shape[-1] > spec.patch_size:
            beside = latent[..., spec.patch_size :].unflatten(-1, (spec.patch**2, -1))
            more[..., -beside.shape[-1] :] = beside
        return torch.cat([places, more], dim=-1).flatten(-2)

    def read(self, hidden: Float[Tensor, "b n w"]) -> Float[Tensor, "b n c"]:
        return self.leave(hidden)


class LatentCodec(LatentEnds):
    """The module of :class:`VideoLatents`."""

    spec: VideoLatents  # pyright: ignore[reportIncompatibleVariableOverride]

    def canvas(self, images: Mapping[str, Tensor]) -> Float[Tensor, "*b h w 3"]:
        return on_canvas(images, self.spec.cameras, self.spec.columns)

    @torch.no_grad()
    def observe(self, obs: Observation) -> Latent:
        known = obs.encoded.get(self.spec.clip)
        z = self.coder.encode(self._first(obs.images)) if known is None else known[:, :1].float()
        latent = self._latent(z, torch.ones(len(z), 1, dtype=torch.bool))
        return replace(latent, beside=self.beside(obs.images, "now", 0, latent.values.shape[1]))

    def _first(self, images: Mapping[str, Tensor]) -> Float[Tensor, "b 1 h w 3"]:
        return rearrange(self.canvas(images), "b h w c -> b 1 h w c")

    @torch.no_grad()
    def beside(
        self, images: Mapping[str, Tensor], view: ViewKind, start: int, num: int
    ) -> Float[Tensor, "b n d"] | None:
        """What enters beside ``num`` tokens of a view from number ``start`` on; ``images`` are of the first frame."""
        if not self.spec.beside:
            return None
        first = self._first(images)
        grey = torch.zeros_like(first).expand(-1, len(self.spec.future_s), -1, -1, -1)
        z = self.coder.encode(torch.cat([first, grey], dim=1))
        mask = torch.zeros_like(z[..., :1]).repeat(1, 1, 1, 1, self.spec.beside - z.shape[-1])
        mask[:, 0] = 1
        tokens = self._tokens(torch.cat([mask, z], dim=-1))
        start += 0 if view == "now" else self.spec.num_tokens("now")
        return tokens[:, start : start + num]

    @torch.no_grad()
    def target(self, batch: Batch) -> Latent:
        """The latents after the first; a latent is valid when all the frames it stands for are."""
        known = batch.obs.encoded.get(self.spec.clip)
        z = self.encode(batch.obs.images, batch.future) if known is None else known.float()
        valid = rearrange(batch.future_valid, "b (t f) -> b t f", f=TIME_FACTOR).all(dim=-1)
        latent = self._latent(z[:, 1:], valid)
        return replace(latent, beside=self.beside(batch.obs.images, "clean", 0, latent.values.shape[1]))

    @torch.no_grad()
    def clip(
        self, now: Mapping[str, Tensor], later: Mapping[str, Tensor], past: Latent | None, state: EncoderState
    ) -> tuple[Latent, EncoderState]:
        """The latents of the frames after the first (a multiple of 4), and what the encoder remembers of the clip.

        ``past``: those of the frames that ``state`` remembers, which are not encoded again; all are where it is empty.
        """
        per_latent = self.spec.num_tokens("now")
        if past is None or not state.past:
            z, state = encode_stream(self.coder, self.canvas(self._with_first(now, later)), EncoderState())
            past, z = None, z[:, 1:]
        else:
            done = past.valid.shape[1] // per_latent * TIME_FACTOR
            z, state = encode_stream(self.coder, self.canvas({name: x[:, done:] for name, x in later.items()}), state)
        new = self._latent(z, torch.ones(z.shape[:2], dtype=torch.bool))
        start = 0 if past is None else past.valid.shape[1]
        new = replace(new, beside=self.beside(now, "clean", start, new.valid.shape[1]))
        return new if past is None else past.then(new), state

    @torch.no_grad()
    def encode(self, now: Mapping[str, Tensor], later: Mapping[str, Tensor]) -> Float[Tensor, "b t h w c"]:
        """The latents of a clip: the frame of now, then those that followed."""
        return self.coder.encode(self.canvas(self._with_first(now, later)))

    def _with_first(self, now: Mapping[str, Tensor], later: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {camera: torch.cat([now[camera][:, None], later[camera]], dim=1) for camera in self.spec.cameras}

    @torch.no_grad()
    def decode(
        self, latent: Float[Tensor, "b n c"], now: Float[Tensor, "b m c"]
    ) -> dict[str, UInt8[Tensor, "b f h w 3"]]:
        """Future frames per camera as pixels; the latent of now comes first because the decoder is causal."""
        pixels = self.coder.decode(self.pictures(torch.cat([now, latent], dim=1)))[:, 1:]
        frames = ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        down, across = self.spec.tiles
        apart = [tile for row in frames.chunk(down, dim=-3) for tile in row.chunk(across, dim=-2)]
        return dict(zip(self.spec.cameras, apart, strict=False))  # what is left over is grey

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        rows, columns = self.spec.grid_hw
        start = 0 if view == "now" else 1
        times = torch.arange(start, start + num_tokens // (rows * columns))
        return torch.cartesian_prod(times, torch.arange(rows), torch.arange(columns)).float()
