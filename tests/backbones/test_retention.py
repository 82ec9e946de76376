"""What is left of a language model under a policy: its own weights answer, and answers are graded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nano_batch import ROBOT

from crossroads.backbones.clips import Clip
from crossroads.backbones.load import SHIPPED, load_backbones, load_weights_of
from crossroads.backbones.questions import is_right, words
from crossroads.backbones.retention import kind_of, language_of
from crossroads.build import build
from crossroads.errors import InputError
from crossroads.recipes.catalogue import RECIPES, recipe
from crossroads.recipes.nano_vlm import nano_vlm

ON_LANGUAGE = [
    name
    for name, make in RECIPES.items()
    if any(tower.backbone == "nano_vlm" for tower in make().stage.towers)
    and {"image", "text"} <= {stream.name for stream in make().stage.streams if stream.tower == "language"}
]


@pytest.mark.parametrize("name", ON_LANGUAGE)
def test_the_language_model_under_a_policy_is_the_shipped_one_until_it_is_trained(name: str) -> None:
    policy, shipped = build(recipe(name), ROBOT, seed=0), build(nano_vlm(), ROBOT, seed=1)
    load_backbones(policy)
    load_weights_of(shipped, SHIPPED)
    found, wanted = language_of(policy).net.state_dict(), shipped.net.state_dict()
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        assert torch.equal(found[key], value), key
    with torch.no_grad():
        for parameter in policy.net.parameters():
            parameter.add_(1.0)
    moved = language_of(policy).net.state_dict()
    assert all(torch.equal(moved[key], value + 1) for key, value in wanted.items() if "mlp" in key)


@pytest.mark.parametrize(("name", "lacks"), [("fast_wam", "nano_vlm"), ("inverse_scene", "codecs.text")])
def test_a_policy_without_the_whole_language_model_cannot_be_asked(name: str, lacks: str) -> None:
    with pytest.raises(InputError, match=lacks):
        language_of(build(recipe(name), ROBOT, seed=0))


def test_answers_are_graded_by_their_form() -> None:
    assert is_right("<x4> <y9>", "<x5> <y8>")  # one bin off
    assert not is_right("<x4> <y9>", "<x6> <y9>")
    assert not is_right("<x4> <y9> <x4> <y9>", "<x4> <y9>")
    assert not is_right("yes", "<x4> <y9>")
    assert is_right(" yes", "yes")
    assert [kind_of(text) for text in ("<x1> <y1>", "no", "the red ball")] == ["place", "yes or no", "words"]


def clip(hand_x: list[float]) -> Clip:
    """A hand on its way along x to a red ball at 0.5 m."""
    num = len(hand_x)
    return Clip(
        frames=np.zeros((num, 8, 8, 3), np.uint8),
        text="reach the red ball",
        target="red ball",
        names=("red ball",),
        pixels=np.full((num, 1, 2), 0.5, np.float32),
        positions=np.tile(np.array([[[0.5, 0.0, 0.0]]], np.float32), (num, 1, 1)),
        hand=np.array([[x, 0.0, 0.2] for x in hand_x], np.float32),
        others=(),
    )


def test_subtasks_follow_the_hand() -> None:
    assert words(clip([0.0, 0.2, 0.48, 0.5]), fps=10.0, seed=0).subtasks == (
        (0.0, "move to the red ball"),
        (0.2, "reach the red ball"),
    )
    assert words(clip([0.49, 0.5]), fps=10.0, seed=0).subtasks == ((0.0, "reach the red ball"),)


def test_every_frame_is_asked_about_and_the_seed_decides_what() -> None:
    found = words(clip([0.1] * 30), fps=10.0, seed=3)
    assert [each.frame for each in found.questions] == list(range(30))
    assert found == words(clip([0.1] * 30), fps=10.0, seed=3)
    assert found != words(clip([0.1] * 30), fps=10.0, seed=4)
