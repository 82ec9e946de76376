"""The training loop: batches in, trained weights and a learning curve out; a killed run continues bit for bit.

Everything random in step ``i`` comes from a generator seeded by ``(seed, i)`` and the batch is a function of ``i``, so
the state of a run is its weights, its optimiser, its running average and the number of steps done.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import numpy
import torch
from torch import Tensor, nn

from crossroads.errors import InputError
from crossroads.train.checkpoint import Identity, Progress, frozen_hash, load_latest, save
from crossroads.train.log import LogLine, MetricsLog, progress_bar, short
from crossroads.train.optim import (
    RunningAverage,
    TrainConfig,
    build_optimiser,
    learning_rate_at,
    set_learning_rate,
    trainable,
)
from crossroads.types import Losses

_GRADIENT_NORM = "gradient norm"


Own = TypeVar("Own")


@runtime_checkable
class WeightedBatch(Protocol):
    """What the loop itself needs of a batch: the weight of each sample, and a way to another device."""

    @property
    def weight(self) -> Tensor: ...

    def to(self: Own, device: torch.device | str) -> Own: ...


Item = TypeVar("Item", bound=WeightedBatch)
Given = TypeVar("Given", contravariant=True)
Made = TypeVar("Made", covariant=True)


@runtime_checkable
class Trainable(Protocol[Given]):
    """A policy as the loop sees it; it is an ``nn.Module`` too."""

    def loss(self, batch: Given, *, generator: torch.Generator) -> Losses:
        """Per-sample losses by name; all randomness comes from ``generator``."""
        ...


@runtime_checkable
class BatchSource(Protocol[Made]):
    """Batches as a pure function of the step, so that a continued run sees what an uninterrupted one would."""

    def batch(self, step: int) -> Made: ...


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a run cost and where it ended."""

    steps: int
    seconds: float
    """Seconds inside the loop, over all sittings."""
    final_losses: Mapping[str, float]
    """Means over the last interval of the log; empty if somebody deleted the log of a finished run."""
    samples: int
    curve: tuple[LogLine, ...]


def train(
    policy: Trainable[Item],
    source: BatchSource[Item],
    config: TrainConfig,
    out: Path,
    *,
    device: torch.device | str,
    progress: bool,
    recipe_name: str,
    fingerprint: str,
) -> TrainResult:
    """Train ``policy`` in place, continuing whatever ``out`` holds of this run; afterwards it carries the average.

    ``out`` receives ``metrics.jsonl`` and ``checkpoints/``. A finished run returns at once. With ``ema_decay`` above
    zero the policy ends with the averaged weights; the last checkpoint holds both.

    Raises:
        InputError: ``out`` belongs to another run, or a loss or gradient stopped being a finite number.
    """
    if not isinstance(policy, nn.Module):
        raise TypeError(f"train: expected a policy that is an nn.Module, got {type(policy).__name__}.")
    device = torch.device(device)
    policy.to(device)
    run = _Run(policy, config, out, device=device, identity=identity_of(config, recipe_name, fingerprint))
    bar = progress_bar(total=config.steps, initial=run.step, title=recipe_name, shown=progress)
    # Layers that draw from the global generator (dropout) are reseeded at each step; the caller's state is kept.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), bar, run.log:
        started, before = time.perf_counter(), run.seconds
        while run.step < config.steps:
            losses = _losses(policy, source, config, run.step, device)
            run.update(losses)
            run.seconds = before + time.perf_counter() - started
            bar.update()
            if run.step % config.log_every == 0 or run.step == config.steps:
                run.write_line()
                bar.set_postfix_str(short(run.log.lines[-1].losses), refresh=False)
            if run.step % config.checkpoint_every == 0 or run.step == config.steps:
                run.save()
    if run.average is not None:
        run.average.copy_to(run.parameters)
    return TrainResult(
        steps=run.step,
        seconds=run.seconds,
        final_losses=dict(run.log.lines[-1].losses) if run.log.lines else {},
        samples=run.step * config.batch_size,
        curve=tuple(run.log.lines),
    )


def identity_of(config: TrainConfig, recipe_name: str, fingerprint: str) -> Identity:
    """What the checkpoints of this run belong to; how often they are written and logged does not matter."""
    settings = {name: value for name, value in asdict(config).items() if name not in ("checkpoint_every", "log_every")}
    return Identity(recipe_name=recipe_name, fingerprint=fingerprint, settings=settings)


def step_seed(seed: int, step: int) -> int:
    """The seed of everything random in one step; mixed by numpy's SeedSequence, so neighbours are unrelated."""
    return int(numpy.random.SeedSequence([seed, step]).generate_state(1, numpy.uint64)[0] >> 1)


def _losses(
    policy: Trainable[Item], source: BatchSource[Item], config: TrainConfig, step: int, device: torch.device
) -> dict[str, Tensor]:
    """The weighted mean of each named loss on the batch of this step."""
    seed = step_seed(config.seed, step)
    torch.manual_seed(seed)
    generator = torch.Generator(device=device).manual_seed(seed)
    batch = source.batch(step).to(device)
    mixed = config.mixed_precision and device.type == "cuda"
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=mixed):
        losses = policy.loss(batch, generator=generator)
    weight = batch.weight / batch.weight.sum().clamp_min(torch.finfo(batch.weight.dtype).tiny)
    return {name: (values.float() * weight).sum() for name, values in losses.terms.items()}


class _Run:
    """The moving parts of one run and what is kept of them on disk."""

    def __init__(
        self, policy: nn.Module, config: TrainConfig, out: Path, *, device: torch.device, identity: Identity
    ) -> None:
        self.policy, self.config, self.identity = policy, config, identity
        self.folder = out / "checkpoints"
        self.parameters = trainable(policy)
        self.optimiser = build_optimiser(policy, config)
        self.average = RunningAverage(self.parameters, config.ema_decay) if config.ema_decay > 0 else None
        reached = load_latest(
            self.folder, policy=policy, optimiser=self.optimiser, average=self.average, identity=identity
        )
        self.frozen = frozen_hash(policy, self.parameters)
        self.step = reached.step if reached else 0
        self.seconds = reached.seconds if reached else 0.0
        self.window: list[Mapping[str, float]] = list(reached.window) if reached else []
        self.pending: list[tuple[tuple[str, ...], Tensor]] = []
        self.saved_step = self.step
        self.log = MetricsLog(out / "metrics.jsonl", resume_step=self.step)

    def update(self, losses: Mapping[str, Tensor]) -> None:
        """One step down the gradient of the sum of the losses."""
        total = torch.stack(list(losses.values())).sum()
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.config.clip_norm)
        set_learning_rate(self.optimiser, learning_rate_at(self.step, self.config))
        self.optimiser.step()
        if self.average is not None:
            self.average.update(self.parameters, self.step)
        # Numbers are read from the device once per interval: reading them at each step would make a GPU wait.
        row = torch.stack([*(value.detach() for value in losses.values()), norm.detach().float()])
        self.pending.append(((*losses, _GRADIENT_NORM), row))
        self.step += 1
        if self.config.log_every == 1 or row.device.type == "cpu":
            self.collect()

    def collect(self) -> None:
        """Read the pending losses; the first that is not finite stops the run before anything of it is saved."""
        first = self.step - len(self.pending)
        for offset, (names, row) in enumerate(self.pending):
            values = dict(zip(names, row.tolist(), strict=True))
            bad = [name for name, value in values.items() if not math.isfinite(value)]
            if bad:
                raise self._diverged(first + offset, bad[0], values[bad[0]])
            assert not self.window or self.window[0].keys() == values.keys(), (
                "the losses of a policy changed their names"
            )
            self.window.append(values)
        self.pending.clear()

    def _diverged(self, step: int, name: str, value: float) -> InputError:
        kept = f"step {self.saved_step} in {self.folder}" if self.saved_step else "none was written yet"
        return InputError(
            where=f"training {self.identity.recipe_name}, step {step}, {name}",
            expected="a finite number",
            got=str(value),
            do=f"The last good checkpoint is kept ({kept}). Lower learning_rate "
            f"({learning_rate_at(step, self.config):.3g} at this step) or clip_norm, or look for NaN in the data "
            "with `crossroads data check`.",
        )

    def write_line(self) -> None:
        """Add the means since the last line to the log."""
        self.collect()
        names = self.window[0]
        means = {name: math.fsum(values[name] for values in self.window) / len(self.window) for name in names}
        norm = means.pop(_GRADIENT_NORM)
        self.log.append(
            LogLine(
                step=self.step,
                losses=means,
                gradient_norm=norm,
                learning_rate=learning_rate_at(self.step - 1, self.config),
                samples=self.step * self.config.batch_size,
                seconds=round(self.seconds, 3),
            )
        )
        self.window = []

    def save(self) -> None:
        """Write a checkpoint of this step."""
        self.collect()
        self.log.to_disk()
        reached = Progress(
            step=self.step,
            seconds=self.seconds,
            samples=self.step * self.config.batch_size,
            window=tuple(self.window),
        )
        save(
            self.folder,
            policy=self.policy,
            optimiser=self.optimiser,
            average=self.average,
            progress=reached,
            identity=self.identity,
            frozen=self.frozen,
        )
        self.saved_step = self.step
