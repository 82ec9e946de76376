"""Looking after every episode costs nothing in false alarms, and what is settled is settled early."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from crossroads.errors import InputError
from crossroads.evaluate.sequential import anytime_p, compact_letters, difference_sequence, evidence, settled
from crossroads.evaluate.statistics import mcnemar_exact


def trials(
    rng: np.random.Generator, num: int, a: float, b: float, shared: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Success of two policies on the same scenes; ``shared`` of the scenes are decided by the scene alone."""
    luck = rng.random(num)
    own = [np.where(rng.random(num) < shared, luck, rng.random(num)) for _ in range(2)]
    return (own[0] < a).astype(int), (own[1] < b).astype(int)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_equal_policies_are_rarely_ever_called_different_though_every_trial_is_read(share: float) -> None:
    rng = np.random.default_rng(1)
    alarms = [anytime_p(*trials(rng, 300, share, share)).min() <= 0.05 for _ in range(2000)]
    assert np.mean(alarms) <= 0.05


def test_reading_mcnemar_after_every_trial_would_be_wrong_far_more_often() -> None:
    rng = np.random.default_rng(2)

    def ever(a: np.ndarray, b: np.ndarray) -> bool:
        first, second = np.cumsum(a & ~b & 1), np.cumsum(b & ~a & 1)
        return any(
            mcnemar_exact(0, int(x), int(y), 0) <= 0.05 for x, y in zip(first[10::5], second[10::5], strict=True)
        )

    assert np.mean([ever(*trials(rng, 200, 0.5, 0.5)) for _ in range(200)]) > 0.1


def test_the_evidence_is_a_fair_bet_under_the_null() -> None:
    """Its mean over all sequences of n fair coins is exactly 1."""
    for num in (1, 5, 12):
        heads = np.array([sum(flips) for flips in itertools.product((0, 1), repeat=num)])
        assert evidence(heads, num - heads).mean() == pytest.approx(1.0)


@pytest.mark.parametrize(("a", "b"), [(0.5, 0.5), (0.6, 0.4), (0.9, 0.8)])
def test_all_intervals_of_a_sequence_hold_at_once(a: float, b: float) -> None:
    rng = np.random.default_rng(3)
    held = [
        all(interval.contains(a - b) for interval in difference_sequence(*trials(rng, 100, a, b, shared=0.3)))
        for _ in range(250)
    ]
    assert np.mean(held) >= 0.95


def test_intervals_shrink_and_do_so_usefully() -> None:
    found = difference_sequence(*trials(np.random.default_rng(4), 1000, 0.7, 0.5))
    assert all(after.low >= before.low and after.high <= before.high for before, after in itertools.pairwise(found))
    assert found[-1].width < 0.3


def test_a_large_difference_is_settled_early_and_none_is_settled_as_equal_or_left_open() -> None:
    rng = np.random.default_rng(5)
    large = [settled(*trials(rng, 400, 0.8, 0.4), margin=0.05) for _ in range(50)]
    assert all(found.answer == "a" for found in large)
    assert np.median([found.trials for found in large]) < 80
    same = settled(*trials(rng, 300, 0.5, 0.5), margin=0.05)
    assert same.answer == "open"
    assert same.trials == 300
    twins = rng.random(3000) < 0.5
    assert settled(twins, twins, margin=0.05).answer == "equal"


def test_letters_are_shared_exactly_by_what_is_not_different() -> None:
    rng = np.random.default_rng(6)
    for _ in range(50):
        names = [f"arm{index}" for index in range(6)]
        means = {name: float(rng.random()) for name in names}
        pairs = [frozenset(pair) for pair in itertools.combinations(names, 2)]
        different = {pair for pair in pairs if rng.random() < 0.5}
        letters = compact_letters(means, different)
        for pair in pairs:
            first, second = pair
            assert bool(set(letters[first]) & set(letters[second])) == (pair not in different)
    assert compact_letters({"x": 0.9, "y": 0.5}, {frozenset("xy")}) == {"x": "a", "y": "b"}
    assert compact_letters({"x": 0.9, "y": 0.5}, set()) == {"x": "a", "y": "a"}


def test_bad_input_says_what_is_wrong() -> None:
    with pytest.raises(InputError, match="same length"):
        anytime_p(np.ones(3), np.ones(4))
    with pytest.raises(InputError, match="Name every"):
        compact_letters({"x": 1.0}, {frozenset(("x", "z"))})
