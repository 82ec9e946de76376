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
        **Batch.unforeseen(num),
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
    """A backbone as the training loop sees it: its own loss, and referring localisation.

    A reader as small as can be (one learned query per head over the observed picture's keys, one linear map of the
    values it reads) must look at the thing that the words name (``segment``: cross-entropy of its attention) and say
    where it is (``place``: absolute error in patches). An action expert reads the same keys and values. These are
    PaliGemma's "segment" and "detect" tasks in their cheapest form, given to both backbones alike; without them models
    of this size stay for thousands of steps on a plateau where the words change nothing.
    """

    LAYERS = (2, 3, 4, 5)
    PLACE_WEIGHT = 0.25

    def __init__(self, policy: StreamPolicy, group: str, *, weight: float) -> None:
        super().__init__()
        self.policy, self.group, self.mark_weight = policy, group, weight
        self.queries = nn.Parameter(0.1 * torch.randn(len(self.LAYERS), nano.HEADS, nano.HEAD_DIM))
        self.places = nn.ModuleList(nn.Linear(nano.HEADS * nano.HEAD_DIM, 2) for _ in self.LAYERS)

    def loss(self, batch: Asked, *, generator: torch.Generator) -> Losses:
        policy = self.policy
        names = policy.groups()
        prepared = policy.prepare(batch.batch, names, generator)
        states = policy.net(policy.inputs(prepared, names, {}), {})
        terms = dict(policy.losses_of(prepared, states).terms)
        read, shown = states[self.group], batch.shown
        truth, named = shown @ patch_centres().to(shown), shown.sum(dim=-1)
        segment, place = torch.zeros_like(named), torch.zeros_like(named)
        for query, to_place, layer in zip(self.queries, self.places, self.LAYERS, strict=True):
            share = torch.einsum("bnhd,hd->bhn", read.keys[layer], query).log_softmax(dim=-1)
            found = torch.einsum("bhn,bnhd->bhd", share.exp(), read.values[layer]).flatten(1)
            segment = segment - torch.einsum("bn,bhn->b", shown, share) / nano.HEADS
            place = place + (to_place(found) - truth).abs().sum(dim=-1) * named
        terms["segment"] = self.mark_weight * segment / len(self.LAYERS)
        terms["place"] = self.mark_weight * self.PLACE_WEIGHT * place / len(self.LAYERS)
        return Losses(terms=terms)


def patch_centres() -> Tensor:
    """Column and row of each patch's centre, in patches from the picture's middle: ``n 2``."""
    rows, columns = IMAGE.patches_hw
    grid = torch.cartesian_prod(torch.arange(rows) - (rows - 1) / 2, torch.arange(columns) - (columns - 1) / 2)
    return grid.flip(dims=(1,))


class AutoencoderTraining(nn.Module):
    """The autoencoder as the training loop sees it: squared (and absolute) error of pixels, and a small penalty on the
    latents' size.

    ``emphasis`` weighs a pixel by how far it is from its frame's median colour: things cover a tenth of the picture,
    and their shapes come out blurred when the table counts as much.
    """

    def __init__(self, net: NanoAutoencoderNet, *, absolute_weight: float, emphasis: float) -> None:
        super().__init__()
        self.net = net.requires_grad_(True)
        self.absolute_weight, self.emphasis = absolute_weight, emphasis

    def loss(self, batch: Batch, *, generator: torch.Generator) -> Losses:
        pixels = clip_pixels(batch)
        latent = self.net.encode(pixels)
        gap = self.net.decode(latent) - pixels
        median = rearrange(pixels, "b t h w c -> b t c (h w)").median(dim=-1).values
        apart = (pixels - rearrange(median, "b t c -> b t 1 1 c")).abs().mean(dim=-1, keepdim=True)
        error = (10 * gap**2 + self.absolute_weight * gap.abs()) * (1 + self.emphasis * apart)
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
