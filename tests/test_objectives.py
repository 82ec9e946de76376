"""Objectives: what the network is shown, what it owes, and that what is not valid counts for nothing."""

from __future__ import annotations

import math

import pytest
import torch

from crossroads.errors import InputError
from crossroads.noise import BellWeight, StepLevels, UniformLevels, clean_from_velocity
from crossroads.objectives import Align, Flow, Regress, TokenCE, masked_mean
from crossroads.streams import Corrupted, Objective


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shown_by(objective: Objective, clean: torch.Tensor, generator: torch.Generator, *, num: int = 1) -> Corrupted:
    return objective.corrupt(clean, objective.draw(len(clean), num, generator), generator)


def test_a_masked_mean_counts_valid_tokens_and_gives_zero_without_any() -> None:
    error = torch.tensor([[1.0, 3.0], [5.0, 7.0], [9.0, 9.0]], requires_grad=True)
    valid = torch.tensor([[True, True], [False, True], [False, False]])
    mean = masked_mean(error, valid)
    assert mean.tolist() == [2.0, 7.0, 0.0]
    mean.sum().backward()
    assert error.grad is not None
    assert error.grad.tolist() == [[0.5, 0.5], [0.0, 1.0], [0.0, 0.0]]


def test_flow_shows_the_path_and_owes_its_velocity() -> None:
    clean = torch.randn(5, 4, 3, generator=seeded())
    for num in (1, 4):  # a level per sample, and one per token
        shown = shown_by(Flow(levels=UniformLevels()), clean, seeded(1), num=num)
        assert shown.level.shape == (5, num)
        assert shown.level.unique().numel() == 5 * num
        restored = clean_from_velocity(shown.latent, shown.target, shown.level[:, :, None])
        torch.testing.assert_close(restored, clean, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "objective", [Flow(), Flow(level_weight=BellWeight()), Regress(), Regress(error="squared")], ids=repr
)
def test_a_perfect_answer_owes_nothing_and_what_is_not_valid_is_not_compared(objective: Objective) -> None:
    clean = torch.randn(2, 4, 3, generator=seeded())
    shown = shown_by(objective, clean, seeded(1))
    valid = torch.tensor([[True] * 4, [True, True, False, False]])
    assert objective.loss(shown.target.clone(), shown, valid).tolist() == [0.0, 0.0]
    answer = shown.target.clone()
    answer[1, 2:] += 100.0
    assert objective.loss(answer, shown, valid).tolist() == [0.0, 0.0]
    answer[1, 0] += 1.0
    losses = objective.loss(answer, shown, valid)
    assert losses[0] == 0
    assert losses[1] > 0


def test_flow_weighs_each_sample_by_its_level() -> None:
    objective = Flow(level_weight=BellWeight(factor=5.0))
    shown = shown_by(objective, torch.zeros(3, 2, 2), seeded())
    losses = objective.loss(shown.target + 1.0, shown, torch.ones(3, 2, dtype=torch.bool))
    torch.testing.assert_close(losses, BellWeight(factor=5.0).at(shown.level[:, 0]))
    each = shown_by(objective, torch.zeros(3, 2, 2), seeded(), num=2)
    losses = objective.loss(each.target + 1.0, each, torch.ones(3, 2, dtype=torch.bool))
    torch.testing.assert_close(losses, BellWeight(factor=5.0).at(each.level).mean(dim=1))


def test_regression_shows_queries_without_a_trace_of_the_target() -> None:
    shown = shown_by(Regress(), torch.full((1, 3, 2), 7.0), seeded())
    assert not shown.latent.any()
    assert not shown.level.any()
    wrong = shown.target + 2.0
    valid = torch.ones(1, 3, dtype=torch.bool)
    assert Regress(error="absolute").loss(wrong, shown, valid).item() == 2.0
    assert Regress(error="squared").loss(wrong, shown, valid).item() == 4.0


def test_next_token_reads_what_came_before_and_owes_what_comes() -> None:
    objective = TokenCE(start_token=1, end_token=2)
    target = torch.tensor([[5, 6, 2], [7, 2, 0]])
    shown = shown_by(objective, target, seeded())
    assert shown.latent.tolist() == [[1, 5, 6], [1, 7, 2]]
    scores = torch.zeros(2, 3, 9)
    scores[0].scatter_(1, target[0, :, None], 50.0)
    valid = torch.tensor([[True, True, True], [True, True, False]])
    losses = objective.loss(scores, shown, valid)
    assert losses[0].item() == pytest.approx(0.0, abs=1e-6)
    assert losses[1].item() == pytest.approx(math.log(9), abs=1e-6)


def test_delays_give_the_first_tokens_clean_as_often_as_they_say_and_those_owe_nothing() -> None:
    clean = torch.randn(600, 6, 3, generator=seeded())
    flow = Flow(delays=(1.0, 0.0, 2.0, 1.0))
    shown = shown_by(flow, clean, seeded(1))
    given = shown.level == 0
    delay = given.sum(dim=1)
    assert torch.equal(given, torch.arange(6) < delay[:, None])  # the first ones, and no others
    assert torch.equal(shown.latent[given], clean[given])
    shares = delay.bincount(minlength=4) / 600
    torch.testing.assert_close(shares, torch.tensor([0.25, 0.0, 0.5, 0.25]), rtol=0, atol=0.05)
    valid = torch.ones(600, 6, dtype=torch.bool)
    right = torch.where(given[..., None], shown.target + 9, shown.target)
    assert not flow.loss(right, shown, valid).any()
    wrong = flow.loss(shown.target + 1, shown, valid)
    torch.testing.assert_close(wrong, torch.ones(600))  # the mean over what is owed, however much that is


def test_without_delays_a_flow_draws_what_it_drew_before_there_were_any() -> None:
    clean = torch.randn(3, 6, 2, generator=seeded())
    plain, none = (shown_by(Flow(delays=delays), clean, seeded(1)) for delays in ((), (1.0,)))
    assert plain.level.shape == (3, 1)
    assert torch.equal(plain.latent, none.latent)


@pytest.mark.parametrize("delays", [(0.0, 0.0), (1.0, -0.5)])
def test_delays_that_are_no_shares_are_refused(delays: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match=r"Flow\.delays"):
        Flow(delays=delays)


def test_a_binary_number_is_learned_by_cross_entropy_beside_the_others() -> None:
    objective = Regress(error="smooth", binary=1, binary_weight=0.5)
    owed = objective.corrupt(torch.tensor([[[0.0, 3.0, 1.0]]]), torch.zeros(1, 1), seeded())
    output = torch.tensor([[[0.5, 0.0, 0.0]]], requires_grad=True)
    loss = objective.loss(output, owed, torch.tensor([[True]]))
    assert loss.item() == pytest.approx((0.125 + 2.5) / 2 + 0.5 * math.log(2))
    loss.sum().backward()
    assert output.grad is not None
    assert output.grad[0, 0, 2].item() == pytest.approx(-0.25)  # towards "above zero"


def test_a_row_that_several_tokens_answer_counts_if_all_of_them_do() -> None:
    owed = Regress(error="squared").corrupt(torch.zeros(2, 2, 3), torch.zeros(2, 1), seeded())
    output = torch.tensor([1.0, 2.0]).reshape(1, 2, 1).expand(2, 2, 3)
    valid = torch.tensor([[True] * 4, [False, True, True, True]])
    assert Regress(error="squared").loss(output, owed, valid).tolist() == [2.5, 4.0]


def test_views_are_apart_by_the_mean_square_of_their_valid_states() -> None:
    prior, posterior = torch.zeros(1, 2, 3, 4), torch.tensor([1.0, 5.0]).reshape(1, 2, 1, 1).expand(1, 2, 3, 4)
    owed = Corrupted(latent=prior, level=torch.zeros(1, 1), target=posterior)
    assert Align(layers=(0, 1, 2)).loss(prior, owed, torch.tensor([[True, False]])).tolist() == [1.0]
    assert Align(layers=(0, 1, 2)).loss(prior, owed, torch.tensor([[True, True]])).tolist() == [13.0]


def test_what_a_flow_shows_may_be_cut_to_bounds_and_owes_the_same() -> None:
    clean = 3 * torch.randn(4, 5, 2, generator=seeded())
    whole, cut = (shown_by(Flow(clip=clip), clean, seeded(1)) for clip in (None, (-1.5, 1.0)))
    assert torch.equal(cut.latent, whole.latent.clamp(-1.5, 1.0))
    assert not torch.equal(cut.latent, whole.latent)
    assert torch.equal(cut.target, whole.target)


def test_levels_of_whole_steps_reach_clean_and_never_noise() -> None:
    drawn = StepLevels(num=4).draw(200, seeded())
    assert set(drawn.tolist()) == {0.0, 0.25, 0.5, 0.75}
