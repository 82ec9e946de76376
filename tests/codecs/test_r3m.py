"""R3M's losses: what must hold whatever the vectors are."""

from __future__ import annotations

from itertools import repeat

import pytest
import torch

from crossroads.codecs.r3m import LanguageReward, R3mWeights, alike, r3m_losses, told_apart

NUM = 4


def losses(vectors: torch.Tensor, spoken: torch.Tensor, weights: R3mWeights) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    reward = LanguageReward(6, 3, 8)
    orders = repeat(torch.arange(NUM).roll(1))
    return dict(r3m_losses(vectors, torch.ones(NUM, 3), spoken, reward, weights, orders))


@pytest.mark.parametrize("distance", [True, False])
def test_clips_in_order_are_aligned_and_cost_less_than_clips_out_of_order(distance: bool) -> None:
    start = torch.randn(NUM, 6, generator=torch.Generator().manual_seed(1)) * 20
    steps = torch.tensor([0.0, 4.0, 1.0, 2.0, 3.0])
    ordered = start[:, None] + steps[None, :, None] * torch.eye(6)[0] * 5
    shuffled = ordered[:, [0, 1, 3, 2, 4]]
    spoken = torch.ones(NUM, dtype=torch.bool)
    weights = R3mWeights(distance=distance)
    one, other = (losses(vectors, spoken, weights) for vectors in (ordered, shuffled))
    assert one["aligned"] == 1
    assert other["aligned"] == 0
    assert one["tcnloss"] < other["tcnloss"]
    total = 1e-5 * (one["l2loss"] + one["l1loss"]) + one["rewloss"] + one["tcnloss"]
    torch.testing.assert_close(one["full_loss"], total)


def test_clips_without_words_teach_nothing_by_words() -> None:
    vectors = torch.randn(NUM, 5, 6, generator=torch.Generator().manual_seed(2))
    none, some, every = (torch.arange(NUM) < num for num in (0, 2, NUM))
    found = [losses(vectors, spoken, R3mWeights())["rewloss"] for spoken in (none, some, every)]
    assert found[0] == 0
    assert found[0] < found[1] < found[2]
    assert "rewloss" not in losses(vectors, every, R3mWeights(words=0.0))


def test_likeness_is_largest_with_itself_and_telling_apart_costs_nothing_without_rivals() -> None:
    vectors = torch.randn(NUM, 6, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(alike(vectors, vectors, distance=True), torch.zeros(NUM))
    torch.testing.assert_close(alike(vectors, 2 * vectors, distance=False), torch.ones(NUM))
    assert told_apart(torch.zeros(1), torch.full((1, 3), -40.0)).abs().item() < 1e-6
