"""The model card of the two backbones: what they saw, what it cost, what they can do on held-out scenes."""

from __future__ import annotations

import datetime
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from crossroads.backbones.clips import FAMILIES, HELD_OUT_SEED, TRAIN_SEED, Clip
from crossroads.backbones.quality import Accuracy, Probe, answers, probes, video_quality
from crossroads.cost.flops import flops, parameters
from crossroads.evaluate.video import VideoScore
from crossroads.policy import StreamPolicy
from crossroads.recipes.nano import VOCABULARY


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What training one backbone took."""

    model: str
    parameters: int
    steps: int
    samples: int
    training_flops: float
    """Counted from the recipe at the mean text lengths of the data; the autoencoder's own training is not in it."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """Everything the card says."""

    command: str
    date: str
    machine: str
    seed: int
    data: str
    spent: tuple[Spent, ...]
    autoencoder: str
    video: tuple[VideoScore, ...]
    answers: tuple[Accuracy, ...]
    probes: tuple[Probe, ...]


def spent(policy: StreamPolicy, steps: int, batch_size: int, texts: Sequence[str], replies: Sequence[str]) -> Spent:
    """Cost of a pretraining run at the mean number of tokens of its texts."""
    tokens = {"text": _mean_tokens(texts)}
    if replies:
        tokens["answer"] = _mean_tokens(replies) + 1
    sample = flops(policy.recipe, tokens=tokens).train["pretrain"]
    return Spent(
        model=policy.recipe.name,
        parameters=parameters(policy.recipe).total,
        steps=steps,
        samples=steps * batch_size,
        training_flops=float(sample.total) * steps * batch_size,
    )


def _mean_tokens(texts: Sequence[str]) -> int:
    return round(sum(len(VOCABULARY.encode(text)) for text in texts) / len(texts))


def measure(
    video: StreamPolicy, language: StreamPolicy, train: list[Clip], held_out: list[Clip]
) -> dict[str, tuple[Any, ...]]:
    """The held-out figures of both models."""
    return {
        "video": video_quality(video, held_out),
        "answers": answers(language, held_out),
        "probes": (
            *probes(video, "video.now", train, held_out),
            *probes(language, "image", train, held_out)[:1],
            *probes(language, "text", train, held_out)[:1],
        ),
    }


def build_card(
    measured: dict[str, tuple[Any, ...]],
    costs: tuple[Spent, ...],
    *,
    num_clips: int,
    seed: int,
    autoencoder: str,
    command: str,
) -> Card:
    """The card of a finished run."""
    data = (
        f"{num_clips} action-free tabletop episodes ({', '.join(FAMILIES)}; front camera, 64 px, 10 Hz; scenes from "
        f"{TRAIN_SEED} and {TRAIN_SEED + 1_000_000}); held out: scene seeds from {HELD_OUT_SEED}"
    )
    return Card(
        command=command,
        date=datetime.date.today().isoformat(),
        machine=f"{platform.machine()}, {torch.get_num_threads()} thread(s) per model, torch {torch.__version__}",
        seed=seed,
        data=data,
        spent=costs,
        autoencoder=autoencoder,
        video=measured["video"],
        answers=measured["answers"],
        probes=measured["probes"],
    )


def write_card(card: Card, folder: Path) -> Path:
    """``card.json`` and ``CARD.md``."""
    (folder / "card.json").write_text(json.dumps(asdict(card), indent=1) + "\n")
    lines = [
        "# The nano backbones",
        "",
        "Two small models of equal size on the same frames: a text-to-video model and a vision-language model. They",
        "exist so that a comparison of policies can run on a laptop; they know nothing but the embedded tabletop.",
        "",
        f"- Command: `{card.command}` ({card.date}; {card.machine}; seed {card.seed})",
        f"- Data: {card.data}",
        f"- Autoencoder (part of nano_video, trained first): {card.autoencoder}",
        "",
        "| model | parameters | steps | samples | training FLOPs |",
        "|---|--:|--:|--:|--:|",
        *(f"| {s.model} | {s.parameters:,} | {s.steps} | {s.samples:,} | {s.training_flops:.3g} |" for s in card.spent),
        "",
        "## Video, held-out scenes, from the first frame",
        "",
        "| time (s) | PSNR (dB) | repeat last (dB) | where it moves (dB) | repeat last, there | even grey, there |",
        "|--:|--:|--:|--:|--:|--:|",
        *(
            f"| {v.time_s} | {v.psnr_db:.1f} | {v.psnr_repeat_db:.1f} | {v.moving_psnr_db or 0:.1f} | "
            f"{v.moving_psnr_repeat_db or 0:.1f} | {v.moving_psnr_grey_db or 0:.1f} |"
            for v in card.video
        ),
        "",
        "## Answers, held-out scenes (a place is right within one bin of 2 px on both axes)",
        "",
        "| question | right | chance | n |",
        "|---|--:|--:|--:|",
        *(f"| {a.kind} | {a.right:.2f} | {a.chance:.3f} | {a.num_questions} |" for a in card.answers),
        "",
        "## Where is the named thing? Linear probe, held-out scenes",
        "",
        "| features | median error (cm) | mean (cm) | scenes |",
        "|---|--:|--:|--:|",
        *(f"| {p.features} | {p.median_cm:.1f} | {p.mean_cm:.1f} | {p.num_scenes} |" for p in card.probes),
        "",
    ]
    path = folder / "CARD.md"
    path.write_text("\n".join(lines))
    return path
