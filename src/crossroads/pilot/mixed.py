"""One recipe on several datasets: ``crossroads train`` with ``--data`` more than once, and what acts afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from crossroads.backbones.load import load_backbones
from crossroads.build import build, fit_normalisers, fit_tokenisers
from crossroads.data.check import require_sound
from crossroads.data.findings import told_of
from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.mixture import Joined, Mixture, shares
from crossroads.data.slots import Declared, Slots, declare, spread, spread_statistics
from crossroads.data.statistics import summarise
from crossroads.data.window import Windows, action_chunks, in_force
from crossroads.errors import InputError
from crossroads.pilot.cell import write_json
from crossroads.pilot.phases import leaves_for_others, watches
from crossroads.pilot.plan import fingerprint, fit
from crossroads.pilot.single import Training, config_of, open_cache, run_training, space_of, within_work
from crossroads.policy import Memory, Policy, StreamPolicy
from crossroads.recipes.catalogue import recipe
from crossroads.space import Normaliser
from crossroads.train.checkpoint import save_policy
from crossroads.train.feature_making import build_store
from crossroads.train.features import FeatureSource, HeadTraining
from crossroads.train.loop import TrainResult
from crossroads.types import Actions, Batch, Observation, Window


@dataclass(frozen=True, kw_only=True)
class Blend:
    """How the datasets are mixed."""

    weights: tuple[float, ...] = ()
    """One per dataset; all 1 when not given."""
    temperature: float = 1.0
    slots: Path | None = None
    """A TOML file (`data/slots.py`); when not given, names decide which numbers and cameras are the same."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What training took from one dataset."""

    data: str
    robot: str
    samples_there: int
    share: float
    samples_seen: int
    """Exact, over all sittings."""
    left_out: tuple[int, ...] = ()
    """Faulty episodes."""

    @property
    def epochs(self) -> float:
        return self.samples_seen / self.samples_there

    def __str__(self) -> str:
        told = f"{self.samples_seen} samples ({self.share:.1%}), {self.epochs:.2f} times its {self.samples_there}"
        return f"{self.data} ({self.robot}): {told}" + (f"; {told_of(self.left_out)}" if self.left_out else "")


@dataclass(frozen=True, kw_only=True)
class SlottedWindows:
    """The windows of one robot's dataset as samples of the mixture."""

    windows: Windows
    slots: Slots
    window: Window

    def __len__(self) -> int:
        return len(self.windows)

    def batch(self, indices: Sequence[int] | np.ndarray) -> Batch:
        return self.slots.fill(self.windows.batch(indices), self.window)


@dataclass(frozen=True, kw_only=True)
class MixedBatches:
    """The batches of a mixture as a function of the step."""

    source: Joined
    mixture: Mixture

    def batch(self, step: int) -> Batch:
        return self.source.batch(self.mixture.rows(step))


def train_mixture(
    name: str, data: Sequence[str | Path], out: Path, settings: Training, blend: Blend, *, progress: bool = True
) -> tuple[TrainResult, tuple[Seen, ...]]:
    """Train a recipe on several LeRobot datasets into ``out``; the same call continues a run that was stopped.

    Each robot has its own normaliser. What was seen of each dataset is returned, and written to ``out/mixture.json``.
    """
    refused = {name: bool(getattr(settings, name)) for name in ("keep_latents", "questions", "start")}
    for setting, given in {**refused, "pictures pooled": settings.pictures == "pooled"}.items():
        if given:
            raise InputError(
                where="training on several datasets",
                expected="weights from the start, cached pictures that are encoded at each step, no questions beside",
                got=setting,
                do="Leave that setting out, or train on one dataset.",
            )
    datasets = [
        LeRobotDataset.open(path, without=require_sound(path, skip_faulty=settings.skip_faulty)) for path in data
    ]
    declared = declare(datasets, blend.slots)
    sized = fit(recipe(name), declared.space, declared.cameras)
    policy = build(sized, declared.space, seed=settings.seed)
    hashes = load_backbones(policy)
    phases = {phase.name: phase for phase in sized.phases}
    policy.enter(sized.phase(settings.phase) if settings.phase else phases.get("head", sized.phases[0]))
    settings = within_work(settings, sized, policy.phase.name)
    fit_robots(policy, datasets, declared)
    source = Joined(
        sources=tuple(
            _windows(dataset, one, sized.window, settings, free=watches(sized, policy.phase))
            for dataset, one in zip(datasets, declared.datasets, strict=True)
        )
    )
    sizes = tuple(len(one) for one in source.sources)
    mixture = Mixture(
        sizes=sizes,
        shares=shares(sizes, blend.weights or (1.0,) * len(sizes), blend.temperature),
        seed=settings.seed,
        batch_size=settings.batch_size,
    )
    hashed = tuple(dataset.content_hash() for dataset in datasets)
    mark = fingerprint(sized, hashed, plain(declared), mixture.shares, policy.phase.name)
    config = config_of(settings)
    if policy.phase.name == "head":
        rows, draws = np.arange(len(source)), settings.num_draws
        store = build_store(policy, source, rows, out / "features", num_draws=draws, seed=settings.seed)
        cached = FeatureSource(
            store=store, rows=rows, batch_size=settings.batch_size, seed=settings.seed, chosen=mixture.rows
        )
        result = run_training(HeadTraining(policy), cached, config, out, name, mark, progress)
    else:
        batches = MixedBatches(source=source, mixture=mixture)
        result = run_training(policy, batches, config, out, name, mark, progress)
    meta = {"recipe": name, "space": asdict(declared.space), "cameras": list(declared.cameras), "backbones": hashes}
    meta |= {"fingerprint": fingerprint(sized), "robots": plain(declared)}
    save_policy(out / "policy", policy, meta, include_frozen=leaves_for_others(policy))
    seen = _account(datasets, declared, mixture, result.steps)
    write_json(out / "mixture.json", {"steps": result.steps, "datasets": [asdict(one) for one in seen]})
    return result, seen


def _windows(
    dataset: LeRobotDataset, slots: Slots, window: Window, settings: Training, *, free: bool
) -> SlottedWindows:
    own = slots.own_window(window)
    labelled = dataset.episodes.where(action_free=False)
    episodes = np.union1d(labelled, dataset.episodes.where(action_free=True)) if free else labelled
    cache = open_cache(dataset, own, settings) if own.cameras else None
    windows = Windows(dataset, own, episodes=episodes, cache=cache, inside_s=window.chunk_s, resampled=True)
    return SlottedWindows(windows=windows, slots=slots, window=window)


def fit_robots(policy: StreamPolicy, datasets: Sequence[LeRobotDataset], declared: Declared) -> None:
    """A normaliser for each robot, on all labelled frames of its datasets; then what makes tokens of actions.

    Raises:
        InputError: a dataset has no labelled episodes.
    """
    robots = tuple(dict.fromkeys(one.robot for one in declared.datasets))
    enrol(policy, robots)
    space, chunks, names = declared.space, [], []
    for robot in robots:
        of = [(dataset, one) for dataset, one in zip(datasets, declared.datasets, strict=True) if one.robot == robot]
        state = np.concatenate([dataset.labelled("state", _labelled(dataset)) for dataset, _ in of])
        actions = np.concatenate([dataset.labelled("action", _labelled(dataset)) for dataset, _ in of])
        slots = of[0][1]
        fit_normalisers(
            policy,
            state=spread_statistics(summarise(state), slots.state, space.num_state),
            actions=spread_statistics(summarise(actions), slots.action, space.action_size),
            robot=robot,
        )
        for dataset, one in of:
            ratio = dataset.fps / space.control_hz
            own = action_chunks(dataset, _labelled(dataset), policy.recipe.window.num_actions, frames_a_step=ratio)
            chunks.append(spread(own, one.action, space.action_size))
            names += [robot] * len(own)

    def all_chunks() -> torch.Tensor:
        policy.net.address(tuple(names))
        return torch.cat(chunks)

    fit_tokenisers(policy, all_chunks)


def _labelled(dataset: LeRobotDataset) -> list[int]:
    return dataset.episodes.where(action_free=False).tolist()


def enrol(policy: StreamPolicy, robots: tuple[str, ...]) -> None:
    """Give each robot a normaliser of its own wherever the policy has one."""
    for module in policy.net.modules():
        if isinstance(module, Normaliser):
            module.enrol(robots)


def _account(datasets: Sequence[LeRobotDataset], declared: Declared, mixture: Mixture, steps: int) -> tuple[Seen, ...]:
    found = zip(datasets, declared.datasets, mixture.sizes, mixture.shares, mixture.seen(steps), strict=True)
    return tuple(
        Seen(
            data=dataset.remote.url if dataset.remote else str(dataset.path),
            robot=slots.robot,
            samples_there=size,
            share=share,
            samples_seen=seen,
            left_out=dataset.without,
        )
        for dataset, slots, size, share, seen in found
    )


def plain(declared: Declared) -> list[dict[str, Any]]:
    """What each robot fills, as JSON."""
    first = {one.robot: one for one in reversed(declared.datasets)}
    return [asdict(first[robot]) for robot in dict.fromkeys(one.robot for one in declared.datasets)]


class OnRobot:
    """A policy of several robots as the policy of one of them: its cameras and numbers in, its actions out."""

    def __init__(self, policy: Policy, window: Window, slots: Slots) -> None:
        self.policy, self.window, self.slots = policy, window, slots

    @property
    def passed_s(self) -> tuple[float, ...]:
        return self.policy.passed_s

    @property
    def before_s(self) -> tuple[float, ...]:
        return self.policy.before_s

    def start(self, batch_size: int) -> Memory:
        return self.policy.start(batch_size)

    def act(
        self, obs: Observation, memory: Memory, *, generator: torch.Generator, show: bool = False
    ) -> tuple[Actions, Memory]:
        """The next chunk at this robot's rate and within its limits; of imagined frames, those of its cameras."""
        seen = self.slots.seen(obs, self.window)
        chunk, memory = self.policy.act(seen, memory, generator=generator, show=show)
        ratio = chunk.control_hz / self.slots.space.control_hz
        steps = in_force(round(chunk.values.shape[1] / ratio), ratio).clip(max=chunk.values.shape[1] - 1)
        values = self.slots.own_actions(chunk.values)[:, torch.from_numpy(steps)]
        imagined = {own: chunk.imagined[slot] for slot, own in self.slots.cameras.items() if slot in chunk.imagined}
        return replace(chunk, values=values, control_hz=self.slots.space.control_hz, imagined=imagined), memory


def robots_of(meta: Mapping[str, Any]) -> tuple[Slots, ...]:
    """The robots of a trained mixture, from what was saved with it; none where it was trained on one dataset."""
    return tuple(
        Slots(
            robot=one["robot"],
            cameras=one["cameras"],
            state=tuple(one["state"]),
            action=tuple(one["action"]),
            space=space_of(one["space"]),
        )
        for one in meta.get("robots", ())
    )
