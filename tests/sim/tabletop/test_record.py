"""Recorded demonstrations replay to the same states, and the writer gets labelled and action-free episodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from crossroads.sim.tabletop.env import TabletopEnv
from crossroads.sim.tabletop.record import EPISODES_PER_SESSION, Tally, record_dataset, record_episodes
from crossroads.sim.tabletop.vector import Options

FAMILIES = ("reach", "push", "press")


def test_an_episode_replays_to_the_states_that_it_recorded() -> None:
    (episode,) = record_episodes(Options(families=FAMILIES, image_hw=(32, 32)), num_episodes=1, seed=11)
    env = TabletopEnv(families=FAMILIES, image_hw=(32, 32))
    obs, info = env.reset(seed=episode.seed)
    num = len(episode.actions)
    assert episode.images["front"].shape == (num, 32, 32, 3)
    assert episode.positions.shape == (num, len(episode.names), 3)
    assert episode.pixels["wrist"].shape == (num, len(episode.names), 2)
    assert obs["instruction"] == episode.text
    for step, action in enumerate(episode.actions):
        assert obs["state"].tobytes() == episode.state[step].tobytes()
        assert obs["front"].tobytes() == episode.images["front"][step].tobytes()
        assert info["progress"] == pytest.approx(float(episode.progress[step]))
        obs, _, _, _, info = env.step(action)
    assert info["success"]


def test_only_successes_are_yielded_and_failures_are_tallied(monkeypatch: pytest.MonkeyPatch) -> None:
    from crossroads.sim.tabletop import record

    whole = record.record_episode

    def every_other(env: TabletopEnv, *, seed: int, style: record.Style) -> record.Episode:  # pyright: ignore[reportPrivateImportUsage]
        episode = whole(env, seed=seed, style=style)
        return replace(episode, success=seed % 2 == 0)

    monkeypatch.setattr(record, "record_episode", every_other)
    tally = Tally()
    blind = Options(families=("reach",), cameras=())
    episodes = list(record_episodes(blind, num_episodes=3, seed=0, tally=tally))
    assert [episode.seed for episode in episodes] == [0, 2, 4]
    assert (tally.tried, tally.failed) == (5, 2)


class Notebook:
    """A writer that remembers."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, int, bool, int]] = []
        self.finalised = False

    def add_episode(
        self,
        *,
        images: Mapping[str, np.ndarray],
        state: np.ndarray,
        actions: np.ndarray,
        text: str,
        session: int,
        action_free: bool,
    ) -> None:
        assert all(len(frames) == len(actions) for frames in images.values())
        assert state.shape == actions.shape
        self.rows.append((text, session, action_free, len(actions)))

    def finalise(self) -> None:
        self.finalised = True


def test_a_dataset_has_its_labelled_episodes_first_then_the_action_free_ones() -> None:
    notebook = Notebook()
    seen: list[int] = []
    first = EPISODES_PER_SESSION - 2
    tally = record_dataset(
        notebook,
        Options(families=("reach",), image_hw=(32, 32), cameras=("front",)),
        num_episodes=2,
        num_action_free=3,
        seed=first,
        report=seen.append,
    )
    assert [row[2] for row in notebook.rows] == [False, False, True, True, True]
    assert [row[1] for row in notebook.rows] == [0, 0, 1, 1, 1], "a session is a run of neighbouring seeds"
    assert notebook.finalised
    assert seen == [1, 2, 3, 4, 5]
    assert tally.tried == 5 + tally.failed


def test_processes_that_play_ahead_give_the_same_episodes() -> None:
    tables = Options(families=("reach",), image_hw=(32, 32), cameras=("front",))
    alone = list(record_episodes(tables, num_episodes=3, seed=0))
    ahead = list(record_episodes(tables, num_episodes=3, seed=0, num_workers=2))
    assert [episode.seed for episode in ahead] == [episode.seed for episode in alone]
    for one, other in zip(alone, ahead, strict=True):
        assert one.actions.tobytes() == other.actions.tobytes()
        assert one.images["front"].tobytes() == other.images["front"].tobytes()
