"""Replay buffers are read as they were written, from a folder or a zip, in either version of Zarr."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from foreign_formats import write_zarr
from recordings import episodes

from crossroads.data.formats.source import Wanted
from crossroads.data.formats.zarr_replay import open_zarr
from crossroads.errors import InputError

GIVEN = episodes(4)
SAID = Wanted(fps=10, text="push the block")


@pytest.mark.parametrize(("name", "zarr_format"), [("buffer.zarr", 2), ("buffer.zarr", 3), ("buffer.zarr.zip", 2)])
def test_every_number_and_picture_comes_back(name: str, zarr_format: int, tmp_path: Path) -> None:
    source = open_zarr(write_zarr(tmp_path / name, GIVEN, zarr_format=zarr_format), SAID)
    assert source.facts.cameras == {"camera0_rgb": (32, 48)}
    assert source.facts.num_episodes == 4
    assert source.facts.action_names == ("action_0", "action_1")
    for index, one in enumerate(GIVEN):
        numbers = source.numbers(index)
        assert numbers.text == "push the block"
        np.testing.assert_array_equal(numbers.state, one.state)
        np.testing.assert_array_equal(numbers.actions, one.actions)
        seen = np.concatenate(list(source.frames(index, "camera0_rgb")))
        np.testing.assert_array_equal(seen, one.images["front"])


def test_a_umi_buffer_has_the_gripper_pose_as_state_and_as_action(tmp_path: Path) -> None:
    source = open_zarr(write_zarr(tmp_path / "umi.zarr.zip", GIVEN, umi=True), SAID)
    assert source.facts.left_behind == ("robot0_demo_start_pose",)
    assert source.facts.action_names[:4] == (*(f"robot0_eef_pos_{i}" for i in range(3)), "robot0_eef_rot_axis_angle_0")
    assert source.facts.action_names[-1] == "robot0_gripper_width"
    state = GIVEN[2].state
    pose = np.concatenate([state, state[:, ::-1], state[:, :1]], axis=1)
    np.testing.assert_array_equal(source.numbers(2).actions, pose)
    np.testing.assert_array_equal(source.numbers(2).state, pose)


@pytest.mark.parametrize(("scale", "whole"), [(1.0, True), (1 / 255, False)])
def test_float_pictures_are_taken_when_they_are_whole_numbers(scale: float, whole: bool, tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "buffer.zarr", GIVEN)
    data = zarr.open_group(path, mode="r+").require_group("data")
    pictures = np.asarray(data["camera0_rgb"])
    data.create_array("img", data=(pictures * scale).astype(np.float32))
    source = open_zarr(path, Wanted(fps=10, text="push", cameras=("img",)))
    if whole:
        np.testing.assert_array_equal(np.concatenate(list(source.frames(0, "img"))), GIVEN[0].images["front"])
    else:
        with pytest.raises(InputError, match="whole numbers from 0 to 255"):
            list(source.frames(0, "img"))


def overwrite(name: str, values: object) -> Callable[[Path], None]:
    def do(path: Path) -> None:
        group = zarr.open_group(path, mode="r+")
        del group[name]
        group.create_array(name, data=np.asarray(values))

    return do


def spoil(path: Path) -> None:
    chunk = path / "data/camera0_rgb/0.0.0.0"
    chunk.write_bytes(chunk.read_bytes()[:20])


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (overwrite("meta/episode_ends", [5, 3]), "rising step numbers"),
        (overwrite("meta/episode_ends", [5, 10]), "lengths {"),
        (overwrite("data/action", np.zeros((4, 2))), "'action': 4"),
        (spoil, "chunks that can be decoded"),
        (lambda path: (path / "data/camera0_rgb/.zarray").write_text("{"), "readable Zarr store"),
    ],
)
def test_damage_is_named_with_its_place(damage: Callable[[Path], object], told: str, tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "buffer.zarr", GIVEN)
    damage(path)
    with pytest.raises(InputError, match="expected") as caught:
        list(open_zarr(path, SAID).frames(0, "camera0_rgb"))
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (Wanted(text="push"), "Give --fps"),
        (Wanted(fps=0, text="push"), "got 0"),
        (Wanted(fps=10), "Give --text"),
        (Wanted(fps=10, text="push", state=("stat",)), "Did you mean 'state'?"),
    ],
)
def test_what_the_files_do_not_say_must_be_said(wanted: Wanted, told: str, tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "buffer.zarr", GIVEN)
    with pytest.raises(InputError, match="expected") as caught:
        open_zarr(path, wanted)
    assert told in str(caught.value)


def test_a_buffer_without_actions_or_poses_asks_which_arrays_they_are(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "buffer.zarr", GIVEN)
    del zarr.open_group(path, mode="r+")["data/action"]
    with pytest.raises(InputError, match="Give --action"):
        open_zarr(path, SAID)
