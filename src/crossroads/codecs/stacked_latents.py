"""Later frames as latents of an image autoencoder, several of them stacked in one patch.

UWM (Zhu et al. 2025, arXiv 2504.02792) predicts two frames of each camera in patches of 2 x 4 x 4 latents; PAD (Guo et
al. 2024, arXiv 2411.18179) all its frames in patches of 2 x 2 beside the latents of the frame of now. Each frame is
encoded on its own; there is no token of the frame of now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from crossroads.codecs.image_autoencoder import ImageAutoencoder
from crossroads.codecs.inputs import on_a_line
from crossroads.codecs.latents import LatentEnds
from crossroads.codecs.spec import Latent
from crossroads.codecs.video_autoencoder import NanoAutoencoder
from crossroads.errors import InputError
from crossroads.streams import ViewKind, linear_flops, linear_parameters
from crossroads.types import NOTHING, Batch, Observation, Window


@dataclass(frozen=True, kw_only=True)
class StackedLatents:
    """Frames at ``future_s`` of each camera, ``stacked`` of them in a patch of ``patch`` latents square.

    Tokens go by camera, time, row and column; a token holds time, channel, row and column of its patch.
    ``beside_now``: the latents of the frame of now enter beside those at the same place. ``first_place``: where the
    first token stands on the line of its tower's places, or else (``on_grid``) at their rows and columns,
    of which one is ``stride`` of those of its tower's other pictures. ``spread``:
    as much again is answered behind the latents, of their variance.
    """

    cameras: tuple[str, ...]
    image_hw: tuple[int, int]
    future_s: tuple[float, ...]
    autoencoder: NanoAutoencoder | ImageAutoencoder
    patch: int
    stacked: int
    first_place: int = 0
    beside_now: bool = False
    on_grid: bool = False
    stride: int = 1
    spread: bool = False

    def __post_init__(self) -> None:
        rows, columns = self.autoencoder.latent_hw(self.image_hw)
        if len(self.future_s) % self.stacked or rows % self.patch or columns % self.patch:
            raise InputError(
                where="StackedLatents",
                expected="whole patches",
                got=f"{len(self.future_s)} frames of {rows} x {columns} latents, {self.stacked} x {self.patch} a patch",
                do="Change the frames or the patch.",
            )

    @property
    def grid_hw(self) -> tuple[int, int]:
        rows, columns = self.autoencoder.latent_hw(self.image_hw)
        return rows // self.patch, columns // self.patch

    @property
    def num_times(self) -> int:
        """Patches in time."""
        return len(self.future_s) // self.stacked

    @property
    def patch_size(self) -> int:
        return self.autoencoder.channels * self.stacked * self.patch**2

    @property
    def num_more(self) -> int:
        """Channels in, beside the later frames' own."""
        return self.autoencoder.channels if self.beside_now else 0

    @property
    def enter_size(self) -> int:
        return self.patch_size + self.num_more * self.patch**2

    @property
    def answered(self) -> int:
        """Numbers that are read of a token."""
        return self.patch_size * (2 if self.spread else 1)

    @property
    def marked(self) -> bool:
        return False

    @property
    def views(self) -> tuple[ViewKind, ...]:
        return ("noised",)

    def num_tokens(self, view: ViewKind) -> int:
        rows, columns = self.grid_hw
        return len(self.cameras) * self.num_times * rows * columns

    def window(self) -> Window:
        asked = {"cameras": self.cameras, "image_hw": self.image_hw, "future_s": self.future_s}
        return Window(**{**vars(NOTHING), **asked})

    def num_parameters(self, width: int) -> int:
        """The autoencoder's are counted apart: no phase trains them."""
        return linear_parameters(self.enter_size, width) + linear_parameters(width, self.answered)

    def embed_flops(self, view: ViewKind, width: int) -> int:
        return linear_flops(self.num_tokens(view), self.enter_size, width)

    def read_flops(self, view: ViewKind, width: int) -> int:
        return linear_flops(self.num_tokens(view), width, self.answered)

    def encode_flops(self, view: ViewKind) -> int:
        """Every later frame; the frame of now too, where it enters."""
        frames = len(self.future_s) + (1 if self.beside_now else 0)
        return frames * len(self.cameras) * self.autoencoder.encode_flops(1, self.image_hw)

    def beside_flops(self) -> int:
        """What acting encodes: the frame of now, where it enters."""
        return len(self.cameras) * self.autoencoder.encode_flops(1, self.image_hw) if self.beside_now else 0

    def decode_flops(self) -> int:
        return len(self.future_s) * len(self.cameras) * self.autoencoder.decode_flops(1, self.image_hw)


class StackedCodec(LatentEnds):
    """The module of :class:`StackedLatents`."""

    spec: StackedLatents  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, spec: StackedLatents, width: int) -> None:
        super().__init__(spec, width)
        self.leave = nn.Linear(width, spec.answered)

    def observe(self, obs: Observation) -> Latent:
        raise AssertionError("later frames are never observed: a recipe with a 'now' view of them is refused")

    def _encoded(self, frames: Tensor) -> Float[Tensor, "b t h w c"]:
        """Frames 0..255, ``b t h w 3``, each on its own."""
        alone = rearrange(frames.float() / 127.5 - 1, "b t h w c -> (b t) 1 h w c")
        return rearrange(self.autoencoder.encode(alone), "(b t) 1 h w c -> b t h w c", b=len(frames))

    def patched(self, z: Float[Tensor, "b v t h w c"]) -> Float[Tensor, "b n c2"]:
        """Latents as tokens."""
        sides = {"s": self.spec.stacked, "p": self.spec.patch, "q": self.spec.patch}
        return rearrange(z, "b v (t s) (h p) (w q) c -> b (v t h w) (s c p q)", **sides)

    def unpatched(self, tokens: Float[Tensor, "b n c2"]) -> Float[Tensor, "b v t h w c"]:
        """Tokens as latents."""
        rows, columns = self.spec.grid_hw
        sides = {"v": len(self.spec.cameras), "h": rows, "w": columns, "p": self.spec.patch, "q": self.spec.patch}
        return rearrange(tokens, "b (v t h w) (s c p q) -> b v (t s) (h p) (w q) c", s=self.spec.stacked, **sides)

    @torch.no_grad()
    def target(self, batch: Batch) -> Latent:
        """Latents of the later frames; a token is valid when all the frames in it are."""
        z = torch.stack([self._encoded(batch.future[camera]) for camera in self.spec.cameras], dim=1)
        whole = rearrange(batch.future_valid, "b (t s) -> b t s", s=self.spec.stacked).all(dim=-1).to(z.device)
        rows, columns = self.spec.grid_hw
        valid = repeat(whole, "b t -> b (v t n)", v=len(self.spec.cameras), n=rows * columns)
        beside = self.beside(batch.obs.images, "noised", 0, valid.shape[1])
        return replace(Latent(values=self.patched(z), valid=valid), beside=beside)

    @torch.no_grad()
    def beside(
        self, images: Mapping[str, Tensor], view: ViewKind, start: int, num: int
    ) -> Float[Tensor, "b n d"] | None:
        """The latents of the frame of now at the place of each token."""
        if not self.spec.beside_now:
            return None
        z = torch.stack([self._encoded(images[camera][:, None]) for camera in self.spec.cameras], dim=1)
        tokens = rearrange(z, "b v 1 (h p) (w q) c -> b v (h w) (c p q)", p=self.spec.patch, q=self.spec.patch)
        return repeat(tokens, "b v n c -> b (v t n) c", t=self.spec.num_times)[:, start : start + num]

    def embed(self, latent: Float[Tensor, "b n c"], level: Tensor) -> Float[Tensor, "b n w"]:
        return self.enter(latent)

    @torch.no_grad()
    def decode(self, latent: Float[Tensor, "b n c"], now: Float[Tensor, "b m c"] | None = None) -> dict[str, Tensor]:
        """Later frames by camera, 0..255."""
        z = rearrange(self.unpatched(latent), "b v t h w c -> (b v t) 1 h w c")
        pixels = ((self.autoencoder.decode(z) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        frames = rearrange(pixels, "(b v t) 1 h w c -> v b t h w c", b=len(latent), v=len(self.spec.cameras))
        return dict(zip(self.spec.cameras, frames, strict=True))

    def shown(self, latent: Float[Tensor, "b n c"], before: list[Tensor]) -> dict[str, Tensor]:
        return self.decode(latent)

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        if not self.spec.on_grid:
            return on_a_line(num_tokens, self.spec.first_place)
        rows, columns = self.spec.grid_hw
        each = torch.cartesian_prod(torch.zeros(1), torch.arange(rows).float(), torch.arange(columns).float())
        return self.spec.stride * each.repeat(num_tokens // len(each), 1)
