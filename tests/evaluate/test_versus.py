"""Comparisons with the first arm: right by construction, corrected, and honest about having looked early."""

from __future__ import annotations

import numpy as np
import pytest

from crossroads.errors import InputError
from crossroads.evaluate.statistics import mcnemar_exact
from crossroads.evaluate.versus import Stopping, compare_anytime, compare_fixed, letters


def arms(num: int, seed: int, **shares: float) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.random(num) < share for name, share in shares.items()}


def test_a_better_and_a_worse_arm_are_called_so_and_p_is_exact_mcnemar_with_holm() -> None:
    found = compare_fixed(arms(200, 7, first=0.5, high=0.8, low=0.2, same=0.5))
    assert [pair.answer for pair in found] == ["better", "worse", "open"]
    for pair in found:
        counts = pair.counts
        assert pair.p_value == mcnemar_exact(counts.both, counts.only_a, counts.only_b, counts.neither)
        assert pair.p_value <= pair.p_adjusted
        assert pair.interval.contains(counts.difference)
        assert pair.settled_after is None
    assert max(pair.p_adjusted for pair in found) == max(pair.p_value for pair in found)
    assert min(pair.p_adjusted for pair in found) == pytest.approx(3 * min(pair.p_value for pair in found))


def test_the_correction_keeps_false_answers_rare_among_many_equal_arms() -> None:
    false = [
        any(pair.answer != "open" for pair in compare_fixed(arms(60, seed, **dict.fromkeys("abcdef", 0.5))))
        for seed in range(60)
    ]
    assert np.mean(false) <= 0.05


def test_stopping_at_the_first_answer_keeps_false_answers_rare() -> None:
    """Answers stay once given (below), so the last look tells whether any earlier one would have ended evaluation."""

    def ever(seed: int) -> bool:
        found = compare_anytime(arms(100, seed, a=0.5, b=0.5, c=0.5, d=0.5), Stopping(margin=0.1))
        return any(pair.answer in ("better", "worse") for pair in found)

    assert np.mean([ever(seed) for seed in range(40)]) <= 0.05


def test_an_answer_once_given_stays_and_says_when_it_came() -> None:
    successes = arms(200, 1, first=0.3, high=0.9, same=0.3)
    stopping = Stopping(margin=0.1)
    early = {pair.arm: pair for pair in compare_anytime({n: v[:60] for n, v in successes.items()}, stopping)}
    late = {pair.arm: pair for pair in compare_anytime(successes, stopping)}
    assert early["high"].answer == late["high"].answer == "better"
    assert early["high"].settled_after == late["high"].settled_after
    assert early["same"].answer == "open"
    assert early["same"].settled_after is None
    assert early["high"].p_adjusted <= 0.05, "an answer and its corrected p agree"


def test_equal_is_only_said_within_the_margin() -> None:
    twin = np.random.default_rng(2).random(300) < 0.5
    wide = compare_anytime({"first": twin, "other": twin}, Stopping(margin=0.1))[0]
    assert wide.answer == "equal"
    assert -0.1 < wide.interval.low < wide.interval.high < 0.1
    assert compare_anytime({"first": twin, "other": twin}, Stopping(margin=0.01))[0].answer == "open"


def test_alpha_is_split_over_the_pairs() -> None:
    successes = arms(40, 3, first=0.25, second=0.75)
    alone = compare_anytime(successes, Stopping(margin=0.1))[0]
    crowd = compare_anytime(
        {**successes, **{f"copy {i}": successes["first"] for i in range(30)}}, Stopping(margin=0.1)
    )[0]
    assert alone.answer == "better"
    assert crowd.settled_after is None or crowd.settled_after > (alone.settled_after or 0)
    assert crowd.interval.width > alone.interval.width


@pytest.mark.parametrize("anytime", [False, True])
def test_letters_cover_all_pairs_and_the_best_arm_has_the_first(anytime: bool) -> None:
    found = letters(arms(150, 4, low=0.1, high=0.9, middle=0.5), anytime=anytime)
    assert found == {"high": "a", "middle": "b", "low": "c"}
    twins = arms(30, 5, one=0.5, other=0.5)
    assert set(letters(twins, anytime=anytime).values()) == {"a"}


def test_one_arm_alone_cannot_be_compared() -> None:
    with pytest.raises(InputError, match="at least two arms"):
        compare_fixed({"only": np.ones(3)})
