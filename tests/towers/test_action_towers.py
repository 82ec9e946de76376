"""Diffusion Policy's two networks: who may read whom, what they are told, and what they refuse."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from crossroads.errors import InputError
from crossroads.towers.action_transformer import ActionTransformer
from crossroads.towers.action_unet import ActionUNet
from crossroads.towers.forward import ForwardTower, Told
from crossroads.towers.observed_steps import ObservedSteps
from crossroads.towers.spec import Context

SEEN = ObservedSteps(num=2, cameras=2, image_width=3, state_width=4)
UNET = ActionUNet(width=2, num_actions=4, channels=(8, 16), seen=SEEN, level_width=8, groups=4, num_steps=10)
TRANSFORMER = ActionTransformer(width=8, depth=2, heads=2, num_actions=4, seen=SEEN, num_steps=10)
WHOLE = replace(TRANSFORMER, seen=None, step_read=False)


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def made(spec: ForwardTower) -> Any:
    torch.manual_seed(0)
    return spec.frame().eval()


def told(pictures: torch.Tensor, state: torch.Tensor, level: float = 0.5) -> Told:
    read = (Context(hidden=part, valid=torch.ones(part.shape[:2], dtype=torch.bool)) for part in (pictures, state))
    return Told(level=torch.full((len(state), 1), level), contexts=tuple(read))


@pytest.mark.parametrize("spec", [UNET, TRANSFORMER, replace(TRANSFORMER, reading_depth=1)])
def test_an_answer_depends_on_the_step_on_each_picture_and_on_each_state(spec: ActionUNet | ActionTransformer) -> None:
    frame, x = made(spec), drawn(1, 4, spec.width)
    pictures, state = drawn(1, 4, 3).requires_grad_(), drawn(1, 2, 4).requires_grad_()
    out = frame.enter(x, told(pictures, state))
    reached = torch.autograd.grad(out.square().sum(), (pictures, state))
    assert all(bool((part != 0).any(dim=-1).all()) for part in reached)
    with torch.no_grad():
        assert not torch.allclose(frame.enter(x, told(pictures, state, 0.9)), out)


def test_the_last_observed_step_is_told_behind_the_first_with_its_cameras_before_its_state() -> None:
    pictures, state = drawn(1, 4, 3), drawn(1, 2, 4)
    steps = SEEN.of(told(pictures, state).contexts)
    wanted = torch.cat([pictures[:, 2], pictures[:, 3], state[:, 1]], dim=-1)
    assert torch.equal(steps[:, 1], wanted)


@pytest.mark.parametrize("causal", [True, False])
def test_an_action_reads_no_later_action_and_nothing_that_was_seen_after_it(causal: bool) -> None:
    frame, num = made(replace(TRANSFORMER, causal=causal)), TRANSFORMER.num_actions
    actions, pictures, state = (drawn(*shape).requires_grad_() for shape in ((1, num, 8), (1, 4, 3), (1, 2, 4)))
    out = frame.enter(actions, told(pictures, state))
    own, seen = torch.autograd.grad(out[:, 0].square().sum(), (actions, state))
    assert (own != 0).any(dim=-1)[0].tolist() == ([True, False, False, False] if causal else [True] * num)
    assert (seen != 0).any(dim=-1)[0].tolist() == [True, not causal]


@torch.no_grad()
def test_without_anything_to_read_the_step_is_a_token_before_the_actions() -> None:
    frame, x = made(WHOLE), drawn(2, 4, 8)
    answers = [frame.enter(x, Told(level=torch.full((2, 1), level), contexts=())) for level in (0.1, 0.9)]
    assert answers[0].shape == x.shape
    assert bool((answers[0] != answers[1]).any(dim=-1).all())
    with pytest.raises(InputError, match="step_read False"):
        replace(TRANSFORMER, step_read=False)


@torch.no_grad()
def test_what_is_told_beside_one_action_reaches_the_answer() -> None:
    frame, x = made(replace(UNET, seen=None, local_width=3)), drawn(1, 4, 2)
    beside, step = drawn(1, 4, 3), torch.tensor([3])
    assert not torch.allclose(frame.answer(x, step, None, beside), frame.answer(x, step, None, 0 * beside))


def test_sizes_that_cannot_be_are_refused_and_so_are_missing_edges() -> None:
    for wrong in ({"num_actions": 5}, {"kernel": 4}, {"channels": (8, 10)}, {"channels": (12, 16)}):
        with pytest.raises(InputError, match="ActionUNet tower"):
            replace(UNET, **wrong)
    with pytest.raises(InputError, match="each of another width"):
        replace(SEEN, image_width=4)
    pictures, state = drawn(1, 4, 3), drawn(1, 2, 4)
    alone = replace(told(pictures, state), contexts=told(pictures, state).contexts[1:])
    with pytest.raises(InputError, match=r"4 tokens of 3 numbers.*got none"):
        made(UNET).enter(drawn(1, 4, 2), alone)
    with pytest.raises(InputError, match=r"2 tokens of 4 numbers.*got 1 tokens"):
        made(UNET).enter(drawn(1, 4, 2), told(pictures, state[:, :1]))
