"""How weights move: the settings of a run, the learning-rate schedule, AdamW's groups and the running average.

AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) with decay on matrices only; linear warm-up, then a cosine
(arXiv 1608.03983) down to a stated fraction; an exponential moving average of what is trained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from crossroads.errors import InputError


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything about a training run that is not the recipe and not the data."""

    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int
    final_learning_rate_fraction: float
    """The learning rate at the last step, as a fraction of the highest."""
    weight_decay: float
    betas: tuple[float, float]
    clip_norm: float
    """Gradients longer than this are shortened to it; ``inf`` switches clipping off."""
    ema_decay: float
    """Decay of the running average of the weights; 0 switches it off."""
    seed: int
    checkpoint_every: int
    log_every: int
    mixed_precision: bool
    """bfloat16 where the device is a GPU; a CPU always computes in float32."""
    slow: tuple[tuple[str, float], ...] = ()
    """Parts that learn more slowly: a piece of the parameter's name, and the factor on its learning rate."""

    def __post_init__(self) -> None:
        _require("steps", self.steps, "at least 1", self.steps >= 1)
        _require("batch_size", self.batch_size, "at least 1", self.batch_size >= 1)
        _require("learning_rate", self.learning_rate, "a positive number", 0 < self.learning_rate < math.inf)
        _require("warmup_steps", self.warmup_steps, f"0 to {self.steps}", 0 <= self.warmup_steps <= self.steps)
        fraction = self.final_learning_rate_fraction
        _require("final_learning_rate_fraction", fraction, "0 to 1", 0 <= fraction <= 1)
        _require("weight_decay", self.weight_decay, "at least 0", self.weight_decay >= 0)
        _require("betas", self.betas, "two numbers in [0, 1)", all(0 <= beta < 1 for beta in self.betas))
        _require("clip_norm", self.clip_norm, "a positive number", self.clip_norm > 0)
        _require("ema_decay", self.ema_decay, "a number in [0, 1)", 0 <= self.ema_decay < 1)
        _require("checkpoint_every", self.checkpoint_every, "at least 1", self.checkpoint_every >= 1)
        _require("log_every", self.log_every, "at least 1", self.log_every >= 1)


def _require(name: str, value: object, expected: str, holds: bool) -> None:
    if not holds:
        raise InputError(where=f"TrainConfig.{name}", expected=expected, got=repr(value), do="Change this setting.")


def learning_rate_at(step: int, config: TrainConfig) -> float:
    """The learning rate used for the update number ``step`` (the first is 0).

    Linear from ``learning_rate / warmup_steps`` to ``learning_rate``, reached at the last warm-up step; then half a
    cosine, so that the last update uses ``learning_rate * final_learning_rate_fraction``.
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    num_cosine = config.steps - config.warmup_steps
    progress = (step - config.warmup_steps + 1) / num_cosine
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    fraction = config.final_learning_rate_fraction
    return config.learning_rate * (fraction + (1 - fraction) * cosine)


def trainable(policy: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training moves, by name."""
    return {name: parameter for name, parameter in policy.named_parameters() if parameter.requires_grad}


def finetuning(steps: int, *, batch_size: int, learning_rate: float, seed: int, num_lines: int = 20) -> TrainConfig:
    """The usual settings of a run on demonstrations; ``num_lines`` of its learning curve are kept."""
    return TrainConfig(
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        warmup_steps=min(100, steps // 10),
        final_learning_rate_fraction=0.05,
        weight_decay=0.01,
        betas=(0.9, 0.95),
        clip_norm=1.0,
        ema_decay=0.99,
        seed=seed,
        checkpoint_every=250,
        log_every=max(1, steps // num_lines),
        mixed_precision=True,
    )


def build_optimiser(policy: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; weight decay on matrices only, not on biases, norms or single vectors."""
    parameters = trainable(policy)
    if not parameters:
        raise InputError(
            where="train",
            expected="a policy with at least one trainable parameter",
            got=f"{type(policy).__name__} with none",
            do="Check what the recipe's phase freezes.",
        )
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        factor = next((factor for part, factor in config.slow if part in name), 1.0)
        decay = config.weight_decay if parameter.ndim >= 2 else 0.0
        groups.setdefault((factor, decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": members, "weight_decay": decay, "factor": factor, "lr": config.learning_rate * factor}
            for (factor, decay), members in groups.items()
        ],
        lr=config.learning_rate,
        betas=config.betas,
        fused=True,
    )


def set_learning_rate(optimiser: torch.optim.Optimizer, learning_rate: float) -> None:
    """Use this learning rate (times each group's factor) for the next update."""
    for group in optimiser.param_groups:
        group["lr"] = learning_rate * group["factor"]


class RunningAverage:
    """An exponential moving average of the trainable weights, in float32: ``average = d average + (1 - d) weight``.

    Early on ``d`` is smaller, ``min(decay, (1 + step) / (10 + step))``, so that the random start is forgotten
    (the rule of ``num_updates`` in TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.values = {name: parameter.detach().float().clone() for name, parameter in parameters.items()}

    def decay_at(self, step: int) -> float:
        """The decay used after the update number ``step``."""
        return min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, parameters: Mapping[str, nn.Parameter], step: int) -> None:
        """Move the average toward the weights after the update number ``step``."""
        wide = [parameters[name].detach().float() for name in self.values]
        share = 1 - self.decay_at(step)
        torch._foreach_lerp_(list(self.values.values()), wide, share)  # pyright: ignore[reportPrivateImportUsage]

    @torch.no_grad()
    def copy_to(self, parameters: Mapping[str, Tensor]) -> None:
        """Put the average into the weights."""
        for name, parameter in parameters.items():
            parameter.copy_(self.values[name])
