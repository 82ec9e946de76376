"""UVA's transformer and heads: what is blank is not read, each token is denoised to its own state, what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from crossroads.errors import InputError
from crossroads.towers.forward import ForwardTower, Told, read_tokens, read_width
from crossroads.towers.fused_slots import Fused, FusedSlots
from crossroads.towers.spec import Context
from crossroads.towers.token_heads import ChunkHead, TokenHead

PARTS = (
    Fused(name="future", size=3, blank="picture", ahead=True),
    Fused(name="seen", size=3, blank="picture"),
    Fused(name="action", size=2, blank="action"),
)
SLOTS = FusedSlots(
    width=3,
    parts=PARTS,
    frames=2,
    places=4,
    encoder_width=8,
    encoder_depth=1,
    encoder_heads=2,
    decoder_width=6,
    decoder_depth=1,
    decoder_heads=2,
    context_width=5,
    words=2,
)
HEAD = TokenHead(width=3, inner=8, depth=1, context_width=6)
CHUNK = ChunkHead(width=2, inner=8, depth=1, context_width=32, num_actions=4, frames=2, latent_hw=(2, 2))


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def made(spec: ForwardTower) -> Any:
    torch.manual_seed(0)
    return spec.frame().eval()


def told(*contexts: torch.Tensor) -> Told:
    read = (Context(hidden=part, valid=torch.ones(part.shape[:2], dtype=torch.bool)) for part in contexts)
    return Told(level=torch.full((1, 1), 0.5), contexts=tuple(read))


@torch.no_grad()
def test_what_is_blank_of_the_frames_to_come_is_not_read_and_the_rest_is() -> None:
    frame, blank = made(SLOTS), torch.tensor([[True, False] * 4])
    words, given = drawn(1, 5), {"future": drawn(1, 8, 3), "seen": drawn(1, 8, 3, seed=1), "action": drawn(1, 4, 2)}
    states = frame.states(given, words, blank)
    for place, same in ((0, True), (1, False)):
        other = given["future"].clone()
        other[:, place] += 1
        found = frame.states({**given, "future": other}, words, blank)
        assert torch.equal(found, states) == same
    for name in ("seen", "action"):
        assert not torch.allclose(frame.states({**given, name: given[name] + 1}, words, blank), states)
    assert not torch.allclose(frame.states(given, words + 1, blank), states)
    nothing_shown = frame.states({"seen": given["seen"]}, words)
    all_blank = frame.states({k: given[k] for k in ("seen", "future")}, words, torch.ones(1, 8, dtype=torch.bool))
    torch.testing.assert_close(nothing_shown, all_blank)


@torch.no_grad()
def test_a_call_leaves_one_state_for_each_slot_at_its_tap() -> None:
    frame, call = made(SLOTS), told(drawn(1, 1, 5))
    out = frame.enter(drawn(1, 8, 3), call)
    assert out.shape == call.taps[0].shape == (1, read_tokens(SLOTS, 8, 0), read_width(SLOTS, 0))
    with pytest.raises(InputError, match="one token of 5 numbers"):
        frame.enter(drawn(1, 8, 3), told())


def test_a_place_is_denoised_to_its_own_state_alone_and_an_action_to_all_of_them() -> None:
    states = drawn(1, 8, 6).requires_grad_()
    out = made(HEAD).enter(drawn(1, 8, 3), told(states))
    assert out.shape == (1, 8, 6)
    (own,) = torch.autograd.grad(out[:, 2].square().sum(), states)
    assert (own != 0).any(dim=-1)[0].tolist() == [place == 2 for place in range(8)]
    states = drawn(1, 8, 32).requires_grad_()
    for gathers in ("conv_fc", "conv2", "fc2"):
        out = made(replace(CHUNK, gathers=gathers)).enter(drawn(1, 4, 2), told(states))
        (all_,) = torch.autograd.grad(out[:, 0].square().sum(), states)
        assert out.shape == (1, 4, 4)
        assert bool((all_ != 0).any(dim=-1).all())


def test_heads_need_the_states_that_they_are_told() -> None:
    with pytest.raises(InputError, match=r"states 6 wide.*got none"):
        made(HEAD).enter(drawn(1, 8, 3), told())
    with pytest.raises(InputError, match="a state for each of 5 tokens"):
        made(HEAD).enter(drawn(1, 5, 3), told(drawn(1, 8, 6)))
