"""Can an imagined clip be acted out? For every arm that imagines, in closed loop, against an inverse model.

A chunk is executed whole; the inverse model reads a motion from the imagined clip, and what was executed is compared
with it. The unit is the error of the same model on real expert frames, so 1 means: as readable as the real thing. The
same episodes give the rank correlation of imagined-video error with action error and with failure.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from crossroads.data.cache import FrameCache
from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.window import Windows
from crossroads.evaluate.calls import Calls
from crossroads.evaluate.rank import rank_correlation
from crossroads.evaluate.statistics import Interval
from crossroads.pilot.cell import Report, Task, make_policy, usable, write_json
from crossroads.pilot.inverse import InverseModel, scene_recipe, train_inverse, vision
from crossroads.pilot.plan import TRIAL_SEED
from crossroads.pilot.study import Correlation
from crossroads.policy import StreamPolicy
from crossroads.sim.tabletop.vector import Options, VectorStep, VectorTabletop
from crossroads.train.checkpoint import load_weights
from crossroads.train.feature_making import build_store
from crossroads.train.optim import finetuning

NUM_SCENES = 20
"""At most; never more than the plan's trials."""
INVERSE_STEPS = 200
NUM_DRAWS = 1000


@dataclass(frozen=True, kw_only=True)
class ExecutabilityTask:
    """One arm's imagined clips, after its cell with all labels is finished."""

    cell: Task
    """The finished cell."""
    inverse_labels: int
    """The nested subset that the inverse model learns from."""

    @property
    def name(self) -> str:
        return f"clips-{self.cell.cell.name}"

    @property
    def folder(self) -> Path:
        return self.cell.out / "clips" / self.name

    @property
    def result(self) -> Path:
        """Written last, so a job that has it is finished."""
        return self.folder / "result.json"

    def run(self, report: Report) -> dict[str, Any]:
        """Train (or find) the inverse model, play the scenes, compare; returns (and writes) the result."""
        self.folder.mkdir(parents=True, exist_ok=True)
        dataset = self.cell.dataset()
        subset = self.cell.subsets[self.inverse_labels]
        inverse = _inverse(self, dataset, subset)
        report(0.5)
        policy, _ = make_policy(self.cell, dataset)
        load_weights(self.cell.folder / "policy", policy)
        stats = dataset.statistics("action", subset)
        spread = np.array(stats.std)
        scale = np.where(spread > 1e-6, spread, np.inf)  # a dimension that never moves has no error in its own units
        real = _real_errors(inverse, dataset, self.cell.held_out, scale)
        report(0.6)
        plan = self.cell.plan
        num_scenes = min(NUM_SCENES, plan.num_trials)
        clips = play(policy, inverse, families=plan.families, num_scenes=num_scenes, scale=scale)
        result = {"arm": self.cell.cell.arm, **asdict(summarise(clips, real))}
        write_json(self.result, result)
        report(1.0)
        return result


def _inverse(task: ExecutabilityTask, dataset: LeRobotDataset, subset: tuple[int, ...]) -> InverseModel:
    """Trained by each task anew from the same cached features and seed: the same model for every arm."""
    eyes = vision(dataset.space, dataset.cameras)
    window = replace(eyes.recipe.window, num_state=dataset.space.num_state)
    cache = FrameCache.open(dataset, cameras=window.cameras, image_hw=window.image_hw)
    windows = Windows(dataset, window, episodes=subset, cache=cache, stride=task.cell.plan.window_stride)
    every = usable(windows, set(subset))
    store = build_store(
        eyes, windows, every, task.cell.out / "features" / "inverse", num_draws=1, seed=0, progress=False
    )
    return train_inverse(
        "scene",
        eyes,
        store,
        np.arange(len(every)),
        state=dataset.statistics("state", subset),
        actions=dataset.statistics("action", subset),
        recipe=scene_recipe(dataset.space, dataset.cameras),
        folder=task.folder / "inverse",
        config=finetuning(
            min(INVERSE_STEPS, task.cell.plan.steps),
            batch_size=task.cell.plan.batch_size,
            learning_rate=task.cell.plan.learning_rate,
            seed=0,
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Clips:
    """Every chunk that was imagined and executed; entry i of each array belongs to chunk i."""

    episode: np.ndarray
    squared: np.ndarray
    """Mean squared difference of executed and read motion, squared standard deviations of the actions."""
    pixels: np.ndarray
    """Mean squared error of the imagined frames against those that the camera then showed, 0..255 scale."""
    failed: np.ndarray
    """By episode."""


def _real_errors(
    inverse: InverseModel, dataset: LeRobotDataset, episodes: tuple[int, ...], scale: np.ndarray
) -> Float[np.ndarray, " m"]:
    """Mean squared error per chunk of the inverse model on real expert frames that it was not trained on."""
    window = replace(inverse.eyes.recipe.window, num_state=dataset.space.num_state)
    cache = FrameCache.open(dataset, cameras=window.cameras, image_hw=window.image_hw)
    windows = Windows(dataset, window, episodes=episodes, cache=cache, stride=3)
    chosen = usable(windows, set(episodes))
    errors = []
    for part in np.array_split(chosen, max(1, len(chosen) // 32)):
        batch = windows.batch(part)
        read, _ = inverse.read(batch.obs.images[inverse.camera], batch.future[inverse.camera])
        errors.append(chunk_error(read, batch.actions.numpy(), batch.actions_valid.numpy(), scale))
    return np.concatenate(errors)


def chunk_error(
    read: Float[np.ndarray, "b n a"], done: Float[np.ndarray, "b n a"], valid: np.ndarray, scale: np.ndarray
) -> Float[np.ndarray, " b"]:
    """Mean squared difference per chunk over valid steps, in squared standard deviations; an infinite ``scale`` leaves
    a dimension out."""
    squared = (((read - done) / scale) ** 2).sum(axis=2) / max(int(np.isfinite(scale).sum()), 1) * valid
    return squared.sum(axis=1) / np.maximum(valid.sum(axis=1), 1)


@torch.no_grad()
def play(
    policy: StreamPolicy, inverse: InverseModel, *, families: tuple[str, ...], num_scenes: int, scale: np.ndarray
) -> Clips:
    """Run scenes with whole chunks, looking whenever the imagined clip has a frame."""
    camera, times = inverse.camera, inverse.times_s
    seeds = tuple(range(TRIAL_SEED, TRIAL_SEED + num_scenes))
    generator = torch.Generator().manual_seed(0)
    episode, squared, pixels = [], [], []
    with VectorTabletop(num_envs=num_scenes, options=Options(families=families, cameras=(camera,))) as tables:
        looks = np.round(np.array(times) * tables.control_hz).astype(int)
        step, calls = tables.reset(seeds), Calls(policy, tables, num_scenes, execute_steps=int(looks[-1]))
        while not step.done.all():
            before = np.array([info["num_steps"] for info in step.infos])
            call = calls.ask(step, generator=generator, show=True)
            step = calls.play(call, looks=tuple(looks.tolist()))
            rows, imagined, values = call.rows, call.chunk.imagined[camera], call.chunk.values.numpy()
            shown = torch.from_numpy(np.stack([_shown(step, row, camera, looks) for row in rows]))
            executed = np.array([info["num_steps"] for info in step.infos])[rows] - before[rows]
            read, _ = inverse.read(call.obs.images[camera], imagined)
            valid = np.arange(values.shape[1]) < executed[:, None]
            squared.append(chunk_error(read, values, valid, scale))
            pixels.append(_pixel_error(shown, imagined, looks, executed))
            episode.append(rows)
        failed = ~step.terminated
    return Clips(
        episode=np.concatenate(episode),
        squared=np.concatenate(squared),
        pixels=np.concatenate(pixels),
        failed=failed.astype(float),
    )


def _shown(step: VectorStep, row: int, camera: str, looks: np.ndarray) -> np.ndarray:
    """What a table's camera showed at each look, ``f h w 3``; behind the end of its episode the last picture."""
    passed, last = step.infos[row]["passed"], step.obs[camera][row]
    return np.stack([passed[look][camera] if look in passed else last for look in looks.tolist()])


def _pixel_error(real: Tensor, imagined: Tensor, looks: np.ndarray, executed: np.ndarray) -> np.ndarray:
    """Over the frames that were reached before the episode ended; the first is counted always."""
    reached = torch.from_numpy(looks[None] <= np.maximum(executed, looks[0])[:, None])
    error = (real.float() - imagined.float()).square().mean(dim=(2, 3, 4)) * reached
    return (error.sum(dim=1) / reached.sum(dim=1)).numpy()


@dataclass(frozen=True, kw_only=True)
class Found:
    """What ``summarise`` says of an arm; the fields of ``study.Executability`` without its name."""

    ratio: float
    interval: Interval
    error_imagined: float
    error_real: float
    chunks: int
    video_against_action: Correlation | None
    video_against_failure: Correlation | None


def summarise(clips: Clips, real: Float[np.ndarray, " m"]) -> Found:
    """Ratio with a bootstrap interval over episodes (imagined) and chunks (real), and the two rank correlations."""
    episodes = np.unique(clips.episode)
    sums = np.array([clips.squared[clips.episode == e].sum() for e in episodes])
    counts = np.array([(clips.episode == e).sum() for e in episodes])
    generator = np.random.default_rng(0)
    drawn = generator.integers(len(episodes), size=(NUM_DRAWS, len(episodes)))
    imagined = np.sqrt(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    expert = np.sqrt(real[generator.integers(len(real), size=(NUM_DRAWS, len(real)))].mean(axis=1))
    low, high = np.quantile(imagined / expert, [0.025, 0.975])
    error_imagined, error_real = float(np.sqrt(clips.squared.mean())), float(np.sqrt(real.mean()))
    action = np.array([clips.squared[clips.episode == e].mean() for e in episodes])
    video = np.array([clips.pixels[clips.episode == e].mean() for e in episodes])
    return Found(
        ratio=error_imagined / error_real,
        interval=Interval(low=float(low), high=float(high)),
        error_imagined=error_imagined,
        error_real=error_real,
        chunks=len(clips.squared),
        video_against_action=_rank_correlation(video, action),
        video_against_failure=_rank_correlation(video, clips.failed[episodes]),
    )


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> Correlation | None:
    """None where one of the two does not vary, or with fewer than ten episodes."""
    if len(a) < 10 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    found = rank_correlation(a, b)
    return Correlation(value=found.value, interval=found.interval, episodes=found.episodes)
