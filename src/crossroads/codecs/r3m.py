"""What R3M's picture vectors are learned by: time, words and smallness (Nair et al. 2022, arXiv 2203.12601; MIT).

Of each clip five pictures are encoded: its first, its last, and three in order of time. Vectors near in time must be
alike (time-contrastive), a network must tell from the first picture, a later one and the words how far the task is
done, and vectors must be short and sparse. Other clips of the batch, in a drawn order, are the negatives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

EPSILON = 1e-8
"""Inside logarithms and below fractions, as published."""


@dataclass(frozen=True, kw_only=True)
class R3mWeights:
    """What each part of the loss counts; ``distance``: pictures are alike by their negative distance, else by the
    cosine between them; ``num_negatives``: other clips that each is told from."""

    short: float = 1e-5
    sparse: float = 1e-5
    words: float = 1.0
    time: float = 1.0
    distance: bool = True
    num_negatives: int = 3


class LanguageReward(nn.Module):
    """How far a task is done, told by five linear maps from the first picture, a later one and the words."""

    def __init__(self, picture_width: int, words_width: int, hidden: int) -> None:
        super().__init__()
        sizes = (2 * picture_width + words_width, *(hidden,) * 4)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.pred = nn.Sequential(*layers, nn.Linear(hidden, 1))

    def forward(
        self, first: Float[Tensor, "b d"], later: Float[Tensor, "b d"], words: Float[Tensor, "b l"]
    ) -> Float[Tensor, " b"]:
        return self.pred(torch.cat([first, later, words], dim=-1)).squeeze(-1)


def alike(one: Float[Tensor, "b d"], other: Float[Tensor, "b d"], *, distance: bool) -> Float[Tensor, " b"]:
    """The negative distance of two vectors, or the cosine between them."""
    return -(one - other).norm(dim=-1) if distance else functional.cosine_similarity(one, other, dim=-1)


def told_apart(right: Float[Tensor, " b"], wrong: Float[Tensor, "b m"]) -> Float[Tensor, " b"]:
    """``-log(exp(right) / (exp(right) + sum exp(wrong)))``, with the published epsilons."""
    found = right.exp()
    return -(EPSILON + found / (EPSILON + found + wrong.exp().sum(dim=-1))).log()


def r3m_losses(
    vectors: Float[Tensor, "b 5 d"],
    words: Float[Tensor, "b l"],
    spoken: Bool[Tensor, " b"],
    reward: LanguageReward,
    weights: R3mWeights,
    orders: Iterator[Int[Tensor, " b"]],
) -> Mapping[str, Tensor]:
    """All parts and measures of the loss of one batch of clips.

    ``vectors``: of the first picture, the last and three in between; ``spoken``: which clips have words; ``orders``:
    drawn orders of the batch, as many as ``6 + 3 * num_negatives``-odd negatives need, consumed one by one.
    """
    found = {f"l{power}loss": vectors.norm(p=power, dim=-1).mean() for power in (0, 1, 2)}
    found |= _by_words(vectors, words, spoken, reward, weights, orders) if weights.words > 0 else {}
    found |= _by_time(vectors, weights, orders) if weights.time > 0 else {}
    counted = {"l2loss": weights.short, "l1loss": weights.sparse, "rewloss": weights.words, "tcnloss": weights.time}
    total = sum(weight * found[name] for name, weight in counted.items() if name in found)
    return {**found, "full_loss": torch.as_tensor(total)}


def _by_words(
    vectors: Tensor,
    words: Tensor,
    spoken: Tensor,
    reward: LanguageReward,
    weights: R3mWeights,
    orders: Iterator[Tensor],
) -> dict[str, Tensor]:
    """Later pictures of a clip are further than earlier ones of it, and than those of other clips, by its own words.

    A clip without words counts in the mean with a loss of zero.
    """
    first, last, *between = vectors.unbind(dim=1)
    reached = {"1": (last, first), "2": (between[1], between[0]), "3": (between[2], between[1])}
    right = {name: reward(first, later, words) for name, (later, _) in reached.items()}
    wrong = {name: [reward(first, earlier, words)] for name, (_, earlier) in reached.items()}
    for _ in range(weights.num_negatives):
        for name, (later, _) in reached.items():
            order = next(orders)
            wrong[name].append(reward(first[order], later[order], words))
    against = {name: torch.stack(found, dim=-1) for name, found in wrong.items()}
    losses = torch.stack([told_apart(right[name], against[name]) for name in reached]).mean(dim=0)
    best = {f"rewacc{name}": (against[name].amax(dim=-1) < right[name]).float().mean() for name in reached}
    return {"rewloss": (losses * spoken).mean(), **best}


def _by_time(vectors: Tensor, weights: R3mWeights, orders: Iterator[Tensor]) -> dict[str, Tensor]:
    """Of three pictures in order of time, neighbours are more alike than the ends, and than those of other clips."""
    _, _, early, middle, late = vectors.unbind(dim=1)

    def same(one: Tensor, other: Tensor) -> Tensor:
        return alike(one, other, distance=weights.distance)

    ends, end, start = same(late, early), same(late, middle), same(middle, early)
    others: list[tuple[Tensor, Tensor]] = []
    for _ in range(weights.num_negatives):
        early_of, late_of = next(orders), next(orders)
        others.append((same(early, early[early_of]), same(late, late[late_of])))
    by_early, by_late = (torch.stack(found, dim=-1) for found in zip(*others, strict=True))
    losses = told_apart(end, torch.cat([ends[:, None], by_late], dim=-1))
    losses = losses + told_apart(start, torch.cat([ends[:, None], by_early], dim=-1))
    aligned = ((ends < end) & (start > ends)).float().mean()
    return {"tcnloss": losses.mean() / 2, "aligned": aligned}
