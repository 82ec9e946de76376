"""What a simulated robot must offer to be evaluated on, and a checker that says in words where one falls short."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from crossroads.errors import InputError
from crossroads.space import ActionSpace
from crossroads.types import Observation


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one action led to."""

    obs: Observation
    reward: float
    terminated: bool
    truncated: bool
    success: bool


class Env(Protocol):
    """One robot, one instruction per episode; the seed fixes everything."""

    @property
    def space(self) -> ActionSpace: ...

    def reset(self, seed: int) -> Observation: ...

    def step(self, actions: np.ndarray) -> Step:
        """Execute one action (one per control step), in the units of ``space``."""
        ...


def _require(holds: bool, *, expected: str, got: str) -> None:
    if not holds:
        raise InputError(where="check_env", expected=expected, got=got, do="Correct the environment.")


def _check_observation(obs: Observation, space: ActionSpace) -> None:
    _require(obs.batch_size == 1, expected="observations of one robot (batch size 1)", got=str(obs.batch_size))
    _require(bool(obs.text[0].strip()), expected="an instruction", got="an empty text")
    _require(
        tuple(obs.state.shape) == (1, space.num_state),
        expected=f"a state of shape (1, {space.num_state}) as the space names it",
        got=str(tuple(obs.state.shape)),
    )
    _require(bool(torch.isfinite(obs.state).all()), expected="a finite state", got=str(obs.state))
    _require(len(obs.images) > 0, expected="at least one camera", got="none")
    for name, image in obs.images.items():
        _require(
            image.dtype == torch.uint8 and image.ndim == 4 and image.shape[-1] == 3,
            expected=f"camera {name!r} as uint8 (1, h, w, 3)",
            got=f"{image.dtype} {tuple(image.shape)}",
        )
        _require(int(image.max()) > int(image.min()), expected=f"a picture from camera {name!r}", got="one flat colour")


def _same(one: Observation, other: Observation) -> bool:
    pictures = all(torch.equal(one.images[name], other.images[name]) for name in one.images)
    return pictures and torch.equal(one.state, other.state) and one.text == other.text


def check_env(env: Env, *, seeds: tuple[int, ...] = (0, 1), num_steps: int = 5) -> None:
    """Run an environment for a few steps and refuse what would spoil a comparison: shapes, units, determinism."""
    space = env.space
    rng = np.random.default_rng(0)
    plans = [rng.uniform(space.low, space.high, (num_steps, space.action_size)) for _ in seeds]
    first: list[list[Observation]] = []
    for attempt in range(2):
        for index, (seed, plan) in enumerate(zip(seeds, plans, strict=True)):
            seen = [env.reset(seed)]
            for action in plan:
                step = env.step(action)
                _require(bool(np.isfinite(step.reward)), expected="a finite reward", got=str(step.reward))
                _require(step.terminated or not step.success, expected="success to end the episode", got="it went on")
                seen.append(step.obs)
                if step.terminated or step.truncated:
                    break
            for obs in seen:
                _check_observation(obs, space)
            if attempt == 0:
                first.append(seen)
            else:
                same = len(seen) == len(first[index]) and all(map(_same, seen, first[index]))
                _require(same, expected=f"the same episode from seed {seed} every time", got="another one")
    differ = any(not _same(one[0], other[0]) for one, other in itertools.pairwise(first))
    _require(differ or len(seeds) < 2, expected="different seeds to give different scenes", got="the same scene")
