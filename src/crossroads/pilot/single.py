"""One recipe on one dataset: ``crossroads train``, made of the same parts as a pilot's cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from crossroads.backbones.load import load_backbones
from crossroads.build import build
from crossroads.codecs.subtask import SubtaskTokens
from crossroads.cores import training_device
from crossroads.cost.flops import flops
from crossroads.data.cache import FrameCache
from crossroads.data.check import require_sound
from crossroads.data.language import QuestionBatches, WithSubtasks, says, subtasks_at
from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.pool import PooledSource
from crossroads.data.window import Windows
from crossroads.errors import InputError
from crossroads.pilot.cell import WindowBatches, usable
from crossroads.pilot.fitting import fit_to
from crossroads.pilot.phases import leaves_for_others, needs_actions, start_from, watches
from crossroads.pilot.plan import fingerprint, fit
from crossroads.policy import StreamPolicy
from crossroads.recipe import Recipe
from crossroads.recipes.catalogue import recipe
from crossroads.sim.tabletop.env import CAMERAS
from crossroads.space import ActionSpace, Normaliser
from crossroads.train.checkpoint import load_weights, read_meta, save_policy
from crossroads.train.cotraining import CoTraining
from crossroads.train.feature_making import build_store
from crossroads.train.features import FeatureSource, HeadTraining, WindowSource
from crossroads.train.latent_cache import encoded_windows
from crossroads.train.loop import TrainResult, train
from crossroads.train.optim import TrainConfig
from crossroads.types import Window


@dataclass(frozen=True, kw_only=True)
class Training:
    """What a user may set of a single training run; the rest is the pilot's."""

    steps: int = 2000
    tflop: float | None = None
    """In place of ``steps``: the work of training in 10^12 FLOPs, by what ``crossroads show`` counts of a sample."""
    batch_size: int = 16
    learning_rate: float = 1e-3
    seed: int = 0
    phase: str | None = None
    """One of the recipe's; when not given, ``head`` where there is one, else the first."""
    num_draws: int = 2
    keep_latents: bool = False
    """Encode the video of each window once, before training, and keep it in half precision, instead of at each step;
    for phases that train on video (a phase on a frozen backbone keeps its features anyway)."""
    pictures: Literal["cached", "caching", "pooled"] = "cached"
    """``cached``: every picture is decoded before the first step, into a file; ``caching``: during the first epoch,
    while training goes on; ``pooled``: no file, whole episodes pass through memory, decoded once per epoch."""
    skip_faulty: bool = False
    """Leave out episodes with findings of the check instead of refusing the dataset; the run says which were."""
    questions: Path | None = None
    """A data set with questions about its pictures, trained on beside the actions, for phases that learn to answer."""
    questions_share: float = 0.2
    """The part of each batch that is questions."""
    start: Path | None = None
    """A run of the same recipe whose weights this one starts from: phases that follow each other."""


def train_recipe(name: str, data: str | Path, out: Path, settings: Training, *, progress: bool = True) -> TrainResult:
    """Train a recipe on a LeRobot dataset into ``out``; the same call continues a run that was stopped."""
    left_out = require_sound(data, skip_faulty=settings.skip_faulty)
    dataset = LeRobotDataset.open(data, without=left_out)
    sized = fit(recipe(name), dataset.space, dataset.cameras)
    policy = build(sized, dataset.space, seed=settings.seed)
    hashes = load_backbones(policy)
    phases = {phase.name: phase for phase in sized.phases}
    policy.enter(sized.phase(settings.phase) if settings.phase else phases.get("head", sized.phases[0]))
    settings = within_work(settings, sized, policy.phase.name)
    started = () if settings.start is None else (start_from(settings.start, policy),)
    labelled = tuple(dataset.episodes.where(action_free=False).tolist())
    free = tuple(dataset.episodes.where(action_free=True).tolist())
    if not labelled and needs_actions(sized, policy.phase):
        raise InputError(
            where=str(data), expected="episodes with actions", got="none", do="Record or add labelled episodes."
        )
    if labelled:
        fit_to(policy, dataset, labelled)
    window = sized.window
    pooled = _pooled(settings, policy.phase.name)
    cache = None if pooled else open_cache(dataset, window, settings)
    chosen = (*labelled, *(free if watches(sized, policy.phase) else ()))
    windows = Windows(dataset, window, episodes=chosen, cache=cache, inside_s=window.chunk_s if pooled else 0.0)
    rows = usable(windows, set(chosen))
    subtasks = subtasks_at(dataset, windows.places()) if _writers(sized) and says(dataset) else None

    def told(source: WindowSource) -> WindowSource:
        return source if subtasks is None else WithSubtasks(source, subtasks)

    config = config_of(settings)
    questions, asked = _questions(policy, settings)
    mark = fingerprint(
        sized, dataset.content_hash(), policy.phase.name, *asked, *started, *(("pooled",) if pooled else ())
    )
    if policy.phase.name == "head":
        source = _kept_features(policy, told(windows), rows, out / "features", settings)
        result = run_training(HeadTraining(policy), source, config, out, name, mark, progress)
    else:
        num = settings.batch_size - (questions.batch_size if questions else 0)
        if pooled:
            pool = PooledSource.of(windows, batch_size=num, seed=settings.seed)
            batches = replace(pool, windows=told(pool.order.windows))
        else:
            device, kept = training_device(), settings.keep_latents
            given = encoded_windows(policy, windows, rows, device=device, progress=progress) if kept else windows
            batches = WindowBatches(told(given), rows, num, settings.seed)
        source = CoTraining(robot=batches, language=questions) if questions else batches
        result = run_training(policy, source, config, out, name, mark, progress)
    meta = {"recipe": name, "space": asdict(dataset.space), "cameras": list(dataset.cameras), "backbones": hashes}
    if left_out:
        meta["left_out"] = list(left_out)
    whole = settings.start is not None or leaves_for_others(policy)
    save_policy(out / "policy", policy, {**meta, "fingerprint": fingerprint(sized)}, include_frozen=whole)
    return result


def _kept_features(
    policy: StreamPolicy, windows: WindowSource, rows: np.ndarray, folder: Path, settings: Training
) -> FeatureSource:
    """Batches of what the frozen part of a policy makes of the windows, kept in ``folder``."""
    if settings.keep_latents:
        raise InputError(
            where="keep_latents",
            expected="a phase that trains on video",
            got=f"{policy.phase.name!r}, which keeps the features of its frozen backbone",
            do="Leave the setting out, or name another phase.",
        )
    store = build_store(policy, windows, rows, folder, num_draws=settings.num_draws, seed=settings.seed)
    return FeatureSource(store=store, rows=np.arange(len(rows)), batch_size=settings.batch_size, seed=settings.seed)


def open_cache(dataset: LeRobotDataset, window: Window, settings: Training) -> FrameCache:
    """The decoded pictures that a recipe looks at, all there or on their way."""
    behind = settings.pictures == "caching"
    return FrameCache.open(dataset, cameras=window.cameras, image_hw=window.image_hw, behind=behind)


def within_work(settings: Training, sized: Recipe, phase: str) -> Training:
    """The settings with the number of steps that their work, if it is given, pays for. Features that a run keeps are
    counted as if each step computed them."""
    if settings.tflop is None:
        return settings
    sample = flops(sized).train[phase].total
    steps = round(settings.tflop * 1e12 / (sample * settings.batch_size))
    if steps < 1:
        raise InputError(
            where="tflop",
            expected=f"the work of a step or more, {sample * settings.batch_size / 1e12:.3g}",
            got=f"{settings.tflop:g}",
            do="Allow more, or train with a smaller batch.",
        )
    return replace(settings, steps=steps)


def _pooled(settings: Training, phase: str) -> bool:
    """Whether pictures are read in pools, which is for phases that look at them again and again."""
    if settings.pictures != "pooled":
        return False
    if phase == "head" or settings.keep_latents:
        raise InputError(
            where="pictures",
            expected="`cached` or `caching` for training on features or latents that are computed once and kept",
            got=f"`pooled`, phase {phase!r}, keep_latents {settings.keep_latents}",
            do="Leave the setting out, or train the phase `full` without --keep-latents.",
        )
    return True


def _writers(sized: Recipe) -> tuple[str, ...]:
    """The streams that write what a sample's answer says: subtasks, and answers to questions."""
    return tuple(stream.name for stream in sized.stage.streams if isinstance(stream.codec, SubtaskTokens))


def _questions(policy: StreamPolicy, settings: Training) -> tuple[QuestionBatches | None, tuple[object, ...]]:
    """What is asked beside the actions, and what tells this from other questions."""
    if settings.questions is None:
        return None, ()
    writers = [name for name in _writers(policy.recipe) if name in policy.phase.losses]
    num = round(settings.batch_size * settings.questions_share)
    if not writers or not 0 < num < settings.batch_size:
        raise InputError(
            where="questions",
            expected="a phase that learns to write answers, and a share that leaves room for both kinds in a batch",
            got=f"phase {policy.phase.name!r}, which learns {', '.join(policy.phase.losses)}; "
            f"{num} questions in a batch of {settings.batch_size}",
            do="Train a recipe that writes subtasks (pi05, baseline_ki) in its phase `full`; choose another share.",
        )
    require_sound(settings.questions)
    dataset = LeRobotDataset.open(settings.questions)
    found = QuestionBatches.of(dataset, policy.recipe.window, batch_size=num, seed=settings.seed)
    return found, (dataset.content_hash(), num)


def run_training(policy, source, config: TrainConfig, out: Path, name: str, mark: str, progress: bool) -> TrainResult:
    """Train on this machine's device."""
    return train(
        policy, source, config, out, device=training_device(), progress=progress, recipe_name=name, fingerprint=mark
    )


def config_of(settings: Training) -> TrainConfig:
    """What the loop is told: the user's settings, and the pilot's for the rest."""
    return TrainConfig(
        steps=settings.steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        warmup_steps=min(100, settings.steps // 10),
        final_learning_rate_fraction=0.05,
        weight_decay=0.01,
        betas=(0.9, 0.95),
        clip_norm=1.0,
        ema_decay=0.99,
        seed=settings.seed,
        checkpoint_every=250,
        log_every=max(1, settings.steps // 40),
        mixed_precision=True,
    )


def space_of(told: Mapping[str, Any]) -> ActionSpace:
    """An action space from JSON."""
    return ActionSpace(**{key: tuple(v) if isinstance(v, list) else v for key, v in told.items()})  # pyright: ignore[reportArgumentType]


def restore(run: Path) -> StreamPolicy:
    """The trained policy of a run folder, or of a cell of a pilot on the embedded world, to act."""
    meta = read_meta(run / "policy")
    space = space_of(meta["space"])
    cameras = meta.get("cameras", CAMERAS)  # a cell names none; whether these were its own the fingerprint tells
    sized = fit(recipe(meta["recipe"]), space, tuple(cameras))
    if fingerprint(sized) != meta["fingerprint"]:
        raise InputError(
            where=str(run),
            expected=f"weights of the present recipe {meta['recipe']!r} for cameras {', '.join(cameras)}",
            got="weights of another version of it, or for other cameras",
            do="Train again with this version, or use the version that wrote the run.",
        )
    policy = build(sized, space, seed=0)
    load_backbones(policy)
    if robots := tuple(one["robot"] for one in meta.get("robots", ())):  # each has a normaliser of its own
        for module in policy.net.modules():
            if isinstance(module, Normaliser):
                module.enrol(robots)
    load_weights(run / "policy", policy)
    policy.enter(sized.phases[-1])
    policy.net.turn_weights()
    return policy
