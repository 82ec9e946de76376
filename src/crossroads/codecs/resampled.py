"""Pictures at each observed step as a few tokens: a vision transformer, a resampler of its patches, its class token.

GR-1 (arXiv 2312.13139) and Seer (arXiv 2412.15109): a frozen masked autoencoder (He et al. 2022, arXiv 2111.06377) and
one resampler for all cameras; patches and class token have a linear map of each camera's own. Without a published
autoencoder the vision transformer is the codec's own, and trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.codecs.fused_pixels import VisionTower, VisionTransformer
from crossroads.codecs.inputs import InputCodec, InputTokens
from crossroads.codecs.published import masked_autoencoder
from crossroads.codecs.resampler import Resampler, ResamplerNet
from crossroads.codecs.spec import Latent
from crossroads.codecs.steps import Steps
from crossroads.streams import ViewKind, linear_flops, linear_parameters
from crossroads.types import Batch, Observation, Window

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, by which the published autoencoder was trained."""


@dataclass(frozen=True, kw_only=True)
class MaskedAutoencoder:
    """The frozen encoder ``source``, which sees pictures ``square`` pixels wide and high. ``class_width``: of the class
    token, where it is not that of the patches. ``depth`` and ``mlp`` tell its work alone."""

    source: str
    width: int
    depth: int = 12
    mlp: int = 3072
    square: int = 224
    class_width: int | None = None


@dataclass(frozen=True, kw_only=True)
class ResampledImages(InputTokens):
    """At each of ``steps`` and for each camera the ``resampler``'s tokens and a class token. ``order``: whether each
    camera's class token follows its patches, or all of them come last."""

    cameras: tuple[str, ...]
    image_hw: tuple[int, int]
    patch: int
    vision: VisionTower | MaskedAutoencoder
    resampler: Resampler
    steps: Steps
    order: Literal["by camera", "classes last"] = "by camera"

    @property
    def num_patches(self) -> int:
        rows, columns = self.image_hw if isinstance(self.vision, VisionTower) else (self.vision.square,) * 2
        return (rows // self.patch) * (columns // self.patch)

    @property
    def class_width(self) -> int:
        own = self.vision.class_width if isinstance(self.vision, MaskedAutoencoder) else None
        return own or self.vision.width

    @property
    def per_step(self) -> int:
        return len(self.cameras) * (self.resampler.num + 1)

    def num_tokens(self, view: ViewKind) -> int:
        return self.steps.num * self.per_step

    def window(self) -> Window:
        return self.steps.seen(self.cameras, self.image_hw)

    def num_parameters(self, width: int) -> int:
        ends = linear_parameters(self.vision.width, width) + linear_parameters(self.class_width, width)
        own = self.vision.num_parameters(self.patch, self.num_patches) if isinstance(self.vision, VisionTower) else 0
        return own + self.resampler.num_parameters(self.vision.width) + len(self.cameras) * ends

    def embed_flops(self, view: ViewKind, width: int) -> int:
        own = self.vision.flops(self.patch, self.num_patches) if isinstance(self.vision, VisionTower) else 0
        own += self.resampler.flops(self.num_patches, self.vision.width)
        own += linear_flops(self.resampler.num, self.vision.width, width) + linear_flops(1, self.class_width, width)
        return self.steps.num * len(self.cameras) * own

    def encode_flops(self, view: ViewKind) -> int:
        """The frozen encoder's work."""
        if isinstance(self.vision, VisionTower):
            return 0
        told = self.vision
        same = VisionTower(width=told.width, mlp=told.mlp, depth=told.depth, heads=1, class_token=True)
        return self.steps.num * len(self.cameras) * same.flops(self.patch, self.num_patches)


class ResampledCodec(InputCodec):
    """The module of :class:`ResampledImages`; its latent holds a row for each step: pixels, or the frozen encoder's
    states side by side."""

    def __init__(self, spec: ResampledImages, width: int) -> None:
        super().__init__()
        self.spec = spec
        hw = (spec.image_hw[0] // spec.patch, spec.image_hw[1] // spec.patch)
        self.vision = VisionTransformer(spec.vision, spec.patch, hw) if isinstance(spec.vision, VisionTower) else None
        self.resampler = ResamplerNet(spec.resampler, spec.vision.width)
        self.patches = nn.ModuleList([nn.Linear(spec.vision.width, width) for _ in spec.cameras])
        self.classes = nn.ModuleList([nn.Linear(spec.class_width, width) for _ in spec.cameras])

    def observe(self, obs: Observation) -> Latent:
        shown = [torch.stack([one.images[camera] for camera in self.spec.cameras], 1) for one in (*obs.before, obs)]
        pictures = torch.stack(shown, dim=1)
        return self._latent(pictures, torch.ones(pictures.shape[:2], dtype=torch.bool, device=pictures.device))

    def target(self, batch: Batch) -> Latent:
        """What the cameras show at each step of the window."""
        later = self.spec.steps.num - 1
        now = [batch.obs.images[camera][:, None] for camera in self.spec.cameras]
        rest = [batch.future[camera][:, :later] for camera in self.spec.cameras] if later else []
        shown = [torch.cat(pair, dim=1) for pair in zip(now, rest, strict=True)] if later else now
        return self._latent(torch.stack(shown, dim=2), self.spec.steps.present(batch))

    def _latent(self, pictures: Tensor, present: Bool[Tensor, "b t"]) -> Latent:
        """``pictures``: b t cameras h w 3."""
        values = pictures if self.vision is not None else self._features(pictures)
        return self.spec.steps.filled(values, present, self.spec.per_step)

    @torch.no_grad()
    def _features(self, pictures: Tensor) -> Float[Tensor, "b t v n d"]:
        assert isinstance(self.spec.vision, MaskedAutoencoder)
        b, t, v = pictures.shape[:3]
        flat = rearrange(pictures, "b t v h w c -> (b t v) c h w").float() / 255
        square = functional.interpolate(flat, size=(self.spec.vision.square,) * 2, mode="bicubic", align_corners=False)
        mean, std = (square.new_tensor(part)[:, None, None] for part in (MEAN, STD))
        states = autoencoded(self.spec.vision.source, (square - mean) / std)
        return rearrange(states, "(b t v) n d -> b t v n d", b=b, t=t, v=v)

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        inner = (*self.spec.image_hw, 3) if self.vision else (1 + self.spec.num_patches, self.spec.vision.width)
        return (self.spec.steps.num, len(self.spec.cameras), *inner)

    def embed(self, latent: Tensor, level: Tensor) -> Float[Tensor, "b n w"]:
        if self.vision is not None:
            pixels = rearrange(latent, "b t v h w c -> (b t v) c h w").to(self.resampler.latents.dtype) / 255
            states = self.vision.with_marks(pixels)
            latent = rearrange(states, "(b t v) n d -> b t v n d", b=latent.shape[0], t=latent.shape[1])
        return self.tokens(latent[..., 1:, :], latent[..., 0, :])

    def tokens(self, patches: Float[Tensor, "b t v n d"], classes: Float[Tensor, "b t v c"]) -> Float[Tensor, "b m w"]:
        """States of patches and class tokens as tokens of the tower."""
        b, t = patches.shape[:2]
        few = rearrange(self.resampler(patches.flatten(0, 2)), "(b t v) m d -> b t v m d", b=b, t=t)
        cameras = [
            (patch(few[:, :, index]), whole(classes[:, :, index, None]))
            for index, (patch, whole) in enumerate(zip(self.patches, self.classes, strict=True))
        ]
        if self.spec.order == "by camera":
            parts = [part for pair in cameras for part in pair]
        else:
            parts = [pair[0] for pair in cameras] + [pair[1] for pair in cameras]
        return rearrange(torch.cat(parts, dim=2), "b t m w -> b (t m) w")

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        return self.spec.steps.grid(num_tokens)


@torch.no_grad()
def autoencoded(source: str, pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n d"]:
    """Final states of the frozen encoder, the class token first, then the patches in their order: the encoder sorts
    them by noise, which rises here."""
    encoder = masked_autoencoder(source).to(pictures.device)
    num = encoder.embeddings.patch_embeddings.num_patches
    rising = torch.arange(num, device=pictures.device, dtype=torch.float32).expand(len(pictures), -1)
    return encoder(pictures, noise=rising).last_hidden_state.float()
