"""Cameras one after another in time: each picture is a latent frame of its own in the clip of a video model.

Cosmos Policy (arXiv 2601.16163): the raw clip is one blank picture and then every picture four times, so that the
causal autoencoder gives each a latent frame; places that belong to other streams (``codecs.frames``) are blank pictures
whose latents nobody reads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from crossroads.codecs.frames import LatentFrame
from crossroads.codecs.latents import NUM_MARKS, LatentEnds
from crossroads.codecs.spec import Latent
from crossroads.codecs.tiling import TiledAutoencoder
from crossroads.codecs.video_autoencoder import TIME_FACTOR, NanoAutoencoder
from crossroads.codecs.wan_autoencoder import WanAutoencoder
from crossroads.errors import InputError
from crossroads.streams import ViewKind, linear_flops, linear_parameters
from crossroads.types import NOTHING, Batch, Observation, Window

BLANK = -1.0
"""A black picture, as the published blank ones are."""


@dataclass(frozen=True, kw_only=True)
class CameraSlots:
    """``now`` and ``future``: the latent frames, in the clip, of each camera's picture of now and ``after_s`` later.

    Latent frame 0 is a blank picture and belongs to now. ``patch`` and ``marked`` as in ``VideoLatents``.
    """

    cameras: tuple[str, ...]
    image_hw: tuple[int, int]
    after_s: float
    now: tuple[int, ...]
    future: tuple[int, ...]
    autoencoder: NanoAutoencoder | WanAutoencoder | TiledAutoencoder
    patch: int = 1
    marked: bool = False

    def __post_init__(self) -> None:
        slots = (0, *self.now, *self.future)
        if not len(self.cameras) == len(self.now) == len(self.future) or list(slots) != sorted(set(slots)):
            raise InputError(
                where="CameraSlots",
                expected="one place of now and one of the future for each camera, from 1 on and ascending",
                got=f"{len(self.cameras)} cameras, now {self.now}, future {self.future}",
                do="Correct the places.",
            )

    def frame(self, slot: int) -> LatentFrame:
        """A latent frame of this clip for another stream."""
        rows, columns = self.autoencoder.latent_hw(self.image_hw)
        return LatentFrame(
            channels=self.autoencoder.channels,
            rows=rows,
            columns=columns,
            slot=slot,
            patch=self.patch,
            num_more=self.num_more,
        )

    @property
    def grid_hw(self) -> tuple[int, int]:
        rows, columns = self.autoencoder.latent_hw(self.image_hw)
        return rows // self.patch, columns // self.patch

    @property
    def num_more(self) -> int:
        return NUM_MARKS if self.marked else 0

    @property
    def patch_size(self) -> int:
        return self.autoencoder.channels * self.patch**2

    @property
    def enter_size(self) -> int:
        return self.patch_size + self.num_more * self.patch**2

    @property
    def views(self) -> tuple[ViewKind, ...]:
        return ("now", "noised", "clean")

    def slots(self, view: ViewKind) -> tuple[int, ...]:
        """The latent frames of a view."""
        return (0, *self.now) if view == "now" else self.future

    def num_tokens(self, view: ViewKind) -> int:
        rows, columns = self.grid_hw
        return rows * columns * len(self.slots(view))

    def window(self) -> Window:
        asked = {"cameras": self.cameras, "image_hw": self.image_hw, "future_s": (self.after_s,)}
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
        return self.autoencoder.encode_flops(self.num_frames(view), self.image_hw)

    def decode_flops(self) -> int:
        """The whole clip back to pictures, after a blank one was encoded to fill the places of other streams."""
        blank = self.autoencoder.encode_flops(self.num_frames("noised"), self.image_hw)
        return blank + self.autoencoder.decode_flops(1 + self.future[-1], self.image_hw)

    def num_frames(self, view: ViewKind) -> int:
        """Pictures of the clip up to the last place of a view."""
        return 1 + TIME_FACTOR * self.slots(view)[-1]


class SlotCodec(LatentEnds):
    """The module of :class:`CameraSlots`."""

    spec: CameraSlots  # pyright: ignore[reportIncompatibleVariableOverride]

    @torch.no_grad()
    def observe(self, obs: Observation) -> Latent:
        pictures = {slot: obs.images[camera] for camera, slot in zip(self.spec.cameras, self.spec.now, strict=True)}
        return self._read("now", pictures, torch.ones(obs.batch_size, 1 + len(self.spec.now), dtype=torch.bool))

    @torch.no_grad()
    def target(self, batch: Batch) -> Latent:
        spec = self.spec
        pictures = {slot: batch.obs.images[camera] for camera, slot in zip(spec.cameras, spec.now, strict=True)}
        pictures |= {slot: batch.future[camera][:, 0] for camera, slot in zip(spec.cameras, spec.future, strict=True)}
        return self._read("noised", pictures, batch.future_valid[:, :1].expand(-1, len(spec.future)))

    def _read(self, view: ViewKind, pictures: dict[int, UInt8[Tensor, "b h w 3"]], valid: Tensor) -> Latent:
        """The latents of a view's places in the clip that holds these pictures."""
        clip = self._blank(len(valid), view).to(valid.device)
        for slot, picture in pictures.items():
            clip[:, TIME_FACTOR * (slot - 1) + 1 : TIME_FACTOR * slot + 1] = picture[:, None].float() / 127.5 - 1
        z = self.coder.encode(clip)
        return self._latent(z[:, list(self.spec.slots(view))], valid)

    def _blank(self, batch: int, view: ViewKind) -> Float[Tensor, "b t h w 3"]:
        return torch.full((batch, self.spec.num_frames(view), *self.spec.image_hw, 3), BLANK)

    @torch.no_grad()
    def decode(
        self, latent: Float[Tensor, "b n c"], now: Float[Tensor, "b m c"]
    ) -> dict[str, UInt8[Tensor, "b f h w 3"]]:
        """The future picture of each camera. Places of other streams are filled with a blank clip's latents, because
        the decoder is causal and would be led astray by numbers written as frames."""
        spec = self.spec
        z = self.coder.encode(self._blank(1, "noised").to(latent.device)).expand(len(latent), -1, -1, -1, -1)
        z = z.clone()
        z[:, list(spec.slots("now"))] = self.pictures(now)
        z[:, list(spec.future)] = self.pictures(latent)
        pixels = self.coder.decode(z)[:, [TIME_FACTOR * slot for slot in spec.future]]
        frames = ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return {camera: frames[:, index : index + 1] for index, camera in enumerate(spec.cameras)}

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        rows, columns = (torch.arange(size) for size in self.spec.grid_hw)
        return torch.cartesian_prod(torch.tensor(self.spec.slots(view)), rows, columns).float()
