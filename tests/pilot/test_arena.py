"""Several arms on the same scenes: early ends that are right, the same episodes either way, folders that resume."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from policy_server import openpi_handler, serving
from scripted_policy import Scripted

from crossroads import cli
from crossroads.data.writer import LeRobotWriter
from crossroads.errors import InputError
from crossroads.evaluate.records import EpisodeRecord, read_records
from crossroads.evaluate.versus import Stopping
from crossroads.pilot.arena import Settings, evaluate_arms
from crossroads.pilot.arms import Arm
from crossroads.pilot.plan import TRIAL_SEED
from crossroads.pilot.scoreboard import summary
from crossroads.pilot.single import Training, train_recipe
from crossroads.policy import Memory, Policy
from crossroads.sim.tabletop.env import TABLETOP_SPACE
from crossroads.sim.tabletop.record import record_dataset
from crossroads.sim.tabletop.vector import Options
from crossroads.types import Actions, Observation
from golden import REPOSITORY

pytestmark = pytest.mark.sim
NUM = 12
SETTINGS = Settings(
    families=("reach", "press"), num_trials=NUM, num_swapped=6, execute_steps=8, num_videos=0, round_size=4
)
IMAGE_HW = (16, 16)


class Noisy:
    """Moves at random; its noise shows whether a round was run with the same generator."""

    passed_s: tuple[float, ...] = ()
    before_s: tuple[float, ...] = ()

    def __init__(self) -> None:
        self.num_asked = 0

    def start(self, batch_size: int) -> Memory:
        return Memory()

    def act(
        self, obs: Observation, memory: Memory, *, generator: torch.Generator, show: bool = False
    ) -> tuple[Actions, Memory]:
        self.num_asked += 1
        values = 0.03 * torch.randn((obs.batch_size, 8, 4), generator=generator)
        return Actions(values=TABLETOP_SPACE.clamp(values), control_hz=10.0, imagined={}), memory


@pytest.fixture(scope="module")
def expert() -> Scripted:
    options = Options(families=SETTINGS.families, image_hw=IMAGE_HW, cameras=("front",))
    return Scripted(options, tuple(range(TRIAL_SEED, TRIAL_SEED + NUM)), execute_steps=8)


def arm(name: str, policy: Policy) -> Arm:
    return Arm(
        name=name,
        kind="test",
        policy=policy,
        cameras=("front",),
        image_hw=IMAGE_HW,
        execute_at_most=8,
        identity={"of": name},
    )


def bare(records: tuple[EpisodeRecord, ...]) -> dict[tuple[str, bool, int], EpisodeRecord]:
    """Without what a clock said."""
    return {(one.arm, one.swapped, one.seed): replace(one, latencies_s=()) for one in records}


def test_a_settled_pair_ends_early_and_the_common_scenes_are_the_same(expert: Scripted, tmp_path: Path) -> None:
    def arms() -> list[Arm]:
        return [arm("expert", expert), arm("noise", Noisy())]

    whole = evaluate_arms(arms(), SETTINGS, tmp_path / "whole", lambda _: None)
    early = evaluate_arms(arms(), replace(SETTINGS, stopping=Stopping(margin=0.1)), tmp_path / "early", lambda _: None)
    assert whole.num_scenes == NUM
    assert early.num_scenes < NUM
    assert early.num_scenes % SETTINGS.round_size == 0
    assert early.pairs[0].answer == whole.pairs[0].answer == "worse"
    assert early.ended == (
        f"settled after {early.num_scenes} of at most {NUM} scenes: "
        f"noise is worse than expert (after {early.pairs[0].settled_after})"
    )
    assert [measured.letter for measured in early.arms] == ["a", "b"]
    all_, some = (bare(read_records(tmp_path / name / "episodes.jsonl")) for name in ("whole", "early"))
    assert set(some) < set(all_)
    assert all(all_[key] == record for key, record in some.items())
    assert whole.arms[0].overall.success is not None
    assert whole.arms[0].overall.success.share == 1
    assert "noise" in summary(early)
    assert "anytime-valid" in summary(early)


def test_equal_arms_get_no_winner_and_run_to_the_end(tmp_path: Path) -> None:
    twins = [arm("one", Noisy()), arm("other", Noisy())]
    settings = replace(SETTINGS, num_trials=4, num_swapped=0, round_size=2, stopping=Stopping(margin=0.1))
    found = evaluate_arms(twins, settings, tmp_path / "run", lambda _: None)
    assert found.num_scenes == 4
    assert [pair.answer for pair in found.pairs] == ["open"]
    assert found.ended == "all 4 scenes were run and it is still open against other"
    assert [measured.letter for measured in found.arms] == ["a", "a"]


def test_it_is_said_whether_a_policy_went_on_from_what_it_saw(tmp_path: Path) -> None:
    settings = replace(SETTINGS, num_trials=1, num_swapped=0)
    policies = {"forgetful": Noisy(), "remembering": Noisy(), "cut off": Noisy()}
    policies["remembering"].passed_s, policies["cut off"].passed_s = (0.4, 0.8), (0.6, 1.2)
    found = evaluate_arms([arm(name, policy) for name, policy in policies.items()], settings, tmp_path, lambda _: None)
    said = [measured.memory for measured in found.arms]
    assert said[0] == ""
    assert said[1] == "each call goes on from what passed since the last"
    assert said[2] == "each call starts anew: 8 steps are executed, not the 12 of its blocks"
    assert all(one in summary(found) for one in said)


def test_an_interrupted_evaluation_goes_on_where_it_stopped(tmp_path: Path) -> None:
    settings = replace(SETTINGS, num_trials=4, num_swapped=2, num_videos=1, round_size=2)
    done = []

    def interrupt(num: int) -> None:
        done.append(num)
        if len(done) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_arms([arm("a", Noisy()), arm("b", Noisy())], settings, tmp_path / "cut", interrupt)
    first, second = Noisy(), Noisy()
    resumed = evaluate_arms([arm("a", first), arm("b", second)], settings, tmp_path / "cut", lambda _: None)
    whole = evaluate_arms([arm("a", Noisy()), arm("b", Noisy())], settings, tmp_path / "whole", lambda _: None)
    names = ("cut", "whole")
    left, right = (bare(read_records(tmp_path / name / "episodes.jsonl")) for name in names)
    assert list(left) == list(right)
    assert left == right
    assert resumed.pairs == whole.pairs
    assert first.num_asked < second.num_asked, "two rounds of the first arm were already there, one of the second"
    films = sorted(path.relative_to(tmp_path / "cut") for path in (tmp_path / "cut" / "videos").rglob("*.mp4"))
    assert [path.parts[1] for path in films] == ["1-a", "2-b"]


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    settings = replace(SETTINGS, num_trials=1, num_swapped=0)
    evaluate_arms([arm("a", Noisy())], settings, tmp_path / "run", lambda _: None)
    with pytest.raises(InputError, match="another evaluation"):
        evaluate_arms([arm("b", Noisy())], settings, tmp_path / "run", lambda _: None)
    with pytest.raises(InputError, match="another evaluation"):
        evaluate_arms([arm("a", Noisy())], replace(settings, num_trials=2), tmp_path / "run", lambda _: None)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="other files"):
        evaluate_arms([arm("a", Noisy())], settings, tmp_path / "mine", lambda _: None)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (replace(SETTINGS, stopping=Stopping(margin=0.1)), "at least two arms"),
        (replace(SETTINGS, num_trials=0), "--trials"),
        (replace(SETTINGS, execute_steps=9), "at most the 8 actions"),
        (replace(SETTINGS, families=("press",)), "one instruction in all from press"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_before_anything_runs(
    settings: Settings, said: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said):
        evaluate_arms([arm("a", Noisy())], settings, tmp_path / "run", lambda _: None)
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two steps on four demonstrations."""
    folder = tmp_path_factory.mktemp("trained")
    options = Options(families=("press",), cameras=("front", "wrist"))
    cameras: dict[str, tuple[int, int]] = dict.fromkeys(options.cameras, options.image_hw)
    with LeRobotWriter(folder / "data", fps=10.0, cameras=cameras, space=TABLETOP_SPACE) as writer:
        record_dataset(writer, options, num_episodes=4, num_action_free=0, seed=1, num_workers=0, report=lambda _: None)
    train_recipe("cloning", folder / "data", folder / "run", Training(steps=2, batch_size=4), progress=False)
    return folder / "run"


@pytest.fixture
def served(trained: Path) -> Iterator[str]:
    """The same run behind the example server, in a process of its own."""
    script = REPOSITORY / "examples" / "serve_policy.py"
    command = [sys.executable, str(script), "--run", str(trained), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split(" at ")[1].strip()
        finally:
            process.terminate()


def test_a_run_and_the_same_run_behind_a_server_give_the_same_episodes_from_the_command_line(
    trained: Path, served: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["eval", "--arm", str(trained), "--arm", served, "--env", "tabletop", "--out", str(out)]
    sizes = ["--families", "reach", "press", "--trials", "1", "--swapped", "1", "--videos", "0", "--quiet"]
    assert cli.main([*arguments, *sizes]) == 0
    said = capsys.readouterr().out
    assert served in said
    assert "the server says" in said
    found = json.loads((out / "evaluation.json").read_text())
    assert found["arms"][1]["identity"]["metadata"] == {"recipe": "cloning", "robot": "tabletop"}
    assert found["arms"][1]["latency"]["median_s"] >= found["arms"][1]["server_median_s"] > 0
    records = read_records(out / "episodes.jsonl")
    halves = [
        [replace(one, arm="", cell="", latencies_s=()) for one in records if one.arm == name]
        for name in (str(trained), served)
    ]
    assert halves[0] == halves[1]
    assert len(halves[0]) == 2


def test_a_server_of_another_robot_ends_the_command_with_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text('image_size = 16\nimages = { base = "front" }\n')
    with serving(openpi_handler(lambda seen: {"actions": np.zeros((10, 7))})) as address:
        arguments = ["eval", "--arm", address, "--env", "tabletop", "--out", str(tmp_path / "out"), "--quiet"]
        assert cli.main([*arguments, "--trials", "1", "--remote-keys", str(keys)]) == 2
        assert cli.main([*arguments, "--remote-keys", str(keys), "--remote-keys", str(keys)]) == 2
    said = capsys.readouterr().err
    assert "expected actions of shape [horizon, 4]" in said
    assert "got (10, 7)" in said
    assert "in the order of the ws:// arms" in said
