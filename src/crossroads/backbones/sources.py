"""Batches for the backbones, each a function of the step: the same frames for both, seen as clips or as stills."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from crossroads.backbones.clips import CAMERA, Clip
from crossroads.backbones.questions import ask, named_place
from crossroads.codecs.video_autoencoder import NanoAutoencoderNet
from crossroads.policy import StreamPolicy
from crossroads.recipes import nano
from crossroads.recipes.nano import CONTROL_HZ, FUTURE_S, IMAGE, VIDEO
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
    """Clips for the autoencoder."""

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
        return clip_batch(self.clips, draw_places(self.clips, self.batch_size, rng))


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Stills with questions, and which patch shows the thing that each question names."""

    batch: Batch
    shown: Tensor
    """``b p``: the share of each patch in the named thing's centre (bilinear between patch centres); zero rows for
    questions that name no one thing."""

    @property
    def weight(self) -> Tensor:
        return self.batch.weight

    def to(self, device: torch.device | str) -> Asked:
        return Asked(batch=self.batch.to(device), shown=self.shown.to(device))


@dataclass(frozen=True, kw_only=True)
class QuestionSource:
    """Stills with questions for the language model."""

    clips: list[Clip]
    batch_size: int
    seed: int

    def batch(self, step: int) -> Asked:
        rng = np.random.default_rng((self.seed, step, 2))
        places = draw_places(self.clips, self.batch_size, rng)
        asked = [ask(self.clips[clip], moment, rng) for clip, moment in places]
        obs = observation(self.clips, places, tuple(question for question, _ in asked))
        named = [
            named_place(self.clips[clip], moment, question)
            for (clip, moment), (question, _) in zip(places, asked, strict=True)
        ]
        batch = batch_of(obs, None, tuple(answer for _, answer in asked))
        return Asked(batch=batch, shown=torch.stack([patch_shares(uv, *IMAGE.patches_hw) for uv in named]))


def patch_shares(uv: np.ndarray | None, rows: int, columns: int) -> Tensor:
    """The bilinear weights of a picture place among the patch centres, flattened row by row."""
    if uv is None:
        return torch.zeros(rows * columns)
    column = torch.arange(columns) - float(np.clip(uv[0] * columns - 0.5, 0, columns - 1))
    row = torch.arange(rows) - float(np.clip(uv[1] * rows - 0.5, 0, rows - 1))
    return torch.outer((1 - row.abs()).clamp(min=0), (1 - column.abs()).clamp(min=0)).flatten()


@dataclass(frozen=True, kw_only=True)
class MarkedClipSource:
    """Clips for the video model, with the patch of now that shows the thing which the instruction names."""

    clips: list[Clip]
    batch_size: int
    seed: int

    def batch(self, step: int) -> Asked:
        rng = np.random.default_rng((self.seed, step, 1))
        places = draw_places(self.clips, self.batch_size, rng, early_share=0.5)
        named = [named_place(self.clips[clip], moment, self.clips[clip].text) for clip, moment in places]
        shown = torch.stack([patch_shares(uv, *VIDEO.grid_hw) for uv in named])
        return Asked(batch=clip_batch(self.clips, places), shown=shown)


class MarkTraining(nn.Module):
    """A backbone as the training loop sees it: its own loss, and referring segmentation.

    The second asks every token of the observed picture whether it shows the thing that the words name (cross-entropy
    over tokens, from what one layer offers to a reader: its values). It is PaliGemma's "segment" task in its cheapest
    form, given to both backbones alike; it makes the marks that an action expert reads. Without it models of this
    size stay for thousands of steps on a plateau where the words change nothing.
    """

    LAYER = 4

    def __init__(self, policy: StreamPolicy, group: str, *, weight: float) -> None:
        super().__init__()
        self.policy, self.group, self.mark_weight = policy, group, weight
        self.mark = nn.Linear(nano.HEADS * nano.HEAD_DIM, 1)

    def loss(self, batch: Asked, *, generator: torch.Generator) -> Losses:
        policy = self.policy
        names = policy.groups()
        prepared = policy.prepare(batch.batch, names, generator)
        states = policy.net(policy.inputs(prepared, names, {}), {})
        terms = dict(policy.losses_of(prepared, states).terms)
        scores = self.mark(states[self.group].values[self.LAYER].flatten(2)).squeeze(-1)
        terms["segment"] = -self.mark_weight * (batch.shown * scores.log_softmax(dim=-1)).sum(dim=-1)
        return Losses(terms=terms)


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
