"""One recipe on one dataset: ``crossroads train`` and ``crossroads eval``, the same parts as a pilot's cell."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from crossroads.backbones.load import load_backbones
from crossroads.build import build, fit_normalisers
from crossroads.data.cache import FrameCache
from crossroads.data.check import require_sound
from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.video import VideoWriter
from crossroads.data.window import Windows
from crossroads.errors import InputError
from crossroads.evaluate.closed_loop import Trials, observation, run_trials
from crossroads.evaluate.grounding import Grounding, grounding, grounding_by
from crossroads.evaluate.records import write_records
from crossroads.pilot.cell import WindowBatches, usable
from crossroads.pilot.plan import TRIAL_SEED, fingerprint, fit
from crossroads.policy import StreamPolicy
from crossroads.recipes.catalogue import recipe
from crossroads.sim.tabletop.vector import Options, VectorTabletop
from crossroads.space import ActionSpace
from crossroads.train.checkpoint import load_weights, read_meta, save_policy
from crossroads.train.features import FeatureSource, HeadTraining, build_store
from crossroads.train.loop import TrainResult, train
from crossroads.train.optim import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Training:
    """What a user may set of a single training run; the rest is the pilot's."""

    steps: int = 2000
    batch_size: int = 16
    learning_rate: float = 1e-3
    seed: int = 0
    phase: str = "head"
    num_draws: int = 2


def train_recipe(name: str, data: Path, out: Path, settings: Training, *, progress: bool = True) -> TrainResult:
    """Train a recipe on a LeRobot dataset into ``out``; the same call continues a run that was stopped."""
    require_sound(data)
    dataset = LeRobotDataset.open(data)
    sized = fit(recipe(name), dataset.space, dataset.cameras)
    policy = build(sized, dataset.space, seed=settings.seed)
    hashes = load_backbones(policy)
    names = [phase.name for phase in sized.phases]
    policy.enter(sized.phase(settings.phase if settings.phase in names else names[0]))
    labelled = tuple(episode.index for episode in dataset.episodes if not episode.action_free)
    free = tuple(episode.index for episode in dataset.episodes if episode.action_free)
    if not labelled:
        raise InputError(
            where=str(data), expected="episodes with actions", got="none", do="Record or add labelled episodes."
        )
    fit_normalisers(
        policy,
        state=dataset.statistics("state", labelled),
        actions=dataset.statistics("action", labelled),
    )
    window = sized.window
    cache = FrameCache.open(dataset, cameras=window.cameras, image_hw=window.image_hw)
    chosen = (*labelled, *(free if "video" in policy.phase.losses else ()))
    windows = Windows(dataset, window, episodes=chosen, cache=cache)
    rows = usable(windows, set(chosen))
    mark = fingerprint(sized, dataset.content_hash())
    config = _config(settings)
    if policy.phase.name == "head":
        store = build_store(policy, windows, rows, out / "features", num_draws=settings.num_draws, seed=settings.seed)
        source = FeatureSource(
            store=store, rows=np.arange(len(rows)), batch_size=settings.batch_size, seed=settings.seed
        )
        result = _train(HeadTraining(policy), source, config, out, name, mark, progress)
    else:
        batches = WindowBatches(windows, rows, settings.batch_size, settings.seed)
        result = _train(policy, batches, config, out, name, mark, progress)
    meta = {"recipe": name, "space": asdict(dataset.space), "cameras": list(dataset.cameras), "backbones": hashes}
    save_policy(out / "policy", policy, {**meta, "fingerprint": fingerprint(sized)})
    return result


def _train(policy, source, config: TrainConfig, out: Path, name: str, mark: str, progress: bool) -> TrainResult:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return train(policy, source, config, out, device=device, progress=progress, recipe_name=name, fingerprint=mark)


def _config(settings: Training) -> TrainConfig:
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


def restore(run: Path) -> StreamPolicy:
    """The trained policy of a run folder."""
    meta = read_meta(run / "policy")
    space = ActionSpace(**{key: tuple(v) if isinstance(v, list) else v for key, v in meta["space"].items()})  # pyright: ignore[reportArgumentType]
    sized = fit(recipe(meta["recipe"]), space, tuple(meta["cameras"]))
    if fingerprint(sized) != meta["fingerprint"]:
        raise InputError(
            where=str(run),
            expected=f"weights of the present recipe {meta['recipe']!r}",
            got="weights of another version of it",
            do="Train again with this version, or use the version that wrote the run.",
        )
    policy = build(sized, space, seed=0)
    load_backbones(policy)
    load_weights(run / "policy", policy)
    policy.enter(sized.phases[-1])
    return policy


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What ``crossroads eval`` found."""

    arm: str
    overall: Grounding
    families: dict[str, Grounding]


def evaluate_run(run: Path, trials: Trials, *, num_swapped: int, num_videos: int) -> Evaluation:
    """Closed loop on the tabletop: usual and swapped trials, records and a few films in the run's folder."""
    policy = restore(run)
    arm = policy.recipe.name
    labels: dict[str, Any] = {"arm": arm, "cell": run.name, "training_seed": 0}
    found = run_trials(policy, trials, **labels)
    if num_swapped:
        swapped = replace(trials, swapped=True, seeds=trials.seeds[:num_swapped])
        found = (*found, *run_trials(policy, swapped, **labels))
    write_records(run / "episodes.jsonl", found)
    if num_videos:
        film(policy, trials, run / "videos", num_videos)
    return Evaluation(arm=arm, overall=grounding(found), families=grounding_by(found, lambda record: record.family))


def trials_of(families: tuple[str, ...], num_trials: int, execute_steps: int) -> Trials:
    """The pilot's scenes."""
    return Trials(
        families=families, seeds=tuple(range(TRIAL_SEED, TRIAL_SEED + num_trials)), execute_steps=execute_steps
    )


def film(policy: StreamPolicy, trials: Trials, folder: Path, num: int) -> None:
    """The first episodes as mp4, one file each, named by scene and instruction."""
    folder.mkdir(parents=True, exist_ok=True)
    options = Options(families=trials.families, split=trials.split, cameras=trials.cameras, image_hw=trials.image_hw)
    seeds = trials.seeds[:num]
    generator = torch.Generator().manual_seed(0)
    with VectorTabletop(num_envs=len(seeds), options=options) as tables:
        step = tables.reset(seeds)
        frames = [[step.obs[trials.cameras[0]][row]] for row in range(len(seeds))]
        memory = policy.start(len(seeds))
        while not step.done.all():
            rows = np.arange(len(seeds))
            chunk, memory = policy.act(observation(step.obs, rows, trials.cameras, 0.0), memory, generator=generator)
            for index in range(trials.execute_steps):
                open_before = ~step.done
                step = tables.step(chunk.values[:, index].numpy())
                for row in np.flatnonzero(open_before):
                    frames[row].append(step.obs[trials.cameras[0]][row])
        texts = [info["task"].text for info in step.infos]
    for seed, text, pictures in zip(seeds, texts, frames, strict=True):
        large = np.repeat(np.repeat(np.stack(pictures), 4, axis=1), 4, axis=2)
        path = folder / f"{seed}-{text.replace(' ', '-')}.mp4"
        writer = VideoWriter(path, fps=tables.control_hz, image_hw=(large.shape[1], large.shape[2]))
        writer.append(large)
        writer.close()


def summary(evaluation: Evaluation) -> str:
    """The evaluation as a table of shares with Wilson intervals."""
    lines = [f"{'':14}{'success':>22}{'instructed':>22}{'wrong object':>22}{'swap score':>22}"]
    for name, found in {"all": evaluation.overall, **evaluation.families}.items():
        cells = [found.success, found.instructed_success, found.wrong_object, found.swap_score]
        shown = [
            f"{c.share:.2f} [{c.interval.low:.2f}, {c.interval.high:.2f}] n={c.trials}" if c else "-" for c in cells
        ]
        lines.append(f"{name:14}" + "".join(cell.rjust(26) for cell in shown))
    return "\n".join(lines)


def write_evaluation(evaluation: Evaluation, run: Path) -> None:
    """The figures as JSON beside the records."""
    plain = {name: asdict(found) for name, found in {"all": evaluation.overall, **evaluation.families}.items()}
    partial = run / "evaluation.json.tmp"
    partial.write_text(json.dumps({"arm": evaluation.arm, "families": plain}, indent=1))
    partial.replace(run / "evaluation.json")
