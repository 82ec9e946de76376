"""What Play-LMP sees and tells: pictures as places, motions in the frame of the hand."""

from __future__ import annotations

import pytest
import torch

from crossroads.codecs.keypoints import PictureFeatures, PictureNetwork
from crossroads.codecs.tool_frame import rotation, to_tool, to_world
from crossroads.errors import InputError


def test_keypoints_are_where_a_channel_looks_row_first() -> None:
    network = PictureFeatures(PictureNetwork(image_hw=(60, 52), features=4, hidden=8))
    assert network.spec.map_hw == (4, 3)
    maps = torch.zeros(1, 64, 4, 3)
    maps[0, 5, 3, 0] = 1e4
    places = network.places(maps)[0].unflatten(0, (64, 2))
    torch.testing.assert_close(places[5], torch.tensor([1.0, -1.0]))
    torch.testing.assert_close(places[6], torch.zeros(2))


@pytest.mark.parametrize("keypoints", [True, False])
def test_weights_of_a_picture_network_are_counted(keypoints: bool) -> None:
    spec = PictureNetwork(
        image_hw=(40, 44), features=6, hidden=8, keypoints=keypoints, temperature=None, waves=keypoints, norm=True
    )
    module = PictureFeatures(spec)
    assert spec.num_parameters() == sum(weight.numel() for weight in module.parameters())
    assert module(torch.randn(2, 3, 40, 44)).shape == (2, 6)


def test_a_picture_that_the_convolutions_use_up_is_refused() -> None:
    with pytest.raises(InputError, match="36 x 36"):
        PictureNetwork(image_hw=(35, 64), features=4)


def test_a_motion_told_in_the_frame_of_the_hand_comes_back_and_keeps_its_length() -> None:
    generator = torch.Generator().manual_seed(0)
    actions = torch.rand(50, 7, generator=generator) * 2 - 1
    angles = (torch.rand(50, 3, generator=generator) - 0.5) * torch.tensor([6.0, 2.0, 6.0])
    told = to_tool(actions, angles)
    torch.testing.assert_close(to_world(told, angles), actions, rtol=0, atol=1e-3)
    torch.testing.assert_close(told[:, :3].norm(dim=-1), actions[:, :3].norm(dim=-1))
    assert torch.equal(told[:, 6], actions[:, 6])


def test_a_hand_that_stands_straight_is_told_shifts_as_they_are_and_turns_backwards() -> None:
    """The sign is the published one: what is told is the way from the new frame to the old."""
    actions = torch.tensor([[0.1, -0.2, 0.3, 0.5, 0.0, 0.0, 1.0]])
    told = to_tool(actions, torch.zeros(1, 3))
    torch.testing.assert_close(told, torch.tensor([[0.1, -0.2, 0.3, -0.5, 0.0, 0.0, 1.0]]), rtol=0, atol=1e-4)


def test_rotations_are_orthogonal_and_turn_about_their_axis() -> None:
    turn = rotation(torch.tensor([[0.3, -0.7, 1.1]]))
    torch.testing.assert_close(turn @ turn.mT, torch.eye(3)[None], rtol=0, atol=1e-6)
    about_z = rotation(torch.tensor([[0.0, 0.0, torch.pi / 2]]))
    torch.testing.assert_close(
        about_z @ torch.tensor([1.0, 0.0, 0.0]), torch.tensor([[0.0, 1.0, 0.0]]), atol=1e-6, rtol=0
    )
