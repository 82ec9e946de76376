"""One cell of a pilot: train one arm on one subset with one seed, measure it, and write one result file.

A cell depends on nothing but the plan, the data and the backbones, so cells run in any order and any number at once;
a cell whose ``result.json`` exists is finished and is not run again.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from crossroads.backbones.load import load_backbones
from crossroads.build import build
from crossroads.cores import device_name, training_device
from crossroads.data.cache import FrameCache
from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.window import Windows
from crossroads.evaluate.closed_loop import Trials, run_trials
from crossroads.evaluate.latency import measure
from crossroads.evaluate.offline import action_error, predict, probe_words, rows, video_scores
from crossroads.evaluate.records import write_records
from crossroads.pilot.fitting import fit_to
from crossroads.pilot.phases import leaves_for_others
from crossroads.pilot.plan import TRIAL_SEED, Cell, Profile, fingerprint, fit
from crossroads.policy import StreamPolicy
from crossroads.recipes.catalogue import recipe
from crossroads.train.checkpoint import save_policy
from crossroads.train.feature_making import build_store
from crossroads.train.features import FeatureSource, HeadTraining, WindowSource
from crossroads.train.loop import TrainResult, train
from crossroads.train.optim import finetuning
from crossroads.types import Batch

Report = Callable[[float], None]
"""Called with the share of the cell that is done, 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """Everything a worker process needs to run a cell: a job of the pilot's grid."""

    cell: Cell
    plan: Profile
    data: Path
    out: Path
    subsets: dict[int, tuple[int, ...]]
    held_out: tuple[int, ...]
    action_free: tuple[int, ...]
    closed_loop: bool
    """False for datasets without a simulator."""
    left_out: tuple[int, ...] = ()
    """Faulty episodes that nothing is read of."""

    @property
    def name(self) -> str:
        return self.cell.name

    @property
    def folder(self) -> Path:
        return self.out / "cells" / self.cell.name

    @property
    def result(self) -> Path:
        """Written last, so a cell that has it is finished."""
        return self.folder / "result.json"

    def dataset(self) -> LeRobotDataset:
        return LeRobotDataset.open(self.data, without=self.left_out)

    def run(self, report: Report) -> dict[str, Any]:
        return run_cell(self, report)


@dataclass(frozen=True, kw_only=True)
class Opened:
    """The data as one arm sees it."""

    dataset: LeRobotDataset
    windows: Windows
    probe: Batch
    """Held-out windows."""
    probe_episodes: tuple[int, ...]
    """The episode of each of them."""


def run_cell(task: Task, report: Report) -> dict[str, Any]:
    """Train and measure; returns (and writes) the result."""
    task.folder.mkdir(parents=True, exist_ok=True)
    dataset = task.dataset()
    policy, hashes = make_policy(task, dataset)
    opened = _open(task, dataset, policy)
    trained = _train(task, policy, opened, report)
    policy.to("cpu")  # figures are measured there for every arm, wherever it was trained
    save_policy(
        task.folder / "policy",
        policy,
        {"recipe": task.cell.arm, "fingerprint": fingerprint(policy.recipe), "space": asdict(policy.space)},
        include_frozen=leaves_for_others(policy),
    )
    policy.net.turn_weights()
    report(0.6)
    result = {
        **asdict(task.cell),
        "backbones": hashes,
        "steps": trained.steps,
        "samples": trained.samples,
        "train_seconds": trained.seconds,
        "device": device_name(training_device()),
        "losses": [{"step": line.step, **line.losses} for line in trained.curve],
        "parameters": sum(p.numel() for p in policy.parameters()),
        "trainable": sum(p.numel() for p in policy.parameters() if p.requires_grad),
        **({} if task.cell.doubled else _offline(task, policy, opened)),
    }
    report(0.7)
    if task.closed_loop:
        result["closed_loop"] = _closed_loop(task, policy)
    write_json(task.result, result)
    report(1.0)
    return json.loads(task.result.read_text())


def make_policy(task: Task, dataset: LeRobotDataset) -> tuple[StreamPolicy, dict[str, str]]:
    """The arm's policy, sized for the robot, its backbone loaded, its normalisers fitted on the labelled subset."""
    sized = fit(recipe(task.cell.arm), dataset.space, dataset.cameras)
    policy = build(sized, dataset.space, seed=task.cell.seed)
    hashes = load_backbones(policy)
    fit_to(policy, dataset, task.subsets[task.cell.labels])
    names = [phase.name for phase in sized.phases]
    policy.enter(sized.phase(task.plan.phase if task.plan.phase in names else "full"))
    return policy, hashes


def _open(task: Task, dataset: LeRobotDataset, policy: StreamPolicy) -> Opened:
    window = policy.recipe.window
    cache = FrameCache.open(dataset, cameras=window.cameras, image_hw=window.image_hw)
    largest = task.subsets[max(task.subsets)]
    free = task.action_free if "video" in policy.phase.losses else ()
    windows = Windows(dataset, window, episodes=(*largest, *free), cache=cache, stride=task.plan.window_stride)
    held = Windows(dataset, _with_future(policy), episodes=task.held_out, cache=cache)
    chosen = np.linspace(0, len(held) - 1, min(task.plan.num_probe, len(held))).astype(int)
    places = held.places()
    episodes = tuple(places[row][0] for row in chosen)
    return Opened(dataset=dataset, windows=windows, probe=held.batch(chosen), probe_episodes=episodes)


def _with_future(policy: StreamPolicy):
    """One chunk of the arm's window with future frames, so that held-out pictures can be compared."""
    from crossroads.recipes.nano import FUTURE_S

    return replace(policy.recipe.chunk, future_s=policy.recipe.chunk.future_s or FUTURE_S)


def usable(windows: Windows, episodes: set[int]) -> np.ndarray:
    """Windows of some episodes whose actions lie wholly inside their episode (short ones give their first window).

    Future frames are not asked about: those beyond the end are marked as not valid, and every arm of a pilot must be
    trained on the same windows, whether it looks ahead or not.
    """
    chunk = round(windows.window.chunk_s * windows.dataset.fps)
    episode, frame = windows.locate(np.arange(len(windows)))
    inside = frame + chunk <= windows.dataset.episodes.columns.length[episode] - 1
    return np.flatnonzero(np.isin(episode, list(episodes)) & ((frame == 0) | inside))


def _train(task: Task, policy: StreamPolicy, opened: Opened, report: Report) -> TrainResult:
    plan, cell = task.plan, task.cell
    subset = usable(opened.windows, set(task.subsets[cell.labels]))
    steps = plan.steps_of(cell.arm, cell.labels, largest=max(task.subsets)) * (2 if cell.doubled else 1)
    config = finetuning(steps, batch_size=plan.batch_size, learning_rate=plan.learning_rate, seed=cell.seed)
    mark = fingerprint(policy.recipe, task.subsets[cell.labels])
    settings = {"device": training_device(), "progress": False, "recipe_name": cell.arm, "fingerprint": mark}
    if policy.phase.name == "head":
        every = usable(opened.windows, set(task.subsets[max(task.subsets)]))
        folder = task.out / "features" / task.cell.arm
        store = build_store(policy, opened.windows, every, folder, num_draws=plan.num_draws, seed=0, progress=False)
        within = np.flatnonzero(np.isin(every, subset))
        source = FeatureSource(store=store, rows=within, batch_size=plan.batch_size, seed=cell.seed)
        return train(HeadTraining(policy), _Told(source, report, steps), config, task.folder, **settings)
    free = usable(opened.windows, set(task.action_free)) if "video" in policy.phase.losses else subset[:0]
    whole = WindowBatches(opened.windows, np.concatenate([subset, free]).astype(int), plan.batch_size, cell.seed)
    return train(policy, _Told(whole, report, steps), config, task.folder, **settings)


class WindowBatches:
    """Windows as a function of the step, for phases that train on pictures."""

    def __init__(self, windows: WindowSource, chosen: np.ndarray, batch_size: int, seed: int) -> None:
        self.windows, self.chosen, self.batch_size, self.seed = windows, chosen, batch_size, seed

    def batch(self, step: int) -> Batch:
        rng = np.random.default_rng((self.seed, step, 4))
        return self.windows.batch(self.chosen[rng.integers(len(self.chosen), size=self.batch_size)])


class _Told:
    """A source that says how far training is."""

    def __init__(self, source, report: Report, steps: int) -> None:
        self.source, self.report, self.steps = source, report, steps

    def batch(self, step: int):
        if step % 20 == 0:
            self.report(0.1 + 0.5 * step / self.steps)
        return self.source.batch(step)


def _offline(task: Task, policy: StreamPolicy, opened: Opened) -> dict[str, Any]:
    """Held-out action error, words, pictures, latency."""
    probe, dataset = opened.probe, opened.dataset
    stats = dataset.statistics("action", task.subsets[max(task.subsets)])
    mean, scale = np.array(stats.mean), np.array(stats.std)
    chunks, imagined = predict(policy, probe.obs, seed=0, show=True)
    single = rows(probe.obs, [0])
    generator = torch.Generator().manual_seed(0)
    latency = measure(lambda: policy.act(single, policy.start(1), generator=generator), repeats=20, warmup=3)
    words = None
    told = rows(probe.obs, np.linspace(0, probe.batch_size - 1, min(task.plan.num_words, probe.batch_size)).astype(int))
    if task.cell.labels == max(task.subsets) and len(set(told.text)) > 1:
        words = probe_words(
            policy,
            told,
            others=_other_words(told.text, dataset.tasks),
            paraphrase=_paraphrase if task.closed_loop else None,
            scale=scale,
            targets=None,
        )
    found: dict[str, Any] = {
        "action_error": asdict(action_error(chunks, probe, mean, scale, opened.probe_episodes)),
        "latency": asdict(latency),
        "swap_probe": asdict(words) if words else None,
        "video": None,
    }
    if imagined:
        found["video"] = [asdict(score) for score in video_scores(imagined, probe, policy.recipe.chunk.future_s)]
        _keep_film(task.folder / "film.npz", imagined, probe)
    return found


def _keep_film(path: Path, imagined: dict[str, torch.Tensor], probe: Batch, num: int = 4) -> None:
    """A few imagined futures beside what was recorded, evenly spread over the held-out windows."""
    camera = next(iter(imagined))
    chosen = np.linspace(0, len(imagined[camera]) - 1, num).astype(int)
    np.savez_compressed(
        path,
        now=probe.obs.images[camera][chosen].numpy(),
        real=probe.future[camera][chosen].numpy(),
        imagined=imagined[camera][chosen].numpy(),
        text=np.array([probe.obs.text[index] for index in chosen]),
    )


def _other_words(texts: tuple[str, ...], known: tuple[str, ...]) -> tuple[str, ...]:
    """For each instruction another one of the dataset."""
    others = []
    for index, text in enumerate(texts):
        choices = [other for other in known if other != text]
        others.append(choices[(index * 7919) % len(choices)] if choices else text)
    return tuple(others)


def _paraphrase(text: str) -> str:
    swaps = {"reach": "go to", "press": "push down", "push": "shove"}
    first, _, rest = text.partition(" ")
    return f"{swaps.get(first, first)} {rest}"


def _closed_loop(task: Task, policy: StreamPolicy) -> dict[str, Any]:
    plan = task.plan
    labels = {"arm": task.cell.arm, "cell": f"{task.cell.labels} labels", "training_seed": task.cell.seed}
    seconds = time.perf_counter()
    usual = Trials(
        families=plan.families,
        seeds=tuple(range(TRIAL_SEED, TRIAL_SEED + plan.num_trials)),
        execute_steps=plan.execute_steps,
    )
    swapped = replace(usual, seeds=usual.seeds[: plan.num_swapped], swapped=True)
    found = run_trials(policy, usual, **labels)
    if not task.cell.doubled:  # the plateau check asks about success alone
        found = (*found, *run_trials(policy, swapped, **labels))
    write_records(task.folder / "episodes.jsonl", found)
    plain = [record for record in found if not record.swapped]
    return {
        "success": sum(record.success for record in plain) / len(plain),
        "episodes": len(found),
        "seconds": time.perf_counter() - seconds,
    }


def write_json(path: Path, value: dict[str, Any]) -> None:
    """The file appears whole or not at all."""
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    partial.write_text(json.dumps(value, indent=1))
    partial.replace(path)
