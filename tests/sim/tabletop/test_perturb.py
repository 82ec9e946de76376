"""Each perturbation changes what it names and nothing else, and the next reset undoes it."""

from __future__ import annotations

import numpy as np
import pytest

from crossroads.errors import InputError
from crossroads.sim.tabletop.env import TabletopEnv
from crossroads.sim.tabletop.perturb import NONE, Perturbation

AXES = {
    "light": Perturbation(light=1.0),
    "table": Perturbation(table=1.0),
    "distractors": Perturbation(distractors=1.0),
    "camera": Perturbation(camera=1.0),
    "start": Perturbation(start=1.0),
    "noise": Perturbation(noise=1.0),
}


@pytest.fixture(scope="module")
def plain() -> TabletopEnv:
    return TabletopEnv(families=("reach", "push"), cameras=("front",))


@pytest.mark.parametrize("axis", AXES)
def test_a_perturbation_changes_the_picture_and_leaves_the_tasks(plain: TabletopEnv, axis: str) -> None:
    env = TabletopEnv(families=("reach", "push"), cameras=("front",), perturbation=AXES[axis])
    changes = []
    for seed in range(3):
        usual, usual_info = plain.reset(seed=seed)
        other, other_info = env.reset(seed=seed)
        changes.append(np.abs(usual["front"].astype(int) - other["front"].astype(int)).mean())
        assert other_info["valid_tasks"] == usual_info["valid_tasks"]
        assert other_info["task"] == usual_info["task"]
        moved = np.abs(usual["state"] - other["state"]).max()
        assert (moved > 0) == (axis in ("start", "noise"))
        again, _ = env.reset(seed=seed)
        assert again["front"].tobytes() == other["front"].tobytes()
    assert max(changes) > 0.5


def test_a_reset_undoes_what_the_last_scene_changed() -> None:
    env = TabletopEnv(families=("reach",), cameras=("front",), perturbation=AXES["camera"])
    env.reset(seed=0)
    first = env.world.model.cam_pos.copy()
    for seed in range(1, 30):
        env.reset(seed=seed)
    env.reset(seed=0)
    np.testing.assert_array_equal(env.world.model.cam_pos, first)


def test_a_strength_outside_zero_to_one_is_refused() -> None:
    with pytest.raises(InputError, match=r"Perturbation\.light"):
        Perturbation(light=1.5)
    assert Perturbation() == NONE
