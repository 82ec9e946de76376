"""Schedule values, decay groups and the mathematics of the running average."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from train.tiny_policy import SETTINGS, NoisyRegression

from crossroads.errors import InputError
from crossroads.train.optim import RunningAverage, TrainConfig, build_optimiser, learning_rate_at, trainable


@given(st.integers(2, 500), st.floats(0, 1), st.floats(0, 1))
def test_the_learning_rate_rises_to_its_highest_then_falls_to_the_stated_fraction(
    steps: int, warmup: float, fraction: float
) -> None:
    num_warmup = int(warmup * (steps - 1))
    config = replace(SETTINGS, steps=steps, warmup_steps=num_warmup, final_learning_rate_fraction=fraction)
    rates = [learning_rate_at(step, config) for step in range(steps)]
    rise, fall = rates[:num_warmup], rates[num_warmup:]
    assert rise == sorted(rise)
    assert fall == sorted(fall, reverse=True)
    assert all(0 <= rate <= config.learning_rate * (1 + 1e-12) for rate in rates)
    assert math.isclose(rates[-1], config.learning_rate * fraction, abs_tol=1e-12)


def test_schedule_values_by_hand() -> None:
    config = replace(SETTINGS, steps=12, warmup_steps=4, learning_rate=1.0, final_learning_rate_fraction=0.2)
    assert [learning_rate_at(step, config) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert learning_rate_at(7, config) == pytest.approx(0.2 + 0.8 * 0.5)  # half way down
    assert learning_rate_at(11, config) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("learning_rate", float("nan")),
        ("warmup_steps", 25),
        ("betas", (0.9, 1.0)),
        ("ema_decay", 1.0),
        ("clip_norm", 0.0),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(name: str, value: object) -> None:
    fields = {field: getattr(SETTINGS, field) for field in TrainConfig.__dataclass_fields__}
    with pytest.raises(InputError, match=f"TrainConfig.{name}"):
        TrainConfig(**{**fields, name: value})


def test_weight_decay_reaches_matrices_and_nothing_else() -> None:
    policy = NoisyRegression()
    before = {name: parameter.detach().clone() for name, parameter in policy.named_parameters()}
    optimiser = build_optimiser(policy, replace(SETTINGS, learning_rate=0.1, weight_decay=0.5))
    for parameter in trainable(policy).values():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    for name, parameter in policy.named_parameters():
        decays = name in ("moving.0.weight", "moving.3.weight")
        torch.testing.assert_close(parameter.detach(), before[name] * (0.95 if decays else 1.0))


def test_the_running_average_follows_its_formula_and_warms_up() -> None:
    weight = nn.Parameter(torch.zeros(3))
    average = RunningAverage({"w": weight}, decay=0.8)
    expected = torch.zeros(3)
    for step in range(40):
        weight.data = torch.full((3,), float(step + 1))
        average.update({"w": weight}, step)
        decay = min(0.8, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * (step + 1)
    torch.testing.assert_close(average.values["w"], expected)
    average.copy_to({"w": weight})
    torch.testing.assert_close(weight.data, expected)


def test_the_average_of_weights_that_stand_still_is_those_weights() -> None:
    weight = nn.Parameter(torch.randn(5, generator=torch.Generator().manual_seed(0)))
    average = RunningAverage({"w": weight}, decay=0.99)
    for step in range(50):
        average.update({"w": weight}, step)
    torch.testing.assert_close(average.values["w"], weight.data)
