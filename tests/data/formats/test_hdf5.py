"""Demonstrations in HDF5 are read as they were written; what is missing or damaged is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from foreign_formats import in_hdf5_order, write_hdf5
from recordings import FPS, episodes

from crossroads.data.formats.hdf5 import Hdf5Source, open_hdf5
from crossroads.data.formats.source import BLOCK_FRAMES, Wanted
from crossroads.errors import InputError

GIVEN = episodes(5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_hdf5(tmp_path / "libero", GIVEN)


def first(folder: Path) -> Path:
    return folder / "do_thing_0_demo.hdf5"


def test_every_number_picture_and_word_comes_back(folder: Path) -> None:
    source = open_hdf5(folder, Wanted())
    facts = source.facts
    assert (facts.fps, facts.robot, facts.num_episodes) == (FPS, "Panda", 5)
    assert facts.cameras == {"front_rgb": (32, 48), "wrist_rgb": (32, 48)}
    assert facts.state_names == ("ee_states_0", "ee_states_1", "gripper_states")
    assert facts.action_names == ("action_0", "action_1")
    assert facts.left_behind == ("rewards",)
    for index, one in enumerate(in_hdf5_order(GIVEN)):
        numbers = source.numbers(index)
        assert numbers.text == one.text
        np.testing.assert_array_equal(numbers.state, one.state)
        np.testing.assert_array_equal(numbers.actions, one.actions)
        for camera in one.images:
            seen = np.concatenate(list(source.frames(index, f"{camera}_rgb")))
            np.testing.assert_array_equal(seen, one.images[camera])


def test_demonstrations_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "many.hdf5", "w") as file:
        for number in range(12):
            group = file.create_group(f"data/demo_{number}")
            group["actions"] = np.full((2, 1), number)
            group["obs/cam"] = np.zeros((2, 8, 8, 3), np.uint8)
            group["obs/joints"] = np.zeros((2, 1))
    source = open_hdf5(tmp_path / "many.hdf5", Wanted(fps=5, text="go", state=("joints",)))
    assert [int(source.numbers(index).actions[0, 0]) for index in range(12)] == list(range(12))


def test_a_long_episode_comes_in_blocks(tmp_path: Path) -> None:
    length = 2 * BLOCK_FRAMES + 3
    with h5py.File(tmp_path / "long.hdf5", "w") as file:
        file["data/demo_0/actions"] = np.zeros((length, 1))
        file["data/demo_0/obs/cam"] = np.arange(length, dtype=np.uint8)[:, None, None, None] * np.ones(
            (1, 8, 8, 3), np.uint8
        )
        file["data/demo_0/obs/joints"] = np.zeros((length, 1))
    source = open_hdf5(tmp_path / "long.hdf5", Wanted(fps=5, text="go", state=("joints",)))
    found = list(source.frames(0, "cam"))
    assert [len(block) for block in found] == [BLOCK_FRAMES, BLOCK_FRAMES, 3]
    assert np.concatenate(found)[:, 0, 0, 0].tolist() == list(range(length))


def change(folder: Path, do: Callable[[h5py.File], object]) -> None:
    with h5py.File(first(folder), "r+") as file:
        do(file)


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: change(folder, lambda file: file.__delitem__(name))


def read_all(source: Hdf5Source) -> None:
    for index in range(source.facts.num_episodes):
        source.numbers(index)
        for camera in source.facts.cameras:
            list(source.frames(index, camera))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (remove("data"), "a group 'data'"),
        (remove("data/demo_0/actions"), "an array 'actions'"),
        (remove("data/demo_0/obs"), "a group 'obs'"),
        (remove("data/demo_1/obs"), "an array 'obs/ee_states'"),
        (lambda folder: change(folder, lambda file: file["data"].attrs.__delitem__("problem_info")), "Give --text"),
        (lambda folder: change(folder, lambda file: file["data"].attrs.__setitem__("env_args", "{")), "expected JSON"),
        (lambda folder: first(folder).write_bytes(first(folder).read_bytes()[:3000]), "readable HDF5 file"),
    ],
)
def test_damage_is_named_with_its_place(damage: Callable[[Path], object], told: str, folder: Path) -> None:
    damage(folder)
    with pytest.raises(InputError, match="expected") as caught:
        read_all(open_hdf5(folder, Wanted()))
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (Wanted(state=("eef",)), "Known: "),
        (Wanted(state=("ee_state",)), "Did you mean 'ee_states'?"),
        (Wanted(action=("torques",)), "an array 'torques'"),
        (Wanted(cameras=("top",)), "some of front_rgb, wrist_rgb"),
    ],
)
def test_what_is_asked_for_and_not_there_is_named(wanted: Wanted, told: str, folder: Path) -> None:
    with pytest.raises(InputError, match="expected") as caught:
        open_hdf5(folder, wanted)
    assert told in str(caught.value)


def test_files_of_different_rates_are_not_mixed(folder: Path) -> None:
    arguments = json.dumps({"env_kwargs": {"control_freq": 50}})
    change(folder, lambda file: file["data"].attrs.__setitem__("env_args", arguments))
    with pytest.raises(InputError, match="one control rate"):
        open_hdf5(folder, Wanted())
    assert open_hdf5(folder, Wanted(fps=10)).facts.fps == 10
