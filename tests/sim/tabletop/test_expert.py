"""The scripted experts solve their family, calm or person-like, and never exceed the action limits."""

from __future__ import annotations

import numpy as np
import pytest

from crossroads.sim.tabletop.env import TABLETOP_SPACE, TabletopEnv
from crossroads.sim.tabletop.expert import Expert, Style
from crossroads.sim.tabletop.measure import expert_table
from crossroads.sim.tabletop.record import HOLD_STEPS, record_episode
from crossroads.sim.tabletop.tasks import ALL_FAMILIES, solved

HUMAN = Style(pauses=True, detours=True, noise_m=0.003)


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_the_expert_of_every_family_succeeds(family: str) -> None:
    (row,) = expert_table(num_episodes=4, first_seed=100, families=(family,))
    assert row.num_success == 4, f"failed seeds {row.failed_seeds}"
    assert row.num_tasks >= 8


def test_person_like_experts_succeed_more_slowly_and_within_the_limits() -> None:
    env = TabletopEnv(families=("reach", "push", "pick"), cameras=())
    lengths = {}
    for name, style in (("calm", Style()), ("human", HUMAN)):
        episodes = [record_episode(env, seed=seed, style=style) for seed in range(6)]
        assert sum(episode.success for episode in episodes) >= 5
        lengths[name] = np.mean([len(episode.actions) for episode in episodes])
        for episode in episodes:
            assert (episode.actions >= np.array(TABLETOP_SPACE.low) - 1e-7).all()
            assert (episode.actions <= np.array(TABLETOP_SPACE.high) + 1e-7).all()
    assert lengths["human"] > lengths["calm"]


def test_a_slower_speed_takes_more_steps() -> None:
    env = TabletopEnv(families=("reach",), cameras=())
    fast, slow = (
        sum(
            len(record_episode(env, seed=seed, style=Style(speed=(speed, speed))).actions) - HOLD_STEPS
            for seed in range(5)
        )
        for speed in (1.0, 0.5)
    )
    assert slow > 1.5 * fast


def test_doing_another_valid_task_is_not_success_and_is_reported() -> None:
    """The expert of one instruction fails another, and `achieved` names what was done instead."""
    env = TabletopEnv(families=("reach", "press"), cameras=())
    _, info = env.reset(seed=1)
    told = info["task"]
    done = next(task for task in info["valid_tasks"] if task.target != told.target)
    env.reset(seed=1, options={"task": done})
    expert = Expert(env, Style(), np.random.default_rng(0))
    actions = []
    ended = False
    while not ended:
        actions.append(expert.act())
        _, _, ended, _, info = env.step(actions[-1])
    assert info["achieved"] == (done.text,)
    env.reset(seed=1, options={"task": told})
    for action in actions:
        _, _, ended, _, info = env.step(action)
        assert not ended
    assert info["achieved"] == (done.text,)
    assert not info["success"]


@pytest.mark.parametrize("family", ["push", "stack", "sort_two", "press_two"])
def test_what_is_reported_as_achieved_is_exactly_what_the_predicates_say(family: str) -> None:
    """The shortcut for things that did not move skips nothing that is done."""
    env = TabletopEnv(families=(family, "reach", "pick"), cameras=())
    env.reset(seed=4)
    expert, ended = Expert(env, Style(), np.random.default_rng(0)), False
    while not ended:
        _, _, success, truncated, info = env.step(expert.act())
        ended = success or truncated
        now, layout = env.world.snapshot(), env.world.layout
        assert env.start is not None
        assert info["achieved"] == tuple(task.text for task in env.valid_tasks if solved(task, layout, env.start, now))
    assert env.task.text in info["achieved"]  # pyright: ignore[reportPossiblyUnboundVariable]
