"""``crossroads backbones``: train the two nano backbones from nothing, on the same frames, at equal training FLOPs.

Order: record clips; the autoencoder; then the video model and the language model, which may run side by side. Every
part resumes where it was stopped. The card (``card.py``) is written from what was measured.
"""

from __future__ import annotations

import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from crossroads.backbones.card import build_card, measure, spent, write_card
from crossroads.backbones.clips import HELD_OUT_SEED, TRAIN_SEED, Clip, load_or_record
from crossroads.backbones.load import SHIPPED, load_weights_of
from crossroads.backbones.sources import (
    AutoencoderTraining,
    MarkedClipSource,
    MarkTraining,
    QuestionSource,
    VideoSource,
    clip_batch,
    draw_places,
)
from crossroads.build import build
from crossroads.codecs.latents import LatentCodec
from crossroads.codecs.pixels import VisionLayer
from crossroads.codecs.video_autoencoder import NanoAutoencoder, NanoAutoencoderNet
from crossroads.policy import StreamPolicy
from crossroads.recipes.catalogue import recipe
from crossroads.space import ActionSpace
from crossroads.towers.gemma import GemmaBlock
from crossroads.towers.wan import WanBlock
from crossroads.train.loop import train
from crossroads.train.optim import TrainConfig

NO_ROBOT = ActionSpace(robot="none", action_names=(), action_units=(), low=(), high=(), state_names=(), control_hz=10.0)


SHARD_BYTES = 8_000_000


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much of everything; the steps of the two models are chosen so that their training FLOPs agree within 5 %."""

    num_clips: int = 9000
    """With 3,000 the video model placed things twice as badly on held-out scenes as on its own."""
    num_held_out: int = 200
    autoencoder_steps: int = 1000
    autoencoder_fine_steps: int = 800
    autoencoder_sharp_steps: int = 1400
    autoencoder_batch: int = 16
    video_steps: tuple[int, int] = (1520, 3700)
    """Two rounds: one from nothing, one that goes on with the learning rate raised again."""
    video_batch: int = 24
    language_steps: tuple[int, int] = (1440, 3540)
    language_batch: int = 32
    seed: int = 0


ROUND_RATES = (1e-3, 6e-4)
IMAGE_FACTORS = (0.1, 0.5)
"""Of the learning rate, for the vision encoder: at full rate, from nothing, its tokens collapse to one constant."""

CONFIG = TrainConfig(
    steps=1,
    batch_size=1,
    learning_rate=1e-3,
    warmup_steps=0,
    final_learning_rate_fraction=0.02,
    weight_decay=0.05,
    betas=(0.9, 0.95),
    clip_norm=1.0,
    ema_decay=0.995,
    seed=0,
    checkpoint_every=100,
    log_every=25,
    mixed_precision=True,
)


def clips(folder: Path, budget: Budget) -> tuple[list[Clip], list[Clip]]:
    """Training clips (recorded by two processes) and held-out clips; recorded once."""
    half = budget.num_clips // 2
    parts = [(folder / f"clips{part}.npz", half, TRAIN_SEED + part * 1_000_000) for part in range(2)]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        found = [clip for part in pool.map(load_or_record, *zip(*parts, strict=True)) for clip in part]
    return found, load_or_record(folder / "held_out.npz", budget.num_held_out, HELD_OUT_SEED)


def make_backbones(out: Path, *, device: str, budget: Budget | None = None, install: bool = True) -> str:
    """Everything, from recording to the card; with ``install`` the weights and card replace the package's own."""
    budget = budget or Budget()
    out.mkdir(parents=True, exist_ok=True)
    train_clips, held_out = clips(out, budget)
    paths = [*make_video(out, train_clips, budget, device), *make_language(out, train_clips, budget, device)]
    card = describe(out, train_clips, held_out, budget)
    for path in [*paths, card, out / "card.json"] if install else ():
        shutil.copy(path, SHIPPED / path.name)
    return card.read_text()


def describe(out: Path, train_clips: list[Clip], held_out: list[Clip], budget: Budget) -> Path:
    """Measure both models on held-out scenes and write the card."""
    policies = [build(recipe(name), NO_ROBOT, seed=budget.seed) for name in ("nano_video", "nano_vlm")]
    for policy in policies:
        load_weights_of(policy, out)
    source = QuestionSource(clips=train_clips, batch_size=1000, seed=1)
    asked = source.batch(0).batch
    costs = (
        spent(policies[0], sum(budget.video_steps), budget.video_batch, [clip.text for clip in train_clips], ()),
        spent(policies[1], sum(budget.language_steps), budget.language_batch, asked.obs.text, asked.answer),
    )
    card = build_card(
        measure(policies[0], policies[1], train_clips, held_out),
        costs,
        num_clips=len(train_clips),
        seed=budget.seed,
        autoencoder=f"{budget.autoencoder_steps} steps of clips, {budget.autoencoder_fine_steps} of clips and stills, "
        f"{budget.autoencoder_sharp_steps} with things weighted up, batch {budget.autoencoder_batch}; 4x in time, "
        "8x in space, 16 channels",
        command="make backbones",
    )
    return write_card(card, out)


def make_autoencoder(folder: Path, found: list[Clip], budget: Budget, device: str) -> Path:
    """Train the autoencoder, measure its latent scale, write its weights."""
    path = folder / "autoencoder.safetensors"
    if path.exists():
        return path
    torch.manual_seed(budget.seed)
    net = NanoAutoencoderNet(NanoAutoencoder())
    source = VideoSource(clips=found, batch_size=budget.autoencoder_batch, seed=budget.seed)
    for name, steps, rate, stills, emphasis in (
        ("autoencoder", budget.autoencoder_steps, 2e-3, False, 0.0),
        ("autoencoder_fine", budget.autoencoder_fine_steps, 1.5e-3, True, 0.0),
        ("autoencoder_sharp", budget.autoencoder_sharp_steps, 1.5e-3, True, 8.0),
    ):
        training = AutoencoderTraining(net, absolute_weight=float(stills), emphasis=emphasis)
        config = _config(steps, budget.autoencoder_batch, budget.seed, learning_rate=rate)
        _train(training, replace(source, stills=stills), config, folder / name, name, device)
    places = draw_places(found, 256, np.random.default_rng(budget.seed))
    training.measure_scale(clip_batch(found, places).to(device))
    save_file({name: value.cpu().contiguous() for name, value in training.net.state_dict().items()}, path)
    return path


def make_video(folder: Path, found: list[Clip], budget: Budget, device: str) -> list[Path]:
    """Train the video model on the autoencoder's latents; its weights file holds the autoencoder too."""
    policy = build(recipe("nano_video"), NO_ROBOT, seed=budget.seed)
    codec = policy.net.codecs["video"]
    assert isinstance(codec, LatentCodec)
    codec.autoencoder.load_state_dict(load_file(make_autoencoder(folder, found, budget, device)))
    fuse_blocks(policy)
    training = MarkTraining(policy, "video.now", weight=1.0)
    for index, (steps, rate) in enumerate(zip(budget.video_steps, ROUND_RATES, strict=True)):
        config = _config(steps, budget.video_batch, budget.seed, learning_rate=rate)
        source = MarkedClipSource(clips=found, batch_size=budget.video_batch, seed=budget.seed + index)
        _train(training, source, config, folder / f"video_{index}", "nano_video", device)
    return write_weights(policy, folder)


def make_language(folder: Path, found: list[Clip], budget: Budget, device: str) -> list[Path]:
    """Train the language model on questions about stills of the same clips."""
    policy = build(recipe("nano_vlm"), NO_ROBOT, seed=budget.seed)
    fuse_blocks(policy)
    training = MarkTraining(policy, "image", weight=1.0)
    rounds = zip(budget.language_steps, ROUND_RATES, IMAGE_FACTORS, strict=True)
    for index, (steps, rate, factor) in enumerate(rounds):
        config = _config(steps, budget.language_batch, budget.seed, learning_rate=rate)
        config = replace(config, slow=((".codecs.image.", factor),))
        source = QuestionSource(clips=found, batch_size=budget.language_batch, seed=budget.seed + index)
        _train(training, source, config, folder / f"language_{index}", "nano_vlm", device)
    return write_weights(policy, folder)


def write_weights(policy: StreamPolicy, folder: Path) -> list[Path]:
    """A backbone's weights under their public names, in half precision, in shards that stay under 10 MB each."""
    state = policy.state_dict()
    names = policy.net.weight_names(tower.name for tower in policy.recipe.stage.towers)
    shards: list[dict[str, torch.Tensor]] = [{}]
    room = SHARD_BYTES
    for public in sorted(names):
        value = state[f"net.{names[public]}"].half().cpu().contiguous()
        if value.numel() * 2 > room:
            shards.append({})
            room = SHARD_BYTES
        shards[-1][public] = value
        room -= value.numel() * 2
    paths = [
        folder / f"{policy.recipe.name}-{index:05d}-of-{len(shards):05d}.safetensors"
        for index in range(1, len(shards) + 1)
    ]
    for path, shard in zip(paths, shards, strict=True):
        save_file(shard, path)
    return paths


def _config(steps: int, batch_size: int, seed: int, *, learning_rate: float) -> TrainConfig:
    return replace(
        CONFIG,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        warmup_steps=min(100, steps // 10),
        seed=seed,
    )


def fuse_blocks(policy: StreamPolicy) -> None:
    """Compile each layer's two halves: on CPU the video model trains 1.4 times faster, the language model 1.1 times;
    numbers differ by rounding."""
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        return
    for module in policy.modules():
        if isinstance(module, WanBlock | GemmaBlock):
            module.before = torch.compile(module.before, dynamic=True)  # pyright: ignore[reportAttributeAccessIssue]
            module.after = torch.compile(module.after, dynamic=True)  # pyright: ignore[reportAttributeAccessIssue]
        if isinstance(module, VisionLayer):
            module.compile(dynamic=True)


def _train(policy, source, config: TrainConfig, out: Path, name: str, device: str) -> None:
    train(policy, source, config, out, device=device, progress=True, recipe_name=name, fingerprint=name)
