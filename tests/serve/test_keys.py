"""A foreign policy's names are a small file; what it leaves out is openpi's, what it misspells is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from crossroads.errors import InputError
from crossroads.serve.keys import LIBERO, read_keys

DROID = """
image_size = 224

[images]
"observation/exterior_image_1_left" = "front"

[state]
"observation/joint_position" = ["x", "y", "z"]
"observation/gripper_position" = ["jaw_m"]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "keys.toml"
    path.write_text(text)
    return path


def test_a_file_replaces_what_it_names_and_leaves_the_rest(tmp_path: Path) -> None:
    keys = read_keys(write(tmp_path, DROID))
    assert keys.images == {"observation/exterior_image_1_left": "front"}
    assert keys.state["observation/joint_position"] == ("x", "y", "z")
    assert keys.image_size == 224
    assert keys.prompt == LIBERO.prompt
    assert keys.cameras == ("front",)
    assert read_keys(write(tmp_path, "")) == LIBERO


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("imges = 3", "Did you mean 'images'"),
        ("image_size = 1.5", "whole number of pixels"),
        ("image_size = true", "whole number of pixels"),
        ('prompt = ""', "a request key"),
        ("[images]\nx = 3", "request key to camera"),
        ('[state]\nx = "all"', "list of state names"),
        ("images = ", "expected TOML"),
    ],
)
def test_a_wrong_file_says_where_and_what(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said) as wrong:
        read_keys(write(tmp_path, text))
    assert "keys.toml" in wrong.value.where


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.toml"):
        read_keys(tmp_path / "nowhere.toml")


def test_cameras_and_numbers_that_the_robot_lacks_get_the_nearest_name() -> None:
    cameras, state_names = ("front", "wrist"), ("x", "jaw_m")
    LIBERO.check(cameras=cameras, state_names=state_names, where="here")
    with pytest.raises(InputError, match="Did you mean 'front'"):
        replace(LIBERO, images={"a": "frnt"}).check(cameras=cameras, state_names=state_names, where="here")
    with pytest.raises(InputError, match="Did you mean 'jaw_m'"):
        replace(LIBERO, state={"a": ("jaw",)}).check(cameras=cameras, state_names=state_names, where="here")
