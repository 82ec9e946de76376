"""Recordings that the tests of the data room share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from recordings import Recorded, episodes, write

from crossroads.data.lerobot import LeRobotDataset


@pytest.fixture(scope="session")
def recorded() -> list[Recorded]:
    return episodes(12)


@pytest.fixture(scope="session")
def folder(recorded: list[Recorded], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording nobody may change."""
    return write(tmp_path_factory.mktemp("recording") / "toy", recorded)


@pytest.fixture(scope="session")
def dataset(folder: Path) -> LeRobotDataset:
    return LeRobotDataset.open(folder)


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[..., Path]:
    """Makes a small recording of one's own, to be broken at will."""

    def make(num_episodes: int = 4) -> Path:
        return write(tmp_path / "own", episodes(num_episodes))

    return make
