"""Frames as the features of a frozen encoder, each predicted from the one before: what a latent world model is about.

V-JEPA 2-AC (Assran et al. 2025, arXiv 2506.09985, section 3; MIT) shows each frame twice to a video encoder, so that
its features know no other frame, and compares normed ones. Without an encoder, the pixels of a patch, normed in the
same way, are its features.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.codecs.frame_pairs import patches_of
from crossroads.codecs.inputs import InputCodec, InputTokens
from crossroads.codecs.published import video_encoder
from crossroads.codecs.spec import Latent, all_valid
from crossroads.errors import InputError
from crossroads.streams import ViewKind, linear_flops, linear_parameters
from crossroads.types import NOTHING, Batch, Observation, Window

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as V-JEPA 2 is fed


@dataclass(frozen=True, kw_only=True)
class FrameFeatures:
    """Features of the frames at ``future_s``, patch by patch, ``size`` numbers each; beside them, those of the frame
    before each. ``source``: a V-JEPA 2 of transformers (``facebook/vjepa2-vitg-fpc64-256``); None: pixels, normed.

    The encoder's work is not counted; it is frozen, and its features may be kept.
    """

    cameras: tuple[str, ...]
    image_hw: tuple[int, int]
    patch: int
    future_s: tuple[float, ...]
    size: int
    source: str | None = None
    last: bool = False
    """Of the later frames the last one alone, beside the frame of now: what a plan is to lead to."""

    def __post_init__(self) -> None:
        if len(self.cameras) != 1 or (self.source is None and self.size != 3 * self.patch**2):
            raise InputError(
                where="FrameFeatures",
                expected="one camera, and without an encoder as many numbers as a patch has",
                got=f"{len(self.cameras)} cameras, size {self.size} at patch {self.patch}",
                do="Correct them.",
            )

    @property
    def grid_hw(self) -> tuple[int, int]:
        return self.image_hw[0] // self.patch, self.image_hw[1] // self.patch

    @property
    def per_frame(self) -> int:
        return self.grid_hw[0] * self.grid_hw[1]

    @property
    def num_frames(self) -> int:
        """How many of them are predicted."""
        return 1 if self.last else len(self.future_s)

    @property
    def views(self) -> tuple[ViewKind, ...]:
        return ("noised",)

    def num_tokens(self, view: ViewKind) -> int:
        return self.per_frame * self.num_frames

    def window(self) -> Window:
        asked = {"cameras": self.cameras, "image_hw": self.image_hw, "future_s": self.future_s}
        return Window(**{**vars(NOTHING), **asked})

    def num_parameters(self, width: int) -> int:
        return linear_parameters(self.size, width) + linear_parameters(width, self.size)

    def embed_flops(self, view: ViewKind, width: int) -> int:
        return linear_flops(self.num_tokens(view), self.size, width)

    def read_flops(self, view: ViewKind, width: int) -> int:
        return linear_flops(self.num_tokens(view), width, self.size)

    def encode_flops(self, view: ViewKind) -> int:
        return 0

    def decode_flops(self) -> int:
        return 0


class FrameFeatureCodec(nn.Module):
    """The module of :class:`FrameFeatures`."""

    def __init__(self, spec: FrameFeatures, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.enter, self.leave = nn.Linear(spec.size, width), nn.Linear(width, spec.size)

    def observe(self, obs: Observation) -> Latent:
        """The features of the frame of now."""
        return all_valid(self.features(obs.images[self.spec.cameras[0]][:, None])[:, 0])

    def target(self, batch: Batch) -> Latent:
        """The features of the later frames; beside them, those of the frame before each."""
        camera = self.spec.cameras[0]
        future, there = batch.future[camera], batch.future_valid
        if self.spec.last:
            future, there = future[:, -1:], there[:, -1:]
        clip = torch.cat([batch.obs.images[camera][:, None], future], dim=1)
        found = rearrange(self.features(clip), "b t n c -> b (t n) c")
        num = self.spec.per_frame
        valid = there.repeat_interleave(num, dim=1)
        return Latent(values=found[:, num:], valid=valid, beside=found[:, :-num])

    @torch.no_grad()
    def features(self, frames: Tensor) -> Float[Tensor, "b t n c"]:
        """Of frames ``b t h w 3``, each on its own, normed over their numbers."""
        pictures = rearrange(frames, "b t h w c -> b t c h w").float() / 255
        if self.spec.source is None:
            found = patches_of(pictures, self.spec.patch)
        else:
            mean, std = (torch.tensor(part, device=pictures.device)[:, None, None] for part in (MEAN, STD))
            twice = repeat((pictures - mean) / std, "b t c h w -> (b t) two c h w", two=2)
            encoder = video_encoder(self.spec.source).to(pictures.device)
            states = encoder(pixel_values_videos=twice, skip_predictor=True).last_hidden_state.float()
            found = rearrange(states, "(b t) n c -> b t n c", b=len(frames))
        return functional.layer_norm(found, found.shape[-1:])

    def beside(self, obs: Observation) -> Float[Tensor, "b n c"]:
        """What stands beside the frames that are to be found: now, for all of them before any is."""
        return self.observe(obs).values.repeat(1, self.spec.num_frames, 1)

    def rolled(self, latent: Latent) -> Latent:
        """Beside each frame the one that was found before it: the next answer goes one frame further in time."""
        assert latent.beside is not None
        num = self.spec.per_frame
        return replace(latent, beside=torch.cat([latent.beside[:, :num], latent.values[:, :-num]], dim=1))

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (self.spec.num_tokens(view), self.spec.size)

    def embed(self, latent: Float[Tensor, "b n c2"], level: Tensor) -> Float[Tensor, "b n w"]:
        """Of each token the features of the frame before, which stand beside what is to be found."""
        return self.enter(latent[..., self.spec.size :])

    def read(self, hidden: Float[Tensor, "b n w"]) -> Float[Tensor, "b n c"]:
        return self.leave(hidden)

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        rows, columns = self.spec.grid_hw
        axes = (self.spec.num_frames, rows, columns)
        return torch.cartesian_prod(*(torch.arange(size).float() for size in axes))[:num_tokens]


@dataclass(frozen=True, kw_only=True)
class StepTokens(InputTokens):
    """``per_step`` empty tokens in front of each of ``steps`` steps of time, for what a tower reads across."""

    steps: int
    per_step: int

    def num_tokens(self, view: ViewKind) -> int:
        return self.steps * self.per_step


class StepCodec(InputCodec):
    """The module of :class:`StepTokens`; it holds no weights."""

    def __init__(self, spec: StepTokens, width: int) -> None:
        super().__init__()
        self.spec, self.width = spec, width

    def observe(self, obs: Observation) -> Latent:
        return all_valid(torch.zeros(obs.batch_size, self.spec.num_tokens("now"), 0, device=obs.state.device))

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (self.spec.num_tokens(view), 0)

    def embed(self, latent: Float[Tensor, "b n 0"], level: Tensor) -> Float[Tensor, "b n w"]:
        return latent.new_zeros(*latent.shape[:2], self.width)

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        return at_steps(self.spec.steps, self.spec.per_step)[:num_tokens]


def at_steps(steps: int, per_step: int) -> Float[Tensor, "n 3"]:
    """Tokens beside the pictures: a time, no row and no column."""
    times = torch.arange(steps).float().repeat_interleave(per_step)
    return torch.stack([times, *(torch.full_like(times, torch.nan) for _ in range(2))], dim=-1)
