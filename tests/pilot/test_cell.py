"""What a cell trains on: the same windows for every arm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from recordings import episodes, write

from crossroads.data.cache import FrameCache
from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.window import Windows
from crossroads.pilot.cell import usable
from crossroads.types import NOTHING


def test_arms_that_look_ahead_and_arms_that_do_not_see_the_same_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSROADS_CACHE", str(tmp_path / "cache"))
    dataset = LeRobotDataset.open(write(tmp_path / "toy", episodes(6)))
    cache = FrameCache.open(dataset, cameras=("front",), image_hw=(16, 16))
    labelled = [episode.index for episode in dataset.episodes if not episode.action_free]
    found = []
    for future_s in ((), (0.5, 1.0, 1.5, 2.0)):  # longer than the shortest episodes
        window = replace(
            NOTHING,
            cameras=("front",),
            image_hw=(16, 16),
            num_state=3,
            num_actions=4,
            action_size=2,
            control_hz=10.0,
            future_s=future_s,
        )
        windows = Windows(dataset, window, episodes=labelled, cache=cache)
        found.append([windows.places()[row] for row in usable(windows, set(labelled))])
    assert found[0] == found[1]
    assert len(found[0]) == sum(max(1, dataset.episodes[index].length - 4) for index in labelled)
    assert all(frame == 0 or frame + 4 < dataset.episodes[episode].length for episode, frame in found[0])
