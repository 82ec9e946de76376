"""Video as latents of single frames: what image and video UNets denoise, a place of a frame's latent per token.

Each frame is encoded on its own, by the autoencoder of Stable Video Diffusion or by folding pixels into channels.
The present frame may enter beside every frame that is denoised, its latents repeated (Stable Video Diffusion, arXiv
2311.15127; UniPi, arXiv 2302.00111, "tiling"). Towers that take such tokens have the maps into and out of channels.
A clip may be refined in time: another stream's frames, further apart, enter beside it, each repeated until the next
(temporal super-resolution: Imagen Video, arXiv 2210.02303, section 2.3; UniPi, section 3.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from crossroads.codecs.spec import Latent, ShownToOthers, all_valid
from crossroads.codecs.svd_autoencoder import SvdAutoencoder, SvdAutoencoderNet
from crossroads.errors import InputError
from crossroads.streams import ViewKind
from crossroads.types import NOTHING, Batch, Observation, Window, ahead


@dataclass(frozen=True, kw_only=True)
class Folded:
    """``fold x fold`` pixels in one place, in -1..1: nothing is lost and nothing learned."""

    fold: int = 1

    @property
    def channels(self) -> int:
        return 3 * self.fold**2

    @property
    def space_factor(self) -> int:
        return self.fold

    def encode_flops(self, num_frames: int, image_hw: tuple[int, int]) -> int:
        return 0

    def decode_flops(self, num_frames: int, image_hw: tuple[int, int]) -> int:
        return 0

    def num_parameters(self) -> int:
        return 0


class FoldedNet(nn.Module):
    """The module of :class:`Folded`."""

    def __init__(self, spec: Folded) -> None:
        super().__init__()
        self.fold = spec.fold

    def encode(self, pixels: Float[Tensor, "b t h w 3"]) -> Float[Tensor, "b t rows columns c"]:
        return rearrange(pixels, "b t (h p) (w q) c -> b t h w (p q c)", p=self.fold, q=self.fold)

    def decode(self, latent: Float[Tensor, "b t rows columns c"]) -> Float[Tensor, "b t h w 3"]:
        return rearrange(latent, "b t h w (p q c) -> b t (h p) (w q) c", p=self.fold, q=self.fold)


@dataclass(frozen=True, kw_only=True)
class FrameLatents:
    """Frames at ``future_s``; a clip of each camera, one behind the other. ``beside``: the present frame enters too.

    ``every``: of these frames only every so-many-th is in the clip, the last among them. ``known_every``: every
    so-many-th is known before, and enters beside itself and those before it that are not (0: none is).
    """

    cameras: tuple[str, ...]
    image_hw: tuple[int, int]
    future_s: tuple[float, ...]
    autoencoder: Folded | SvdAutoencoder
    beside: bool = True
    every: int = 1
    known_every: int = 0

    def __post_init__(self) -> None:
        if len(self.future_s) % self.every or len(self.times_s) % (self.known_every or 1):
            raise InputError(
                where="FrameLatents.every, known_every",
                expected=f"divisors of how many frames there are, {len(self.future_s)} and {len(self.times_s)}",
                got=f"{self.every} and {self.known_every}",
                do="Change them or the frames.",
            )
        if any(side % self.autoencoder.space_factor for side in self.image_hw):
            raise InputError(
                where="FrameLatents.image_hw",
                expected=f"multiples of {self.autoencoder.space_factor} pixels",
                got=str(self.image_hw),
                do="Change the image size or the autoencoder.",
            )

    @property
    def latent_hw(self) -> tuple[int, int]:
        """Rows and columns of a frame's latent."""
        return self.image_hw[0] // self.autoencoder.space_factor, self.image_hw[1] // self.autoencoder.space_factor

    @property
    def times_s(self) -> tuple[float, ...]:
        """When the frames of the clip are."""
        return self.future_s[self.every - 1 :: self.every]

    @property
    def known_s(self) -> tuple[float, ...]:
        """When those are that are known before."""
        return self.times_s[self.known_every - 1 :: self.known_every] if self.known_every else ()

    @property
    def num_channels(self) -> int:
        """Those of a latent, and of what enters beside it."""
        return self.autoencoder.channels * (1 + self.beside + (self.known_every > 0))

    @property
    def views(self) -> tuple[ViewKind, ...]:
        return ("noised",) if self.known_every else ("now", "noised", "clean")

    def num_frames(self, view: ViewKind) -> int:
        """Of one camera."""
        return 1 if view == "now" else len(self.times_s)

    def num_tokens(self, view: ViewKind) -> int:
        return len(self.cameras) * self.num_frames(view) * self.latent_hw[0] * self.latent_hw[1]

    def window(self) -> Window:
        asked = {"cameras": self.cameras, "image_hw": self.image_hw, "future_s": self.future_s}
        return Window(**{**vars(NOTHING), **asked})

    def num_parameters(self, width: int) -> int:
        return 0

    def embed_flops(self, view: ViewKind, width: int) -> int:
        return 0

    def read_flops(self, view: ViewKind, width: int) -> int:
        return 0

    def encode_flops(self, view: ViewKind) -> int:
        """The frames of a view, and where they enter beside them the present one and the known ones."""
        num = self.num_frames(view) + (self.beside and view != "now") + len(self.known_s)
        return len(self.cameras) * self.autoencoder.encode_flops(num, self.image_hw)

    def beside_flops(self) -> int:
        """What acting encodes: the frames that enter beside those that are denoised."""
        num = int(self.beside) + len(self.known_s)
        return len(self.cameras) * self.autoencoder.encode_flops(num, self.image_hw) if num else 0

    def decode_flops(self) -> int:
        return len(self.cameras) * self.autoencoder.decode_flops(len(self.times_s), self.image_hw)


class FrameLatentCodec(ShownToOthers):
    """The module of :class:`FrameLatents`; it has no weights of the policy."""

    def __init__(self, spec: FrameLatents, width: int) -> None:
        super().__init__()
        if width != spec.num_channels:
            raise InputError(
                where="FrameLatents",
                expected=f"a tower that takes {spec.num_channels} channels",
                got=str(width),
                do="Give the tower the channels of the latents, and of those beside them.",
            )
        self.spec = spec
        made = spec.autoencoder
        self.autoencoder = FoldedNet(made) if isinstance(made, Folded) else SvdAutoencoderNet(made)

    @torch.no_grad()
    def _encode(self, frames: Mapping[str, UInt8[Tensor, "b t h w 3"]]) -> Float[Tensor, "b n c"]:
        clips = []
        for camera in self.spec.cameras:
            pixels = frames[camera].float() / 127.5 - 1
            clips.append(self.autoencoder.encode(pixels).flatten(1, 3))
        return torch.cat(clips, dim=1)

    def _now(self, images: Mapping[str, UInt8[Tensor, "b h w 3"]]) -> Float[Tensor, "b n c"]:
        return self._encode({camera: images[camera][:, None] for camera in self.spec.cameras})

    def beside(
        self, images: Mapping[str, Tensor], view: ViewKind, start: int, num: int
    ) -> Float[Tensor, "b n c"] | None:
        """The present frame's latents, then those of known frames, for ``num`` tokens of a view from number ``start``
        on."""
        spec, frames, clips = self.spec, self.spec.num_frames(view), list[Tensor]()
        if spec.beside:
            now = rearrange(self._now(images), "b (k n) c -> b k 1 n c", k=len(spec.cameras))
            clips.append(now.expand(-1, -1, frames, -1, -1))
        if spec.known_every:
            known = {c: torch.stack([images[ahead(c, t)] for t in spec.known_s], dim=1) for c in spec.cameras}
            parts = {"k": len(spec.cameras), "t": len(spec.known_s)}
            clip = rearrange(self._encode(known), "b (k t n) c -> b k t n c", **parts)
            clips.append(clip.repeat_interleave(spec.known_every, dim=2))
        if not clips:
            return None
        return rearrange(torch.cat(clips, dim=-1), "b k t n c -> b (k t n) c")[:, start : start + num]

    def observe(self, obs: Observation) -> Latent:
        latent = all_valid(self._now(obs.images))
        return replace(latent, beside=self.beside(obs.images, "now", 0, latent.values.shape[1]))

    def target(self, batch: Batch) -> Latent:
        kept = slice(self.spec.every - 1, None, self.spec.every)
        values = self._encode({camera: batch.future[camera][:, kept] for camera in self.spec.cameras})
        rows, columns = self.spec.latent_hw
        valid = batch.future_valid[:, kept].repeat_interleave(rows * columns, dim=1).repeat(1, len(self.spec.cameras))
        return Latent(values=values, valid=valid, beside=self.beside(batch.obs.images, "clean", 0, values.shape[1]))

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (self.spec.num_tokens(view), self.spec.autoencoder.channels)

    def embed(self, latent: Float[Tensor, "b n w"], level: Tensor) -> Float[Tensor, "b n w"]:
        return latent

    def read(self, hidden: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        return hidden

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        rows, columns = self.spec.latent_hw
        first = 0 if view == "now" else 1
        times = torch.arange(first, first + self.spec.num_frames(view))
        clip = torch.cartesian_prod(times, torch.arange(rows), torch.arange(columns)).float()
        return clip.repeat(len(self.spec.cameras), 1)[:num_tokens]

    @torch.no_grad()
    def decode(self, latent: Float[Tensor, "b n c"]) -> dict[str, UInt8[Tensor, "b t h w 3"]]:
        """Frames by camera as pixels."""
        rows, columns = self.spec.latent_hw
        found = {}
        for camera, clip in zip(self.spec.cameras, latent.chunk(len(self.spec.cameras), dim=1), strict=True):
            pixels = self.autoencoder.decode(rearrange(clip, "b (t h w) c -> b t h w c", h=rows, w=columns))
            found[camera] = ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return found

    def shown(self, latent: Float[Tensor, "b n c"], before: list[Tensor]) -> dict[str, Tensor]:
        """A settled clip as frames by camera."""
        return self.decode(latent)

    def pictures(self, latent: Float[Tensor, "b n c"]) -> dict[str, UInt8[Tensor, "b h w 3"]]:
        return self._named(self.decode(latent))

    def recorded(self, batch: Batch, generator: torch.Generator) -> dict[str, UInt8[Tensor, "b h w 3"]]:
        kept = slice(self.spec.every - 1, None, self.spec.every)
        return self._named({camera: batch.future[camera][:, kept] for camera in self.spec.cameras})

    def _named(self, frames: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Frames by camera and time, as they are asked for."""
        times = self.spec.times_s
        return {ahead(camera, time): clip[:, i] for camera, clip in frames.items() for i, time in enumerate(times)}
