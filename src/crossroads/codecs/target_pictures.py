"""Camera pictures into which the robot's next pose is drawn, as coloured discs: actions as a picture.

GENIMA, Shridhar et al. 2024, arXiv 2407.07875: the pictures of all cameras are tiled into one; a painter that sees the
tile draws it again with spheres where the robot's joints shall be; a controller reads the spheres. The painter learns
from pictures of now into which the recorded pose is drawn, the controller from that pose over random textures, so that
it reads the marks and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from crossroads.codecs.frame_latents import Folded, FoldedNet
from crossroads.codecs.image_autoencoder import ImageAutoencoder, ImageAutoencoderNet
from crossroads.codecs.spec import Latent, ShownToOthers
from crossroads.errors import InputError
from crossroads.streams import ViewKind
from crossroads.types import NOTHING, Batch, Observation, Window

COLOURS = ((255, 0, 0), (0, 255, 0), (160, 32, 240))
"""Of the joints: red at the base, green at the elbow, purple at the wrist."""
CLOSED, OPEN = (255, 255, 0), (0, 255, 255)
"""Of the gripper: yellow and cyan."""


@dataclass(frozen=True, kw_only=True)
class TargetPictures:
    """The cameras' pictures of now, ``columns`` of them beside each other, with the marks of ``after_s`` later.

    ``radii_m``: of the discs, for each camera, or one for all. ``fold``: pixels of the tile without marks that enter
    beside a place of the latent, on a side. ``textures``: so many random colours on a side lie behind the marks that
    the controller learns from.
    """

    cameras: tuple[str, ...]
    image_hw: tuple[int, int]
    columns: int
    after_s: float
    autoencoder: Folded | ImageAutoencoder
    radii_m: tuple[float, ...]
    textures: int = 4

    def __post_init__(self) -> None:
        factor = self.autoencoder.space_factor
        if len(self.cameras) % self.columns or any(side % factor for side in self.image_hw):
            raise InputError(
                where="TargetPictures",
                expected=f"whole rows of {self.columns} pictures, multiples of {factor} pixels high and wide",
                got=f"{len(self.cameras)} cameras of {self.image_hw}",
                do="Change the columns, the cameras or the image size.",
            )
        if len(self.radii_m) not in (1, len(self.cameras)):
            raise InputError(
                where="TargetPictures.radii_m",
                expected=f"one radius, or one for each of {len(self.cameras)} cameras",
                got=str(self.radii_m),
                do="Change them.",
            )

    @property
    def num_marks(self) -> int:
        """The joints' and the gripper's."""
        return len(COLOURS) + 1

    @property
    def tile_hw(self) -> tuple[int, int]:
        """Pixels of the tile."""
        return len(self.cameras) // self.columns * self.image_hw[0], self.columns * self.image_hw[1]

    @property
    def latent_hw(self) -> tuple[int, int]:
        return self.tile_hw[0] // self.autoencoder.space_factor, self.tile_hw[1] // self.autoencoder.space_factor

    @property
    def num_channels(self) -> int:
        """Those of a latent, and the pixels beside it."""
        return self.autoencoder.channels + 3 * self.autoencoder.space_factor**2

    @property
    def views(self) -> tuple[ViewKind, ...]:
        return ("noised",)

    def num_tokens(self, view: ViewKind) -> int:
        return self.latent_hw[0] * self.latent_hw[1]

    def window(self) -> Window:
        asked = {"cameras": self.cameras, "image_hw": self.image_hw}
        return Window(**{**vars(NOTHING), **asked, "num_marks": self.num_marks, "marks_after_s": self.after_s})

    def num_parameters(self, width: int) -> int:
        return 0

    def embed_flops(self, view: ViewKind, width: int) -> int:
        return 0

    def read_flops(self, view: ViewKind, width: int) -> int:
        return 0

    def encode_flops(self, view: ViewKind) -> int:
        return self.autoencoder.encode_flops(1, self.tile_hw)

    def decode_flops(self) -> int:
        if isinstance(self.autoencoder, Folded):
            return 0
        return self.autoencoder.decode_flops(1, self.tile_hw)


class TargetPictureCodec(ShownToOthers):
    """The module of :class:`TargetPictures`; it has no weights of the policy."""

    def __init__(self, spec: TargetPictures, width: int) -> None:
        super().__init__()
        if width != spec.num_channels:
            raise InputError(
                where="TargetPictures",
                expected=f"a tower that takes {spec.num_channels} channels",
                got=str(width),
                do="Give the painter the latent's channels, and a steering network of as many halvings.",
            )
        self.spec = spec
        made = spec.autoencoder
        self.autoencoder = FoldedNet(made) if isinstance(made, Folded) else ImageAutoencoderNet(made)

    def drawn(
        self, pictures: Mapping[str, UInt8[Tensor, "b h w 3"]], marks: Mapping[str, Float[Tensor, "b p 4"]]
    ) -> dict[str, UInt8[Tensor, "b h w 3"]]:
        """Pictures with discs at their marks, the gripper's on top."""
        spec = self.spec
        radii = spec.radii_m * (1 if len(spec.radii_m) > 1 else len(spec.cameras))
        return {
            camera: _discs(pictures[camera], marks[camera], radius)
            for camera, radius in zip(spec.cameras, radii, strict=True)
        }

    def observe(self, obs: Observation) -> Latent:
        raise AssertionError("a target is never observed: a recipe with a 'now' view of it is refused")

    @torch.no_grad()
    def target(self, batch: Batch) -> Latent:
        """The drawn tile; it counts where the sample has actions, of which the pose is what they led to."""
        tile = self._tiled(self.drawn(batch.obs.images, batch.marks)).float() / 127.5 - 1
        values = self.autoencoder.encode(tile[:, None]).flatten(1, 3)
        valid = batch.actions_valid.any(dim=1, keepdim=True).expand(-1, values.shape[1])
        found = Latent(values=values, valid=valid)
        return replace(found, beside=self.beside(batch.obs.images, "noised", 0, values.shape[1]))

    def beside(self, images: Mapping[str, Tensor], view: ViewKind, start: int, num: int) -> Float[Tensor, "b n c"]:
        """The pixels of the pictures of now, for ``num`` places from number ``start`` on."""
        fold = self.spec.autoencoder.space_factor
        tile = self._tiled(images).float() / 127.5 - 1
        return rearrange(tile, "b (h p) (w q) c -> b (h w) (p q c)", p=fold, q=fold)[:, start : start + num]

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (self.spec.num_tokens(view), self.spec.autoencoder.channels)

    def embed(self, latent: Float[Tensor, "b n w"], level: Tensor) -> Float[Tensor, "b n w"]:
        return latent

    def read(self, hidden: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        return hidden

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        rows, columns = self.spec.latent_hw
        return torch.cartesian_prod(torch.zeros(1), torch.arange(rows).float(), torch.arange(columns).float())

    @torch.no_grad()
    def pictures(self, latent: Float[Tensor, "b n c"]) -> dict[str, UInt8[Tensor, "b h w 3"]]:
        rows, columns = self.spec.latent_hw
        tile = self.autoencoder.decode(rearrange(latent, "b (h w) c -> b 1 h w c", h=rows, w=columns))[:, 0]
        pixels = ((tile + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        parts = rearrange(pixels, "b (k h) (v w) c -> (k v) b h w c", h=self.spec.image_hw[0], w=self.spec.image_hw[1])
        return dict(zip(self.spec.cameras, parts, strict=True))

    def recorded(self, batch: Batch, generator: torch.Generator) -> dict[str, UInt8[Tensor, "b h w 3"]]:
        """The marks over random textures: colours on a coarse grid, with all that lies between."""
        side, hw = self.spec.textures, self.spec.image_hw
        behind = {}
        for camera in self.spec.cameras:
            shape, device = (batch.batch_size, 3, side, side), generator.device
            coarse = 255 * torch.rand(shape, generator=generator, device=device)
            fine = functional.interpolate(coarse, size=hw, mode="bilinear")
            behind[camera] = rearrange(fine, "b c h w -> b h w c").round().to(torch.uint8)
        return self.drawn(behind, batch.marks)

    def _tiled(self, pictures: Mapping[str, Tensor]) -> UInt8[Tensor, "b h w 3"]:
        stacked = torch.stack([pictures[camera] for camera in self.spec.cameras])
        return rearrange(stacked, "(k v) b h w c -> b (k h) (v w) c", v=self.spec.columns)


def _discs(
    picture: UInt8[Tensor, "b h w 3"], marks: Float[Tensor, "b p 4"], radius_m: float
) -> UInt8[Tensor, "b h w 3"]:
    """Discs of a radius in metres at marks: right, down, picture heights per metre (0: behind the camera), open."""
    height, width = picture.shape[1:3]
    marks = marks.to(picture.device)
    down, right = (torch.arange(side, device=picture.device) + 0.5 for side in (height, width))
    for index in range(marks.shape[1]):
        u, v, size, is_open = (part[:, None, None] for part in marks[:, index].unbind(dim=-1))
        apart = ((right - u * width) ** 2 + (down[:, None] - v * height) ** 2).sqrt()
        inside = (apart <= radius_m * size * height) & (size > 0)
        if index < len(COLOURS):
            colour = picture.new_tensor(COLOURS[index])
        else:
            colour = torch.where(is_open[..., None] > 0.5, picture.new_tensor(OPEN), picture.new_tensor(CLOSED))
        picture = torch.where(inside[..., None], colour, picture)
    return picture
