"""Slots of a latent plan: learned queries guess it, a resampler of the frames to come fills the same slots.

Being-H0.7 (arXiv 2605.00078): both go through the same tower, and their states are brought together (``Align``), so
that the queries learn to carry what the future will show; only they are there when acting.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from crossroads.codecs.foreseen import square_places
from crossroads.codecs.inputs import InputTokens
from crossroads.codecs.knowledge import EncoderStates, Orientations, told_of
from crossroads.codecs.learned import LearnedCodec, LearnedTokens
from crossroads.codecs.plan import beside_pictures
from crossroads.codecs.resampler import Resampler, ResamplerNet
from crossroads.codecs.spec import Latent
from crossroads.streams import ViewKind, linear_flops, linear_parameters
from crossroads.types import NOTHING, Batch, Window


@dataclass(frozen=True, kw_only=True)
class PlanSlots(InputTokens):
    """As many slots as the ``resampler`` has latents. Its features: rows of ``told_by`` of every camera's frames at
    ``future_s``, mapped to the tower's width, with fixed places and a learned vector for each frame. The encoder is
    frozen and its work is not counted."""

    cameras: tuple[str, ...]
    image_hw: tuple[int, int]
    future_s: tuple[float, ...]
    told_by: Orientations | EncoderStates
    resampler: Resampler

    @property
    def views(self) -> tuple[ViewKind, ...]:
        return ("prior", "posterior")

    @property
    def num_frames(self) -> int:
        return len(self.cameras) * len(self.future_s)

    @property
    def num_features(self) -> int:
        return self.num_frames * self.told_by.num(self.image_hw)

    def num_tokens(self, view: ViewKind) -> int:
        return self.resampler.num

    def window(self) -> Window:
        asked = {"cameras": self.cameras, "image_hw": self.image_hw, "future_s": self.future_s}
        return Window(**{**vars(NOTHING), **asked})

    def num_parameters(self, width: int) -> int:
        learned = (self.resampler.num + self.num_frames) * width
        return learned + linear_parameters(self.told_by.size, width) + self.resampler.num_parameters(width)

    def embed_flops(self, view: ViewKind, width: int) -> int:
        if view == "prior":
            return 0
        return linear_flops(self.num_features, self.told_by.size, width) + self.resampler.flops(
            self.num_features, width
        )


class PlanSlotCodec(LearnedCodec):
    """The module of :class:`PlanSlots`; the prior's latent is empty."""

    places: Tensor

    def __init__(self, spec: PlanSlots, width: int) -> None:
        super().__init__(LearnedTokens(num=spec.resampler.num), width)
        self.slots = spec
        self.enter = nn.Linear(spec.told_by.size, width)
        self.frames = nn.Parameter(0.02 * torch.randn(spec.num_frames, width))
        self.register_buffer("places", square_places(spec.told_by.num(spec.image_hw), width))
        self.resampler = ResamplerNet(spec.resampler, width)

    @torch.no_grad()
    def target(self, batch: Batch) -> Latent:
        """The rows of all frames to come; behind the end of an episode its last frame stands still."""
        shown = torch.stack([batch.future[camera] for camera in self.slots.cameras], dim=1)
        pictures = rearrange(shown.float() / 255, "b v f h w c -> b (v f) c h w")
        rows = told_of(pictures, self.slots.told_by)
        return Latent(values=rows, valid=torch.ones(len(rows), self.total, dtype=torch.bool, device=rows.device))

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        if view == "prior":
            return super().latent_shape(view)
        spec = self.slots
        return (spec.num_frames, spec.told_by.num(spec.image_hw), spec.told_by.size)

    def embed(self, latent: Float[Tensor, "b ..."], level: Tensor) -> Float[Tensor, "b n w"]:
        if not latent.shape[-1]:
            return repeat(self.tokens, "n w -> b n w", b=len(latent))
        features = self.enter(latent) + self.frames[:, None] + self.places
        return self.resampler(rearrange(features, "b f p w -> b (f p) w"))

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        return beside_pictures(num_tokens)
