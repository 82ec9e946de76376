"""What is recorded is what is read; a recording appears whole or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recordings import FPS, Recorded, episodes, moving_blocks, space, write

from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.writer import LeRobotWriter
from crossroads.errors import InputError

CODEC_TOLERANCE = 1.5
"""Mean absolute error out of 255 that the codec may cost on moving blocks (measured 0.4)."""


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=5),
    fps=st.sampled_from([5.0, 10.0, 29.97, 80.0]),
    seed=st.integers(0, 99),
)
def test_a_round_trip_keeps_numbers_exactly_and_pictures_nearly(
    lengths: list[tuple[int, bool]], fps: float, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    generator = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("trip") / "toy"
    given_episodes = []
    with LeRobotWriter(path, fps=fps, cameras={"cam.left": (16, 24)}, space=space()) as writer:
        for length, action_free in lengths:
            images = moving_blocks(length, (16, 24), generator)
            state, actions = generator.normal(size=(length, 3)), generator.normal(size=(length, 2))
            writer.add_episode(
                images={"cam.left": images}, state=state, actions=actions, text="go", action_free=action_free
            )
            given_episodes.append((images, state.astype(np.float32), actions.astype(np.float32)))
    dataset = LeRobotDataset.open(path)
    assert dataset.fps == fps
    for episode, (images, state, actions), (length, action_free) in zip(
        dataset.episodes, given_episodes, lengths, strict=True
    ):
        assert (episode.length, episode.action_free) == (length, action_free)
        np.testing.assert_array_equal(dataset.actions(episode), 0 * actions if action_free else actions)
        np.testing.assert_array_equal(dataset.state(episode), 0 * state if action_free else state)
        seen = dataset.frames(episode, "cam.left", None)
        assert np.abs(seen.astype(int) - images).mean() < CODEC_TOLERANCE


def test_the_space_comes_back_as_it_was_recorded(dataset: LeRobotDataset) -> None:
    assert dataset.space == space()


def test_text_and_session_come_back_with_each_episode(dataset: LeRobotDataset, recorded: list[Recorded]) -> None:
    assert [(e.text, e.session, e.action_free) for e in dataset.episodes] == [
        (one.text, one.session, one.action_free) for one in recorded
    ]


def test_action_free_episodes_count_in_no_statistic(folder: Path, recorded: list[Recorded]) -> None:
    stats = json.loads((folder / "meta/stats.json").read_text())
    labelled = np.concatenate([one.actions for one in recorded if not one.action_free])
    np.testing.assert_allclose(stats["action"]["mean"], labelled.mean(0), rtol=1e-5)
    np.testing.assert_allclose(stats["action"]["q99"], np.quantile(labelled, 0.99, axis=0), rtol=1e-5)
    assert stats["action"]["count"] == [len(labelled)]


def test_files_roll_over_at_the_size_limit_and_still_read_the_same(
    tmp_path: Path, dataset: LeRobotDataset, recorded: list[Recorded]
) -> None:
    small = LeRobotDataset.open(write(tmp_path / "small", episodes(12), video_file_mb=0.02, data_file_mb=0.004))
    assert len(list((small.path / "videos").rglob("*.mp4"))) > 3
    assert len(list((small.path / "data").rglob("*.parquet"))) > 1
    for episode in dataset.episodes:
        np.testing.assert_array_equal(small.actions(episode.index), dataset.actions(episode))
        seen = small.frames(episode.index, "front", None).astype(int)
        assert np.abs(seen - recorded[episode.index].images["front"]).mean() < CODEC_TOLERANCE


def test_the_same_recording_gives_the_same_bytes(tmp_path: Path, dataset: LeRobotDataset) -> None:
    again = LeRobotDataset.open(write(tmp_path / "again", episodes(12)))
    assert again.content_hash() == dataset.content_hash()
    other = LeRobotDataset.open(write(tmp_path / "other", episodes(12, seed=1)))
    assert other.content_hash() != dataset.content_hash()


def test_an_error_in_the_recording_leaves_nothing_behind(tmp_path: Path) -> None:
    writer = LeRobotWriter(tmp_path / "half", fps=FPS, cameras={"front": (32, 48)}, space=space())
    with pytest.raises(KeyError), writer:
        raise KeyError("the simulator died")
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, pathlib, signal, sys
sys.path.insert(0, sys.argv[2])
from recordings import episodes, write
from crossroads.data.writer import LeRobotWriter
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
for place, name in ((LeRobotWriter, "_append_data"), (LeRobotWriter, "_statistics"), (pathlib.Path, "rename")):
    child = os.fork()
    if child == 0:
        setattr(place, name, die)
        write(pathlib.Path(sys.argv[1]) / name / "toy", episodes(2))
    print(name, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_kill_9_at_any_moment_leaves_nothing_at_the_target_and_the_next_recording_sweeps_up(tmp_path: Path) -> None:
    tests = str(Path(__file__).parents[1])
    command = [sys.executable, "-c", KILLED, str(tmp_path), tests]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["_append_data", "-9", "_statistics", "-9", "rename", "-9"]
    for moment in ("_append_data", "_statistics", "rename"):
        left = list((tmp_path / moment).iterdir())
        assert len(left) == 1, "the killed process was recording"
        assert left[0].name.startswith(".toy")
        write(tmp_path / moment / "toy", episodes(2))
        assert list((tmp_path / moment).iterdir()) == [tmp_path / moment / "toy"]


def test_a_writer_leaves_the_folder_of_another_living_writer_alone(tmp_path: Path) -> None:
    cameras = {"front": (32, 48)}
    first = LeRobotWriter(tmp_path / "toy", fps=FPS, cameras=cameras, space=space())
    second = LeRobotWriter(tmp_path / "toy", fps=FPS, cameras=cameras, space=space())
    assert len(list(tmp_path.iterdir())) == 2
    first.abandon()
    second.abandon()


def test_what_cannot_be_recorded_is_refused_with_its_place(tmp_path: Path) -> None:
    one = episodes(1)[0]
    wrong = {
        "expected shape": {"actions": one.actions[:-1]},
        "finite": {"actions": np.where(np.arange(len(one.actions))[:, None] == 2, np.nan, one.actions)},
        "instruction": {"text": " "},
        "absent": {"images": {"front": one.images["front"]}},
        "uint8": {"images": {name: image.astype(np.float32) for name, image in one.images.items()}},
    }
    right = {"images": one.images, "state": one.state, "actions": one.actions, "text": one.text}
    cameras = {"front": (32, 48), "wrist": (32, 48)}
    with LeRobotWriter(tmp_path / "toy", fps=FPS, cameras=cameras, space=space()) as writer:
        for message, change in wrong.items():
            with pytest.raises(InputError, match=message):
                writer.add_episode(**(right | change))
        writer.add_episode(**right)
    assert len(LeRobotDataset.open(tmp_path / "toy").episodes) == 1
    with pytest.raises(InputError, match="does not exist yet"):
        LeRobotWriter(tmp_path / "toy", fps=FPS, cameras=cameras, space=space())
