"""The example that plants faults does what its note beside the copy says, and nothing else."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from crossroads.data.check import check
from crossroads.data.findings import IMPACT
from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.writer import LeRobotWriter
from crossroads.errors import InputError
from crossroads.space import ActionSpace
from golden import REPOSITORY

NUM, LENGTH = 32, 30
SPACE = ActionSpace(
    robot="dot",
    action_names=("dx", "dy", "gripper"),
    action_units=("m", "m", "1"),
    low=(-1.0, -1.0, -1.0),
    high=(1.0, 1.0, 1.0),
    state_names=("x", "y", "opening"),
    control_hz=10.0,
)


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plant_faults", REPOSITORY / "examples" / "plant_faults.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["plant_faults"] = module  # dataclasses look their module up.
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "source"
    with LeRobotWriter(path, fps=10, cameras={"front": (16, 16), "wrist": (16, 16)}, space=SPACE) as writer:
        for index in range(NUM):
            rng = np.random.default_rng(index)
            actions = rng.uniform(-1, 1, (LENGTH, 3))
            state = np.cumsum(actions, axis=0)
            pictures = rng.integers(0, 255, (2, LENGTH, 1, 1, 3)).astype(np.uint8).repeat(16, 2).repeat(16, 3)
            images = {"front": pictures[0], "wrist": pictures[1]}
            writer.add_episode(images=images, state=state, actions=actions, text=f"do {index % 2}", session=index // 8)
    return path


FAULTS = (
    "stuck-camera",
    "desync-camera",
    "gripper-polarity",
    "sign-flip",
    "change-point",
    "out-of-range",
    "teleport",
    "dropped-frames",
    "static",
    "duplicate",
)


def test_every_fault_of_the_example_is_tested_here(example: ModuleType) -> None:
    assert tuple(example.FAULTS) == FAULTS


@pytest.mark.parametrize("dose", ["mild", "strong"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_changes_the_episodes_that_are_told_and_no_other(
    example: ModuleType, source: Path, tmp_path: Path, fault: str, dose: str
) -> None:
    copy = tmp_path / "copy"
    (planted,) = example.plant(source, copy, [f"{fault}:{dose}"], seed=3)
    told = json.loads((tmp_path / "copy.planted.json").read_text())["planted"]
    assert [(it["fault"], it["dose"], tuple(it["episodes"])) for it in told] == [(fault, dose, planted.episodes)]
    assert planted.kind in IMPACT
    assert check(copy).sound
    before, after = LeRobotDataset.open(source), LeRobotDataset.open(copy)
    added = range(NUM, len(after.episodes))
    changed = {index for index in range(NUM) if not _same(before, after, index)} | set(added)
    expected = set(added) if fault == "duplicate" else set(planted.episodes)
    assert changed == expected
    for index, (first, last) in zip(planted.episodes, planted.frames, strict=bool(planted.frames)):
        assert 0 <= first <= last < after.episodes[index].length


def _same(before: LeRobotDataset, after: LeRobotDataset, index: int) -> bool:
    """Numbers to the bit, pictures up to coding noise (a frozen picture of this noise differs by far more)."""
    if before.episodes[index].length != after.episodes[index].length:
        return False
    numbers = all(
        np.array_equal(part(before), part(after)) for part in (lambda d: d.state(index), lambda d: d.actions(index))
    )
    pictures = [(d.frames(index, c, None).astype(int) for d in (before, after)) for c in before.cameras]
    return numbers and all(np.abs(a - b).max() < 40 for a, b in pictures)


def test_two_faults_share_no_episode_and_one_seed_gives_one_copy(
    example: ModuleType, source: Path, tmp_path: Path
) -> None:
    faults = ["gripper-polarity:mild", *["stuck-camera:mild", "out-of-range:mild", "teleport:mild"] * 4]
    first = example.plant(source, tmp_path / "first", faults, seed=7)
    second = example.plant(source, tmp_path / "second", faults, seed=7)
    assert [it.plain() for it in first] == [it.plain() for it in second]
    touched = [index for it in first for index in it.episodes]
    assert len(touched) == len(set(touched))


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        (["stuck-camra"], "Did you mean 'stuck-camera'"),
        (["teleport:heavy"], "mild, strong"),
        (["sign-flip"] * 9, "in a row"),
    ],
)
def test_an_unknown_fault_and_too_many_are_refused_and_leave_nothing(
    example: ModuleType, source: Path, tmp_path: Path, faults: list[str], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        example.plant(source, tmp_path / "copy", faults)
    assert list(tmp_path.iterdir()) == []
