"""One recipe on robots that differ: trained from the command line, resumed, and acting on each of them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from recordings import moving_blocks

from crossroads.cli import main
from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.window import Windows
from crossroads.data.writer import LeRobotWriter
from crossroads.errors import InputError
from crossroads.pilot.arms import Wire, open_arms
from crossroads.pilot.mixed import Blend, OnRobot, robots_of, train_mixture
from crossroads.pilot.single import Training, restore
from crossroads.sim.tabletop.env import TABLETOP_SPACE
from crossroads.space import ActionSpace, Normaliser
from crossroads.train.checkpoint import read_meta

OTHER = ActionSpace(
    robot="other",
    action_names=("dx", "dy", "wrist"),
    action_units=("m", "m", "rad"),
    low=(-5.0, -5.0, -3.0),
    high=(5.0, 5.0, 3.0),
    state_names=("x", "angle"),
    control_hz=2 * TABLETOP_SPACE.control_hz,
)
SLOTS = """
control_hz = 10
[[dataset]]
[[dataset]]
cameras = { front = "head" }
"""


def record(path: Path, space: ActionSpace, camera: str, scale: float) -> Path:
    rng = np.random.default_rng(0)
    with LeRobotWriter(path, fps=space.control_hz, cameras={camera: (64, 64)}, space=space) as writer:
        for _ in range(2):
            writer.add_episode(
                images={camera: moving_blocks(20, (64, 64), rng)},
                state=rng.normal(size=(20, space.num_state)).astype(np.float32) * scale,
                actions=rng.uniform(-scale, scale, size=(20, space.action_size)).astype(np.float32),
                text="reach the red ball",
            )
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    base = tmp_path_factory.mktemp("robots")
    (base / "slots.toml").write_text(SLOTS)
    return record(base / "tabletop", TABLETOP_SPACE, "front", 0.01), record(base / "other", OTHER, "head", 1.0)


@pytest.fixture(scope="module")
def run(data: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained from the command line, in a phase on cached features."""
    out = tmp_path_factory.mktemp("runs") / "mixed"
    words = [
        "train",
        "pi0",
        "--data",
        str(data[0]),
        "--data",
        str(data[1]),
        "--slots",
        str(data[0].parent / "slots.toml"),
    ]
    assert main([*words, "--weight", "1", "--weight", "3", "--steps", "3", "--batch-size", "4", "--out", str(out)]) == 0
    return out


def test_the_account_says_what_was_seen_of_each(run: Path, data: tuple[Path, Path]) -> None:
    told = json.loads((run / "mixture.json").read_text())["datasets"]
    assert [one["robot"] for one in told] == ["tabletop", "other"]
    assert sum(one["samples_seen"] for one in told) == 3 * 4
    sizes = np.array([one["samples_there"] for one in told])
    expected = sizes * (1, 3) / (sizes * (1, 3)).sum()
    np.testing.assert_allclose([one["share"] for one in told], expected)
    assert [one["samples_seen"] for one in told] == [round(12 * expected[0]), 12 - round(12 * expected[0])]


def test_each_robot_is_normalised_by_its_own_numbers(run: Path, data: tuple[Path, Path]) -> None:
    policy = restore(run)
    assert len(policy.space.action_names) == 5
    codec = next(part for name, part in policy.net.named_modules() if name == "codecs.action.normaliser")
    assert isinstance(codec, Normaliser)
    for index, path in enumerate(data):
        dataset, slots = LeRobotDataset.open(path), robots_of(read_meta(run / "policy"))[index]
        own = dataset.statistics("action", [0, 1])
        np.testing.assert_allclose(codec.offset[index, list(slots.action)], own.mean, rtol=1e-5, atol=1e-8)
        absent = sorted(set(range(5)) - set(slots.action))
        assert codec.offset[index, absent].tolist() == [0.0] * len(absent)
        assert codec.scale[index, absent].tolist() == [1.0] * len(absent)


def test_it_acts_on_each_robot_in_its_own_numbers(run: Path, data: tuple[Path, Path]) -> None:
    policy = restore(run)
    for path, slots in zip(data, robots_of(read_meta(run / "policy")), strict=True):
        dataset = LeRobotDataset.open(path)
        own = slots.own_window(policy.recipe.window)
        obs = Windows(dataset, own, episodes=[0], cache=None, resampled=True).batch([0, 5]).obs
        one = OnRobot(policy, policy.recipe.window, slots)
        chunk, _ = one.act(obs, one.start(2), generator=torch.Generator().manual_seed(0))
        seconds = policy.recipe.chunk.num_actions / policy.space.control_hz
        assert chunk.values.shape == (2, round(seconds * dataset.fps), dataset.space.action_size)
        assert chunk.control_hz == dataset.fps
        assert torch.equal(chunk.values, dataset.space.clamp(chunk.values))
    with pytest.raises(InputError, match="one of tabletop, other"):
        policy.act(replace(obs, robot=("third",) * 2), policy.start(2), generator=torch.Generator())  # pyright: ignore


def test_the_embedded_world_evaluates_it_as_its_own_robot(run: Path) -> None:
    with open_arms([str(run)], Wire()) as (arm,):
        assert isinstance(arm.policy, OnRobot)
        assert arm.cameras == ("front",)


def test_a_run_that_is_continued_or_shared_differently_is_the_same_or_refused(
    data: tuple[Path, Path], tmp_path: Path
) -> None:
    """In a phase on pictures; datasets of one robot share its normaliser, and the fit is that of all their frames."""
    same, settings = (data[0], data[0]), Training(steps=2, batch_size=4, phase="full")
    train_mixture("pi0", same, tmp_path / "run", settings, Blend(), progress=False)
    again, seen = train_mixture("pi0", same, tmp_path / "run", settings, Blend(), progress=False)
    assert again.steps == 2
    assert [one.samples_seen for one in seen] == [4, 4]
    with pytest.raises(InputError):
        train_mixture("pi0", same, tmp_path / "run", settings, Blend(weights=(1, 2)), progress=False)


def test_settings_of_a_mixture_need_one(data: tuple[Path, Path], tmp_path: Path) -> None:
    assert main(["train", "pi0", "--data", str(data[0]), "--weight", "2", "--out", str(tmp_path / "run")]) == 2
    both = ["--data", str(data[0]), "--data", str(data[1])]
    assert main(["train", "pi0", *both, "--out", str(tmp_path / "run")]) == 2, "rates differ and none was declared"


def test_faulty_episodes_are_left_out_when_told_to_and_counted(
    data: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "spoilt"
    shutil.copytree(data[0], path)
    file = path / "data/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    actions = table["action"].to_pylist()
    actions[3] = [float("nan")] * 4
    column = pa.array(actions, table["action"].type)
    pq.write_table(table.set_column(table.column_names.index("action"), "action", column), file)
    words = ["train", "pi0", "--data", str(path), "--steps", "1", "--batch-size", "2", "--out"]
    assert main([*words, str(tmp_path / "run")]) == 2
    assert main([*words, str(tmp_path / "run"), "--skip-faulty"]) == 0
    assert "1 faulty episode left out (0)" in capsys.readouterr().out
    assert read_meta(tmp_path / "run/policy")["left_out"] == [0]
    assert main([*words, str(tmp_path / "both"), "--data", str(data[0]), "--skip-faulty"]) == 0
    told = json.loads((tmp_path / "both/mixture.json").read_text())["datasets"]
    assert [one["left_out"] for one in told] == [[0], []]
    assert told[1]["samples_there"] == 2 * told[0]["samples_there"]
