"""The tabletop in the types that travel between rooms: `Observation` in, `Step` out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from crossroads.sim.env import Step
from crossroads.sim.tabletop.env import CAMERAS, TabletopEnv
from crossroads.space import ActionSpace
from crossroads.types import Observation


def to_observation(obs: Mapping[str, Any], *, time_s: float | np.ndarray) -> Observation:
    """An `Observation` from what `TabletopEnv` (one table) or `VectorTabletop` (a batch of tables) returned."""
    single = isinstance(obs["instruction"], str)
    text = (obs["instruction"],) if single else tuple(obs["instruction"])
    arrays = {name: np.asarray(value)[None] if single else np.asarray(value) for name, value in obs.items()}
    times = np.broadcast_to(np.asarray(time_s, dtype=np.float32), (len(text),))
    return Observation(
        images={name: torch.from_numpy(arrays[name]) for name in CAMERAS if name in obs},
        state=torch.from_numpy(arrays["state"]),
        text=text,
        robot=(TabletopEnv.space.robot,) * len(text),
        time_s=torch.from_numpy(times.copy()),
    )


class ObservedTabletop:
    """A tabletop that speaks the `crossroads.sim.env.Env` protocol."""

    def __init__(self, env: TabletopEnv) -> None:
        self.env = env
        self._num_steps = 0

    @property
    def space(self) -> ActionSpace:
        return self.env.space

    def reset(self, seed: int) -> Observation:
        """Set the scene of a seed."""
        self._num_steps = 0
        obs, _ = self.env.reset(seed=seed)
        return to_observation(obs, time_s=0.0)

    def step(self, actions: np.ndarray) -> Step:
        """Execute one action."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        self._num_steps += 1
        return Step(
            obs=to_observation(obs, time_s=self._num_steps / self.env.control_hz),
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            success=info["success"],
        )
