"""A small random batch that fits any recipe's window, and the robot that all nano recipes are built for."""

from __future__ import annotations

import torch

from crossroads.recipe import Recipe
from crossroads.space import ActionSpace, Statistics
from crossroads.types import Batch, Observation

ROBOT = ActionSpace(
    robot="test arm",
    action_names=("x", "y", "z", "jaw"),
    action_units=("m", "m", "m", "1"),
    low=(-0.03, -0.03, -0.03, 0.0),
    high=(0.03, 0.03, 0.03, 1.0),
    state_names=("x", "y", "z", "jaw"),
    control_hz=10.0,
)
TEXTS = ("push the red cube left", "press the blue button", "close the drawer", "put the green ball in the bin")
ANSWERS = ("red", "the button is at <x3> <y9> .", "", "yes")


def nano_batch(recipe: Recipe, *, size: int = 2, seed: int = 0) -> Batch:
    """Random pictures, states and actions; the last sample's last actions are not valid; texts differ in length."""
    generator = torch.Generator().manual_seed(seed)
    window = recipe.window
    rows, columns = window.image_hw

    def pictures(*shape: int) -> torch.Tensor:
        return torch.randint(0, 256, (*shape, rows, columns, 3), generator=generator, dtype=torch.uint8)

    num, num_future = max(window.num_actions, 1), len(window.future_s)
    valid = torch.ones(size, num, dtype=torch.bool)
    valid[-1, num - num // 3 :] = False
    low, high = torch.tensor(ROBOT.low), torch.tensor(ROBOT.high)
    images = {camera: pictures(size) for camera in window.cameras}
    future = {camera: pictures(size, num_future) for camera in window.cameras} if num_future else {}
    num_marks = window.num_marks
    num_later, numbers = len(window.later_state_s), window.num_state or len(ROBOT.state_names)
    return Batch(
        obs=Observation(
            images=images,
            state=torch.randn(size, window.num_state or len(ROBOT.state_names), generator=generator),
            text=tuple(TEXTS[index % len(TEXTS)] for index in range(size)),
            robot=(ROBOT.robot,) * size,
            time_s=torch.zeros(size),
        ).foreseeing(future, window.future_s),
        actions=low + (high - low) * torch.rand(size, num, ROBOT.action_size, generator=generator),
        actions_valid=valid,
        future=future,
        future_valid=torch.ones(size, num_future, dtype=torch.bool),
        later_state=torch.randn(size, num_later, numbers, generator=generator),
        later_state_valid=torch.ones(size, num_later, dtype=torch.bool),
        value=torch.rand(size, generator=generator),
        answer=tuple(ANSWERS[index % len(ANSWERS)] for index in range(size)),
        weight=torch.ones(size),
        marks={camera: torch.rand(size, num_marks, 4, generator=generator) for camera in images if num_marks},
    )


def statistics(mean: tuple[float, ...], std: tuple[float, ...]) -> Statistics:
    """Statistics with the extremes three deviations out."""
    low = tuple(m - 3 * s for m, s in zip(mean, std, strict=True))
    high = tuple(m + 3 * s for m, s in zip(mean, std, strict=True))
    return Statistics(mean=mean, std=std, min=low, max=high, q01=low, q99=high, count=100)
