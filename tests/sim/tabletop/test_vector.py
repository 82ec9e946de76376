"""Many tables behave as one table each, whatever the number of processes."""

from __future__ import annotations

import numpy as np
import pytest

from crossroads.errors import InputError
from crossroads.sim.tabletop.env import TabletopEnv
from crossroads.sim.tabletop.expert import Expert, Style
from crossroads.sim.tabletop.tasks import Task
from crossroads.sim.tabletop.vector import Options, VectorTabletop

OPTIONS = Options(families=("reach",), image_hw=(32, 32), cameras=("front",))
SEEDS = (4, 9, 2)


def _actions(num_steps: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.02, 0.02, (num_steps, len(SEEDS), 4))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_each_table_of_a_vector_is_the_single_table(num_workers: int) -> None:
    plan = _actions(3)
    with VectorTabletop(num_envs=3, num_workers=num_workers, options=OPTIONS) as vector:
        step = vector.reset(SEEDS)
        for actions in plan:
            step = vector.step(actions)
        for index, seed in enumerate(SEEDS):
            env = TabletopEnv(families=("reach",), image_hw=(32, 32), cameras=("front",))
            env.reset(seed=seed)
            for actions in plan:
                obs, reward, _, _, info = env.step(actions[index])
            assert step.obs["front"][index].tobytes() == obs["front"].tobytes()  # pyright: ignore[reportPossiblyUnboundVariable]
            assert step.obs["state"][index].tobytes() == obs["state"].tobytes()  # pyright: ignore[reportPossiblyUnboundVariable]
            assert step.obs["instruction"][index] == obs["instruction"]  # pyright: ignore[reportPossiblyUnboundVariable]
            assert step.reward[index] == reward  # pyright: ignore[reportPossiblyUnboundVariable]
            assert step.infos[index]["object_positions"] == info["object_positions"]  # pyright: ignore[reportPossiblyUnboundVariable]
        with pytest.raises(InputError, match="pink"):
            vector.reset((0,), tasks=(Task(family="reach", target="pink"),))


def test_a_solved_table_waits_for_the_others() -> None:
    env = TabletopEnv(families=("reach",), image_hw=(32, 32), cameras=("front",))
    env.reset(seed=SEEDS[0])
    expert = Expert(env, Style(speed=(1.0, 1.0)), np.random.default_rng(0))
    plan, ended = [], False
    while not ended:
        plan.append(expert.act())
        ended = env.step(plan[-1])[2]
    with VectorTabletop(num_envs=3, options=OPTIONS) as vector:
        step = vector.reset(SEEDS[:2])
        for action in plan:
            step = vector.step(np.stack((action, np.array((0, 0, 0, 1.0)))))
        assert step.done.tolist() == [True, False]
        after = vector.step(np.full((2, 4), 0.02))
        assert after.obs["state"][0].tobytes() == step.obs["state"][0].tobytes()
        assert after.reward[0] == 0
        assert after.terminated[0]
        assert after.obs["state"][1].tobytes() != step.obs["state"][1].tobytes()
        assert not vector.reset(SEEDS).done.any()


def test_wrong_counts_are_refused() -> None:
    with pytest.raises(InputError, match="num_envs >= 1"):
        VectorTabletop(num_envs=0)
    with VectorTabletop(num_envs=1, options=OPTIONS) as vector:
        with pytest.raises(InputError, match="1 to 1 seeds"):
            vector.reset((1, 2))
        vector.reset((1,))
        with pytest.raises(InputError, match=r"\(1, 4\)"):
            vector.step(np.zeros((2, 4)))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_played_chunk_is_its_steps_one_by_one(num_workers: int) -> None:
    env = TabletopEnv(families=("reach",), image_hw=(32, 32), cameras=("front",))
    env.reset(seed=SEEDS[0])
    expert = Expert(env, Style(speed=(1.0, 1.0)), np.random.default_rng(0))
    solving, ended = [], False
    while not ended:
        solving.append(expert.act())
        ended = env.step(solving[-1])[2]
    after = np.full((4, 4), 0.02)  # must not be executed by the table that is done
    plan = np.stack([np.concatenate([solving, after]), np.zeros((len(solving) + 4, 4))])
    with VectorTabletop(num_envs=2, num_workers=num_workers, options=OPTIONS) as vector:
        vector.reset(SEEDS[:2])
        steps = [vector.step(actions) for actions in plan.swapaxes(0, 1)]
        vector.reset(SEEDS[:2])
        looks = (2, len(solving), len(solving) + 3)
        played = vector.play(plan, looks)
    for key in ("front", "state"):
        assert played.obs[key].tobytes() == steps[-1].obs[key].tobytes()
    assert played.done.tolist() == [True, False]
    assert [info["num_steps"] for info in played.infos] == [len(solving), len(solving) + 4]
    for table, reached in enumerate((looks[:2], looks)):
        passed = played.infos[table]["passed"]
        assert tuple(passed) == reached
        for look in reached:
            for key in ("front", "state"):
                assert passed[look][key].tobytes() == steps[look - 1].obs[key][table].tobytes()
    np.testing.assert_allclose(played.reward, np.sum([step.reward for step in steps], axis=0), atol=1e-12)
