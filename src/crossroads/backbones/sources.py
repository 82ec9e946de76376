"""Batches for the backbones, each a function of the step: the same frames for both, seen as clips or as stills."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from crossroads.backbones.clips import CAMERA, Clip
from crossroads.backbones.questions import ask
from crossroads.codecs.video_autoencoder import NanoAutoencoderNet
from crossroads.recipes.nano import CONTROL_HZ, FUTURE_S
from crossroads.types import Batch, Losses, Observation

EARLY_STEPS = 4
FUTURE_STEPS = tuple(round(time_s * CONTROL_HZ) for time_s in FUTURE_S)


def observation(clips: list[Clip], places: list[tuple[int, int]], texts: tuple[str, ...]) -> Observation:
    """Frames at (clip, step) places under some words; no state."""
    num = len(places)
    frames = np.stack([clips[clip].frames[step] for clip, step in places])
    return Observation(
        images={CAMERA: torch.from_numpy(frames)},
        state=torch.zeros(num, 0),
        text=texts,
        robot=("tabletop",) * num,
        time_s=torch.zeros(num),
    )


def batch_of(obs: Observation, future: np.ndarray | None, answers: tuple[str, ...]) -> Batch:
    """A batch without actions."""
    num = obs.batch_size
    frames = torch.zeros(num, 0, *obs.images[CAMERA].shape[1:], dtype=torch.uint8)
    if future is not None:
        frames = torch.from_numpy(future)
    return Batch(
        obs=obs,
        actions=torch.zeros(num, 0, 0),
        actions_valid=torch.zeros(num, 0, dtype=torch.bool),
        future={CAMERA: frames},
        future_valid=torch.ones(num, frames.shape[1], dtype=torch.bool),
        answer=answers,
        weight=torch.ones(num),
    )


def draw_places(
    clips: list[Clip], num: int, rng: np.random.Generator, *, early_share: float = 0.0
) -> list[tuple[int, int]]:
    """Uniform over episodes, then over steps; ``early_share`` of the draws come from an episode's first steps, where
    the words (and not the motion so far) tell what will happen."""
    chosen = rng.integers(len(clips), size=num)
    lengths = [len(clips[clip].frames) for clip in chosen]
    ends = [min(EARLY_STEPS, length) if rng.random() < early_share else length for length in lengths]
    return [(int(clip), int(rng.integers(end))) for clip, end in zip(chosen, ends, strict=True)]


def clip_batch(clips: list[Clip], places: list[tuple[int, int]]) -> Batch:
    """Windows of now and future frames; after its end an episode is at rest, so its last frame stands for it."""
    future = np.stack(
        [
            np.stack([clips[clip].frames[min(step + ahead, len(clips[clip].frames) - 1)] for ahead in FUTURE_STEPS])
            for clip, step in places
        ]
    )
    obs = observation(clips, places, tuple(clips[clip].text for clip, _ in places))
    return batch_of(obs, future, ("",) * len(places))


@dataclass(frozen=True, kw_only=True)
class VideoSource:
    """Clips for the video model and for its autoencoder."""

    clips: list[Clip]
    batch_size: int
    seed: int
    stills: bool = False
    """Every second batch holds single frames, three times as many: objects are learned faster from stills."""

    def batch(self, step: int) -> Batch:
        rng = np.random.default_rng((self.seed, step, 1))
        if self.stills and step % 2:
            places = draw_places(self.clips, 3 * self.batch_size, rng)
            return batch_of(observation(self.clips, places, ("",) * len(places)), None, ("",) * len(places))
        places = draw_places(self.clips, self.batch_size, rng, early_share=0.5)
        return clip_batch(self.clips, places)


@dataclass(frozen=True, kw_only=True)
class QuestionSource:
    """Stills with questions for the language model."""

    clips: list[Clip]
    batch_size: int
    seed: int

    def batch(self, step: int) -> Batch:
        rng = np.random.default_rng((self.seed, step, 2))
        places = draw_places(self.clips, self.batch_size, rng)
        asked = [ask(self.clips[clip], moment, rng) for clip, moment in places]
        obs = observation(self.clips, places, tuple(question for question, _ in asked))
        return batch_of(obs, None, tuple(answer for _, answer in asked))


class AutoencoderTraining(nn.Module):
    """The autoencoder as the training loop sees it: squared (and absolute) error of pixels, and a small penalty on the
    latents' size."""

    def __init__(self, net: NanoAutoencoderNet, *, absolute_weight: float) -> None:
        super().__init__()
        self.net = net.requires_grad_(True)
        self.absolute_weight = absolute_weight

    def loss(self, batch: Batch, *, generator: torch.Generator) -> Losses:
        pixels = clip_pixels(batch)
        latent = self.net.encode(pixels)
        gap = self.net.decode(latent) - pixels
        error = 10 * gap**2 + self.absolute_weight * gap.abs()
        return Losses(
            terms={
                "pixels": rearrange(error, "b t h w c -> b (t h w c)").mean(dim=1),
                "latents": rearrange(latent**2, "b t h w c -> b (t h w c)").mean(dim=1) * 1e-4,
            }
        )

    @torch.no_grad()
    def measure_scale(self, batch: Batch) -> None:
        """Set the per-channel mean and spread that normalise the latents (once, after training)."""
        latent = self.net.encode(clip_pixels(batch))
        self.net.mean.copy_(latent.mean(dim=(0, 1, 2, 3)))
        self.net.std.copy_(latent.std(dim=(0, 1, 2, 3)))


def clip_pixels(batch: Batch) -> Tensor:
    """Now and future of the one camera, -1..1: ``b t h w 3``."""
    now = rearrange(batch.obs.images[CAMERA], "b h w c -> b 1 h w c")
    return torch.cat([now, batch.future[CAMERA]], dim=1).float() / 127.5 - 1
