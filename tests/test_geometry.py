"""Where points fall in a picture, as the simulator itself says, and what a data set must tell for it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from crossroads.data.geometry import PATH, read_geometry, write_geometry
from crossroads.errors import InputError
from crossroads.geometry import CameraPose, geometry_of
from crossroads.sim.tabletop.env import TABLETOP_GEOMETRY, TABLETOP_SPACE, TabletopEnv

NAMES = TABLETOP_SPACE.state_names


def test_marks_fall_where_the_simulator_sees_them() -> None:
    """Both cameras, the one on the hand among them, after the hand has moved."""
    env = TabletopEnv(image_hw=(32, 48))
    observation = env.reset(seed=3)[0]
    for _ in range(3):
        observation = env.step(np.array([0.02, -0.01, 0.02, -1.0]))[0]
    now = torch.from_numpy(observation["state"]).double()[None]
    later = now + torch.tensor([[0.05, 0.03, -0.02, -0.03]], dtype=torch.float64)
    seen = TABLETOP_GEOMETRY.drawn(now, later, NAMES, (32, 48))
    x, y, z, jaw = later[0].tolist()
    points = np.array([[x, y, z + 0.101], [x - jaw / 2, y, z], [x + jaw / 2, y, z], [x, y, z]])
    for camera, marks in seen.items():
        np.testing.assert_allclose(marks[0, :, :2], env.world.project(camera, points, (32, 48)), atol=1e-5)


def test_a_disc_is_as_large_as_two_points_that_far_apart() -> None:
    pose = TABLETOP_GEOMETRY.cameras[0]
    points = torch.tensor([[[0.0, 0.1, 0.0], [0.01, 0.1, 0.0]]], dtype=torch.float64)
    first, second = pose.seen(points, torch.zeros(1, 4, dtype=torch.float64), NAMES, (32, 32))[0]
    assert second[0] - first[0] == pytest.approx(0.01 * first[2].item(), rel=1e-6)


def test_what_is_behind_a_camera_has_no_size() -> None:
    pose = CameraPose(camera="a", position_m=(0, 0, 0), right=(1, 0, 0), up=(0, 0, 1), fovy_deg=90.0)
    points = torch.tensor([[[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]]])
    ahead, behind = pose.seen(points, torch.zeros(1, 0), (), (8, 8))[0]
    assert ahead.tolist() == pytest.approx([0.5, 0.5, 0.5])
    assert behind[2] == 0


def test_a_gripper_is_open_by_its_later_state() -> None:
    later = torch.tensor([[0.0, 0.0, 0.1, 0.08], [0.0, 0.0, 0.1, 0.02]])
    marks = TABLETOP_GEOMETRY.drawn(torch.zeros(2, 4), later, NAMES, (8, 8))["front"]
    assert marks[:, -1, 3].tolist() == [1.0, 0.0]


def test_a_geometry_is_written_and_read(tmp_path: Path) -> None:
    write_geometry(tmp_path, TABLETOP_GEOMETRY)
    assert read_geometry(tmp_path, cameras=("wrist",), state=NAMES, num_marks=4) == TABLETOP_GEOMETRY
    assert geometry_of(json.loads((tmp_path / PATH).read_text())) == TABLETOP_GEOMETRY


def test_a_data_set_that_does_not_say_where_things_are_is_refused_with_what_to_add(tmp_path: Path) -> None:
    asked = {"cameras": ("front",), "state": NAMES, "num_marks": 4}
    with pytest.raises(InputError, match=r"got no such file.*Write meta/geometry.json: `cameras` by name"):
        read_geometry(tmp_path, **asked)
    write_geometry(tmp_path, TABLETOP_GEOMETRY)
    with pytest.raises(InputError, match=r"without \['top'\]"):
        read_geometry(tmp_path, cameras=("top",), state=NAMES, num_marks=4)
    with pytest.raises(InputError, match="4 marks"):
        read_geometry(tmp_path, cameras=("front",), state=NAMES, num_marks=3)
    write_geometry(tmp_path, replace(TABLETOP_GEOMETRY, gripper="grasp"))
    with pytest.raises(InputError, match=r"unknown \['grasp'\]"):
        read_geometry(tmp_path, **asked)
    (tmp_path / PATH).write_text("{}")
    with pytest.raises(InputError, match="KeyError: 'cameras'"):
        read_geometry(tmp_path, **asked)
