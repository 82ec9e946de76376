"""The tabletop is a lawful gymnasium environment whose seed fixes every byte."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from crossroads.errors import InputError
from crossroads.sim.tabletop.env import TABLETOP_SPACE, TabletopEnv
from crossroads.sim.tabletop.tasks import Task


@pytest.fixture(scope="module")
def env() -> TabletopEnv:
    return TabletopEnv(image_hw=(48, 64))


def test_it_passes_the_gymnasium_checker() -> None:
    with warnings.catch_warnings():
        # A hint, not a rule: our actions are metres, normalising them is the policy's business.
        warnings.filterwarnings("ignore", message=".*symmetric and normalized.*")
        # The rest is checked on the environment itself, which is made without a registry.
        warnings.filterwarnings("ignore", message=".*not having a spec.*")
        check_env(TabletopEnv(image_hw=(48, 64), render_mode="rgb_array"), skip_render_check=False)


def test_the_same_seed_gives_the_same_bytes(env: TabletopEnv) -> None:
    rng = np.random.default_rng(0)
    actions = rng.uniform(TABLETOP_SPACE.low, TABLETOP_SPACE.high, (4, 4))
    runs = []
    for other in (env, TabletopEnv(image_hw=(48, 64)), env):
        obs, _ = other.reset(seed=7)
        seen = [obs, *(other.step(action)[0] for action in actions)]
        arrays = ("front", "wrist", "state")
        runs.append([(*(one[name].tobytes() for name in arrays), one["instruction"]) for one in seen])
    assert runs[0] == runs[1] == runs[2]
    obs, _ = env.reset(seed=8)
    assert obs["front"].tobytes() != runs[0][0][0]


def test_the_same_scene_can_be_told_something_else(env: TabletopEnv) -> None:
    first, info = env.reset(seed=5)
    assert len(info["valid_tasks"]) >= 8
    texts = set()
    for index, task in enumerate(info["valid_tasks"][:3]):
        by_index, told = env.reset(seed=5, options={"task": index})
        by_task, _ = env.reset(seed=5, options={"task": task})
        assert told["task"] == task
        assert by_index["front"].tobytes() == by_task["front"].tobytes() == first["front"].tobytes()
        texts.add(by_index["instruction"])
    assert len(texts) == 3


def test_a_task_of_another_scene_is_refused_with_the_valid_ones(env: TabletopEnv) -> None:
    with pytest.raises(InputError, match="Valid here"):
        env.reset(seed=5, options={"task": Task(family="reach", target="pink elephant")})
    with pytest.raises(InputError, match="expected one of this scene"):
        env.reset(seed=5, options={"task": 10_000})


@pytest.mark.parametrize("action", [np.zeros(3), np.array([0.0, 0.0, np.nan, 0.0])])
def test_a_malformed_action_is_refused(env: TabletopEnv, action: np.ndarray) -> None:
    env.reset(seed=0)
    with pytest.raises(InputError, match="4 finite numbers"):
        env.step(action)


def test_the_hand_follows_actions_in_metres_and_keeps_the_limits() -> None:
    env = TabletopEnv(families=("reach",), cameras=())
    env.reset(seed=0)
    start = env.world.hand
    toward_centre = -np.sign(start[0]) * 0.02
    for _ in range(3):
        env.step(np.array([toward_centre, 0, 0, 1.0]))
    env.step(np.array([0, 0, 0, 1.0]))
    moved = env.world.hand - start
    assert moved[0] == pytest.approx(3 * toward_centre, abs=0.003)
    assert np.abs(moved[1:]).max() < 0.003
    before = env.world.hand
    env.step(np.array([5.0, 0, 0, 1.0]) * np.sign(toward_centre))
    assert abs(env.world.hand[0] - before[0]) < 0.035, "an action beyond the limit is clipped"


def test_rewards_add_up_to_the_progress_and_the_limit_truncates() -> None:
    env = TabletopEnv(families=("reach",), cameras=(), max_steps=5)
    _, info = env.reset(seed=3)
    first = info["progress"]
    total, truncated = 0.0, False
    for _ in range(5):
        assert not truncated
        _, reward, _, truncated, info = env.step(np.array([0.01, 0.01, 0.0, 1.0]))
        total += reward
    assert truncated
    assert total == pytest.approx(info["progress"] - first)


def test_a_projected_object_is_where_its_colour_is_in_the_picture() -> None:
    env = TabletopEnv(families=("reach",), image_hw=(96, 96), cameras=("front",))
    hits = []
    for seed in range(8):
        obs, info = env.reset(seed=seed)
        for name, xyz in info["object_positions"].items():
            if not name.startswith(("red ", "blue ", "green ")) or "button" in name:
                continue
            u, v = env.project("front", np.array(xyz))
            pixel = obs["front"][int(v * 96), int(u * 96)].astype(int)
            channel = ("red", "green", "blue").index(name.split()[0])
            # The hand may hide an object; it is black.
            hits.append(pixel[channel] > 1.5 * np.delete(pixel, channel).max() or pixel.max() < 40)
    assert len(hits) > 8
    assert np.mean(hits) == 1.0


def test_what_the_hand_touches_first_is_named() -> None:
    env = TabletopEnv(families=("press",), cameras=())
    _, info = env.reset(seed=2)
    target = np.array(info["object_positions"][info["task"].target])
    assert info["touched"] == ""
    for height in (0.09, 0.0):
        for _ in range(25):
            delta = np.clip(np.array((*target[:2], height)) - env.world.hand, -0.03, 0.03)
            _, _, ended, _, info = env.step(np.array((*delta, -1.0)))
            if ended:
                break
    assert info["touched"] == info["task"].target
