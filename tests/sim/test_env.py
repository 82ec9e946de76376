"""The environment checker passes the tabletop and refuses what would spoil a comparison."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from crossroads.errors import InputError
from crossroads.sim.env import Step, check_env
from crossroads.sim.tabletop.adapter import ObservedTabletop, to_observation
from crossroads.sim.tabletop.env import TabletopEnv
from crossroads.types import Observation


@pytest.fixture(scope="module")
def table() -> ObservedTabletop:
    return ObservedTabletop(TabletopEnv(families=("reach", "press"), image_hw=(32, 32)))


class Spoiled(ObservedTabletop):
    """A table whose observations are changed on the way out."""

    def __init__(self, table: ObservedTabletop, fault: str) -> None:
        super().__init__(table.env)
        self._fault, self._calls = fault, 0

    def _spoil(self, obs: Observation) -> Observation:
        self._calls += 1
        if self._fault == "state size":
            return replace(obs, state=obs.state[:, :3])
        if self._fault == "text":
            return replace(obs, text=("",))
        if self._fault == "black":
            return replace(obs, images={name: torch.zeros_like(image) for name, image in obs.images.items()})
        if self._fault == "drift":
            return replace(obs, state=obs.state + 1e-4 * self._calls)
        return obs

    def reset(self, seed: int) -> Observation:
        return self._spoil(super().reset(3 if self._fault == "same scene" else seed))

    def step(self, actions: np.ndarray) -> Step:
        step = super().step(actions)
        return replace(step, obs=self._spoil(step.obs), reward=np.nan if self._fault == "reward" else step.reward)


def test_the_tabletop_passes_the_checker(table: ObservedTabletop) -> None:
    check_env(table, num_steps=2)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("state size", "state of shape"),
        ("text", "an instruction"),
        ("black", "one flat colour"),
        ("drift", "the same episode from seed"),
        ("same scene", "different seeds"),
        ("reward", "finite reward"),
    ],
)
def test_the_checker_refuses_a_spoiled_environment(table: ObservedTabletop, fault: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_env(Spoiled(table, fault), num_steps=2)


def test_a_batch_of_tables_becomes_one_observation() -> None:
    obs = {
        "front": np.zeros((3, 8, 8, 3), np.uint8),
        "state": np.arange(12, dtype=np.float32).reshape(3, 4),
        "instruction": ["a", "b", "c"],
    }
    seen = to_observation(obs, time_s=0.3)
    assert seen.batch_size == 3
    assert list(seen.images) == ["front"]
    assert seen.state[2].tolist() == [8, 9, 10, 11]
    assert seen.time_s.tolist() == pytest.approx([0.3] * 3)
