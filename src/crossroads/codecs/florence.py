"""Pictures as Florence-2 sees them (Xiao et al. 2023, arXiv 2311.06242): DaViT, called as transformers has it.

DaViT (Ding et al. 2022, arXiv 2204.03645) turns each camera into a small map of features; learned places are added, and
its mean stands before its pixels (``image_feature_source``: spatial, then temporal average). Its weights are the
policy's: X-VLA trains them (arXiv 2510.10274).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from einops import rearrange
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from crossroads.codecs.inputs import InputCodec, InputTokens
from crossroads.codecs.spec import Latent
from crossroads.errors import InputError
from crossroads.streams import ViewKind, linear_flops
from crossroads.types import NOTHING, Observation, Window

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's (X-VLA's processor)."""


@dataclass(frozen=True, kw_only=True)
class FlorencePictures(InputTokens):
    """Cameras and the sizes of DaViT by stage (Florence-2-large's). ``num_places``: learned rows, and columns."""

    cameras: tuple[str, ...]
    image_hw: tuple[int, int] = (224, 224)
    width: int = 1024
    patches: tuple[int, ...] = (7, 3, 3, 3)
    strides: tuple[int, ...] = (4, 2, 2, 2)
    paddings: tuple[int, ...] = (3, 1, 1, 1)
    norm_first: tuple[bool, ...] = (False, True, True, True)
    widths: tuple[int, ...] = (256, 512, 1024, 2048)
    depths: tuple[int, ...] = (1, 1, 9, 1)
    heads: tuple[int, ...] = (8, 16, 32, 64)
    groups: tuple[int, ...] = (8, 16, 32, 64)
    window_size: int = 12
    num_places: int = 50

    @property
    def map_hw(self) -> tuple[int, int]:
        """Rows and columns of the last stage."""
        rows, columns = self.image_hw
        for patch, stride, padding in zip(self.patches, self.strides, self.paddings, strict=True):
            rows, columns = ((side + 2 * padding - patch) // stride + 1 for side in (rows, columns))
        return rows, columns

    @property
    def tokens_per_camera(self) -> int:
        return 1 + self.map_hw[0] * self.map_hw[1]

    def num_tokens(self, view: ViewKind) -> int:
        return len(self.cameras) * self.tokens_per_camera

    def window(self) -> Window:
        return Window(**{**vars(NOTHING), "cameras": self.cameras, "image_hw": self.image_hw})

    def num_parameters(self, width: int) -> int:
        return _weights(self)

    def embed_flops(self, view: ViewKind, width: int) -> int:
        last = linear_flops(self.tokens_per_camera, self.widths[-1], self.width)
        return len(self.cameras) * (_flops(self) + last)


@dataclass(frozen=True, kw_only=True)
class FlorenceViews(FlorencePictures):
    """Further cameras, through the network of another stream."""

    def num_parameters(self, width: int) -> int:
        return 0


class FlorenceCodec(InputCodec):
    """The module of :class:`FlorencePictures`; pixels 0..255."""

    def __init__(self, spec: FlorencePictures, width: int) -> None:
        super().__init__()
        if width != spec.width:
            raise InputError(
                where="FlorencePictures", expected=f"a tower {spec.width} wide", got=str(width), do="Make them equal."
            )
        self.spec = spec
        self._net: list[FlorenceNet] = []
        if not isinstance(spec, FlorenceViews):
            self.net = FlorenceNet(spec)
            self._net[:] = [self.net]

    def through(self, owner: nn.Module) -> None:
        """Use the network of another stream."""
        assert isinstance(owner, FlorenceCodec)
        self._net[:] = [owner.net]

    def observe(self, obs: Observation) -> Latent:
        values = torch.stack([obs.images[camera] for camera in self.spec.cameras], dim=1)
        valid = torch.ones(len(values), self.spec.num_tokens("now"), dtype=torch.bool, device=values.device)
        return Latent(values=values, valid=valid)

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (len(self.spec.cameras), *self.spec.image_hw, 3)

    def embed(self, latent: Num[Tensor, "b v h w 3"], level: Tensor) -> Float[Tensor, "b n c"]:
        dtype = self._net[0].project.weight.dtype
        mean, std = (torch.tensor(part, device=latent.device, dtype=dtype) for part in (MEAN, STD))
        pixels = (latent.to(dtype) / 255 - mean) / std
        found = self._net[0](rearrange(pixels, "b v h w c -> (b v) c h w"))
        return rearrange(found, "(b v) n w -> b (v n) w", b=len(latent))


class FlorenceNet(nn.Module):
    """DaViT, its places, and the map into the language model."""

    def __init__(self, spec: FlorencePictures) -> None:
        super().__init__()
        self.vision = _davit(spec)
        last = spec.widths[-1]
        self.rows = nn.Parameter(0.02 * torch.randn(spec.num_places, last // 2))
        self.columns = nn.Parameter(0.02 * torch.randn(spec.num_places, last - last // 2))
        self.project, self.norm = nn.Linear(last, spec.width, bias=False), nn.LayerNorm(spec.width)

    def forward(self, pixels: Float[Tensor, "p 3 h w"]) -> Float[Tensor, "p n c"]:
        features = self.vision(pixels).last_hidden_state
        rows, columns = features.shape[2:]
        beside = self.columns[:columns].expand(rows, -1, -1)
        placed = torch.cat([beside, self.rows[:rows, None].expand(-1, columns, -1)], dim=-1)
        tokens = rearrange(features, "p c h w -> p (h w) c") + rearrange(placed, "h w c -> (h w) c")
        first = torch.arange(tokens.shape[-1], device=tokens.device) % 2  # the waves of the first, and only, frame
        tokens = tokens + first.to(tokens.dtype)
        whole = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)
        return self.norm(self.project(whole))


def _davit(spec: FlorencePictures) -> nn.Module:
    """The published class, without weights of its own release."""
    try:
        from transformers import Florence2VisionConfig  # pyright: ignore
        from transformers.models.florence2.modeling_florence2 import Florence2VisionBackbone  # pyright: ignore
    except ImportError as error:
        raise InputError(
            where="Florence-2",
            expected="the package transformers, 4.56 or newer",
            got=str(error),
            do="Install it: pip install 'crossroads[backbones]'.",
        ) from error
    config = Florence2VisionConfig(
        depths=list(spec.depths),
        patch_size=list(spec.patches),
        patch_stride=list(spec.strides),
        patch_padding=list(spec.paddings),
        patch_prenorm=list(spec.norm_first),
        embed_dim=list(spec.widths),
        num_heads=list(spec.heads),
        num_groups=list(spec.groups),
        window_size=spec.window_size,
        drop_path_rate=0.0,
        projection_dim=spec.width,
    )
    return Florence2VisionBackbone(config)


@cache
def _weights(spec: FlorencePictures) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in FlorenceNet(spec).parameters())


@cache
def _flops(spec: FlorencePictures) -> int:
    """DaViT over one camera, counted by a call without numbers."""
    with torch.device("meta"):
        net = _davit(spec)
        with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            net(torch.zeros(1, 3, *spec.image_hw))
    return counter.get_total_flops()
