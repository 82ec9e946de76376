"""Latent plans: divergences against torch's, draws, and which side a balanced divergence moves."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Categorical, Normal, kl_divergence

from crossroads.errors import InputError
from crossroads.plans import KL, Categories, Gaussian
from crossroads.recipes.act import act
from crossroads.schedule import Predict
from crossroads.streams import Corrupted

GAUSSIAN, CATEGORIES = Gaussian(size=3), Categories(num=2, classes=3)
FAMILIES = pytest.mark.parametrize("family", [GAUSSIAN, CATEGORIES], ids=lambda family: type(family).__name__)


def told(family: Gaussian | Categories, seed: int, num: int = 4) -> torch.Tensor:
    return torch.randn(num, family.num_told, generator=torch.Generator().manual_seed(seed))


@FAMILIES
def test_divergence_is_torchs_and_zero_where_both_tell_the_same(family: Gaussian | Categories) -> None:
    one, other = told(family, 0), told(family, 1)
    if isinstance(family, Gaussian):
        parts = [part.chunk(2, dim=1) for part in (one, other)]
        normals = [Normal(mean, (log / 2).exp()) for mean, log in parts]
        expected = kl_divergence(*normals).sum(dim=1)
    else:
        expected = kl_divergence(*(Categorical(logits=p.reshape(4, 2, 3)) for p in (one, other))).sum(dim=1)
    torch.testing.assert_close(family.divergence(one, other), expected)
    torch.testing.assert_close(family.divergence(one, one), torch.zeros(4))


def test_a_gaussian_is_drawn_around_its_mean_by_its_deviation() -> None:
    noise = told(CATEGORIES, 2)[:, :3]
    mean, log = told(GAUSSIAN, 0).chunk(2, dim=1)
    expected = mean + (log / 2).exp() * noise
    torch.testing.assert_close(GAUSSIAN.drawn(torch.cat([mean, log], dim=1), noise), expected)
    assert torch.equal(GAUSSIAN.likeliest(torch.cat([mean, log], dim=1)), mean)


def test_categories_are_drawn_one_hot_as_often_as_they_are_told_and_pass_the_gradient_of_their_share() -> None:
    num, scores = 4000, torch.tensor([0.0, 1.0, -1.0, 2.0, 0.0, 0.0])
    noise = torch.randn(num, 6, generator=torch.Generator().manual_seed(0))
    plan = CATEGORIES.drawn(scores.expand(num, -1), noise)
    assert torch.equal(plan.reshape(num, 2, 3).sum(dim=-1), torch.ones(num, 2))
    shares = scores.reshape(2, 3).softmax(dim=-1).flatten()
    torch.testing.assert_close(plan.mean(dim=0), shares, atol=0.03, rtol=0)
    given, weight = scores[None].clone().requires_grad_(), torch.arange(6.0)
    (CATEGORIES.drawn(given, noise[:1]) * weight).sum().backward()
    soft = scores[None].clone().requires_grad_()
    (soft.reshape(2, 3).softmax(dim=-1).flatten() * weight).sum().backward()
    torch.testing.assert_close(given.grad, soft.grad)


def test_balance_shares_the_gradient_and_leaves_the_value() -> None:
    prior, posterior = told(CATEGORIES, 0), told(CATEGORIES, 1)
    found = {}
    for balance in (None, 0.8, 1.0):
        plan = KL(family=CATEGORIES, posterior="read", prior="guess", balance=balance)
        sides = [side.clone()[:, None].requires_grad_() for side in (prior, posterior)]
        owed = Corrupted(latent=torch.zeros(4, 1, 6), level=torch.zeros(4, 1), target=sides[1])
        loss = plan.loss(sides[0], owed, torch.ones(4, 1, dtype=torch.bool))
        loss.sum().backward()
        found[balance] = (loss.detach(), *(side.grad for side in sides))
    torch.testing.assert_close(found[0.8][0], found[None][0])
    torch.testing.assert_close(found[0.8][1], 0.8 * found[None][1])
    torch.testing.assert_close(found[0.8][2], 0.2 * found[None][2])
    assert found[1.0][2] is None or not found[1.0][2].any()


def test_a_plan_that_is_read_before_it_is_drawn_is_refused() -> None:
    with pytest.raises(InputError, match=r"Draw\(plan\) before plan is read"):
        act().vary({"stage.schedule": (Predict(streams=("action",)),)})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"posterior": "image"}, "a group in the posterior view"),
        ({"posterior": "style_action"}, "a codec that tells"),
        ({"family": GAUSSIAN}, "a codec that tells"),
        ({"balance": 0.8}, "beside a prior"),
    ],
)
def test_a_plan_that_nobody_can_tell_is_refused(change: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        act().vary({f"stage.streams.plan.objective.{name}": value for name, value in change.items()})
