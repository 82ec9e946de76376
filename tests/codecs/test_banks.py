"""Banks of weights per robot: each sample meets its own robot's, and what is shared is shared."""

from __future__ import annotations

import pytest
import torch

from crossroads.codecs.action_tokens import ActionCodec, ActionTokens
from crossroads.codecs.banks import BankedLinear
from crossroads.codecs.state import StateCodec, StateToken
from crossroads.errors import InputError

ROBOTS = ("arm", "hand", "base")


def test_each_sample_meets_the_weights_of_its_own_robot_and_gradients_go_nowhere_else() -> None:
    torch.manual_seed(0)
    banked = BankedLinear(5, 4, ROBOTS)
    torch.nn.init.normal_(banked.bias)
    x = torch.randn(3, 2, 5)
    banked.address(("base", "arm", "base"))
    y = banked(x)
    for row, bank in enumerate((2, 0, 2)):
        torch.testing.assert_close(y[row], x[row] @ banked.weight[bank] + banked.bias[bank])
    y.square().sum().backward()
    assert banked.weight.grad is not None
    assert [bool(grad.any()) for grad in banked.weight.grad] == [True, False, True]


def test_before_any_robot_is_named_the_first_speaks_for_all() -> None:
    banked = BankedLinear(5, 4, ROBOTS)
    x = torch.randn(2, 1, 5)
    alone = banked(x)
    banked.address(("arm", "arm"))
    torch.testing.assert_close(banked(x), alone)


def test_a_robot_without_a_bank_is_named() -> None:
    with pytest.raises(InputError, match="Did you mean 'hand'"):
        BankedLinear(5, 4, ROBOTS).address(("arm", "hnd"))


@pytest.mark.parametrize("robots", [(), ROBOTS])
@pytest.mark.parametrize("hidden", [(), (6,), (6, 9)])
def test_the_weights_of_both_ends_are_the_stated_ones(hidden: tuple[int, ...], robots: tuple[str, ...]) -> None:
    action = ActionTokens(num_actions=3, action_size=4, control_hz=10.0, hidden=hidden, robots=robots)
    state = StateToken(num_state=5, hidden=hidden, robots=robots)
    for spec, codec in ((action, ActionCodec(action, 8)), (state, StateCodec(state, 8))):
        assert sum(parameter.numel() for parameter in codec.parameters()) == spec.num_parameters(8)
    codec = ActionCodec(action, 8)
    assert codec.read(codec.embed(torch.randn(2, 3, 4), torch.zeros(2, 1))).shape == (2, 3, 4)


def test_the_first_action_stands_where_it_is_told_to() -> None:
    spec = ActionTokens(num_actions=3, action_size=4, control_hz=10.0, first_place=1)
    assert ActionCodec(spec, 8).grid("noised", 3)[:, 0].tolist() == [1.0, 2.0, 3.0]
