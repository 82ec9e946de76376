"""An order of samples is a function of seed, epoch and step: complete, without repeats, the same for everybody."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossroads.data.order import Order, Share
from crossroads.errors import InputError


@settings(max_examples=40, deadline=None)
@given(num=st.integers(1, 700), seed=st.integers(0, 2**32), epoch=st.integers(0, 5))
def test_every_sample_is_seen_once_in_each_epoch(num: int, seed: int, epoch: int) -> None:
    seen = Order(num_samples=num, seed=seed).at(np.arange(epoch * num, (epoch + 1) * num))
    assert sorted(seen.tolist()) == list(range(num))


@settings(max_examples=25, deadline=None)
@given(
    num=st.integers(2, 300),
    batch=st.integers(1, 17),
    ranks=st.integers(1, 4),
    steps=st.integers(1, 12),
    data=st.data(),
)
def test_ranks_workers_and_continued_runs_see_what_one_process_would(
    num: int, batch: int, ranks: int, steps: int, data: st.DataObject
) -> None:
    order = Order(num_samples=num, seed=3)
    together = order.at(np.arange(steps * ranks * batch))
    parts = {
        (step, rank): order.at(Share(rank=rank, num_ranks=ranks).positions(step, batch))
        for step, rank in data.draw(st.permutations([(s, r) for s in range(steps) for r in range(ranks)]))
    }  # whoever computes a step, and whenever: a worker, another rank, a run that was continued at it
    joined = np.concatenate([parts[step, rank] for step in range(steps) for rank in range(ranks)])
    np.testing.assert_array_equal(joined, together)


def test_ranks_are_disjoint_within_an_epoch() -> None:
    order, seen = Order(num_samples=960, seed=0), []
    for rank in range(4):
        share = Share(rank=rank, num_ranks=4)
        seen.append({int(one) for step in range(15) for one in order.at(share.positions(step, 16))})
    assert sum(len(part) for part in seen) == len(set.union(*seen)) == 960


def test_epochs_and_seeds_differ_and_neighbours_are_spread() -> None:
    num = 5000
    first, second = (Order(num_samples=num, seed=0).at(np.arange(num) + num * epoch) for epoch in (0, 1))
    other = Order(num_samples=num, seed=1).at(np.arange(num))
    for one, two in ((first, second), (first, other), (first, np.arange(num))):
        assert abs(np.corrcoef(one, two)[0, 1]) < 0.05
    assert abs(np.abs(np.diff(first)).mean() / (num / 3) - 1) < 0.05, "the mean distance of two random places is n/3"


def test_a_billion_samples_need_no_memory() -> None:
    seen = Order(num_samples=10**12, seed=0).at(np.arange(64) + 10**11)
    assert len(set(seen.tolist())) == 64
    assert seen.max() < 10**12


def test_nothing_and_a_rank_that_does_not_exist_are_refused() -> None:
    with pytest.raises(InputError, match="at least one sample"):
        Order(num_samples=0, seed=0)
    with pytest.raises(InputError, match="a rank from 0 to 1"):
        Share(rank=2, num_ranks=2)
