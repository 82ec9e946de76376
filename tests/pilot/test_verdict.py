"""The verdict speaks when it may, stays silent when it must, and is rarely wrong about equal recipes."""

from __future__ import annotations

import numpy as np
import pytest

from crossroads.errors import InputError
from crossroads.pilot.verdict import Rules, claimed, decide, without_closed_loop

RULES = Rules(vla="pi0", wams=("fast_wam", "fast_wam_idm", "fast_wam_joint"))
GOOD = {"pi0": np.ones((3, 10)) * 1.0, "fast_wam": np.ones((3, 10)) * 1.0}


def draw(
    rng: np.random.Generator, shares: dict[str, float], *, runs: int, scenes: int, run_std: float = 0.0
) -> dict[str, np.ndarray]:
    """Successes of arms that share the difficulty of each scene; runs of an arm differ by ``run_std``."""
    difficulty = 0.25 * np.tanh(rng.normal(size=(1, scenes)))
    arms = {}
    for name, share in shares.items():
        level = np.clip(share + run_std * rng.normal(size=(runs, 1)) + difficulty, 0, 1)
        arms[name] = (rng.random((runs, scenes)) < level).astype(float)
    return arms


def equal(share: float) -> dict[str, float]:
    return dict.fromkeys(("pi0", *RULES.wams), share)


@pytest.mark.parametrize(("runs", "scenes", "run_std", "share"), [(1, 150, 0.0, 0.6), (3, 80, 0.06, 0.6)])
def test_equal_recipes_get_a_winner_at_most_5_times_in_100(
    runs: int, scenes: int, run_std: float, share: float
) -> None:
    rng = np.random.default_rng(1)
    winners = []
    for _ in range(60):
        arms = draw(rng, equal(share), runs=runs, scenes=scenes, run_std=run_std)
        verdict = decide(arms=arms, oracle=GOOD, rules=RULES, at="25 labels")
        winners.append(verdict.status == "winner")
    assert np.mean(winners) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 60)


@pytest.mark.parametrize("better", ["pi0", "fast_wam_idm"])
def test_a_large_difference_finds_its_winner(better: str) -> None:
    arms = draw(np.random.default_rng(2), equal(0.45) | {better: 0.75}, runs=3, scenes=150, run_std=0.02)
    verdict = decide(arms=arms, oracle=GOOD, rules=RULES, at="25 labels")
    assert verdict.status == "winner"
    assert verdict.winning_arm == better
    assert verdict.winner == ("VLA" if better == "pi0" else "WAM")
    assert verdict.sentence.startswith(f"The {verdict.winner} wins at 25 labels")
    assert verdict.interval is not None
    assert not verdict.interval.contains(0.0)
    assert verdict.episodes_to_settle is None


def test_a_tie_is_inconclusive_and_says_what_would_settle_it() -> None:
    arms = draw(np.random.default_rng(3), equal(0.55), runs=3, scenes=100)
    verdict = decide(arms=arms, oracle=GOOD, rules=RULES, at="25 labels")
    assert verdict.status == "inconclusive"
    assert verdict.winner is None
    assert "would settle" in verdict.sentence or "needs" in verdict.sentence
    assert verdict.minimum_detectable_effect is not None
    assert 0.05 < verdict.minimum_detectable_effect < 0.4
    assert (verdict.episodes_to_settle or 0) > 300
    assert (verdict.runs_to_settle or 0) >= 3


def test_runs_that_differ_wildly_veto_what_mcnemar_alone_would_call() -> None:
    wam = np.repeat([[1.0], [0.0], [1.0]], 100, axis=1)
    vla = np.repeat([[0.0], [1.0], [0.0]], 100, axis=1)
    rules = Rules(vla="pi0", wams=("fast_wam",))
    verdict = decide(arms={"pi0": vla, "fast_wam": wam}, oracle=GOOD, rules=rules, at="all labels")
    assert verdict.comparisons[0].p_mcnemar < 1e-6
    assert verdict.status == "inconclusive"
    assert (verdict.runs_to_settle or 0) > 3  # no number of scenes repairs three runs that disagree


def test_below_the_floor_and_above_the_ceiling_there_is_no_verdict() -> None:
    rng = np.random.default_rng(4)
    arms = draw(rng, equal(0.2) | {"pi0": 0.6}, runs=3, scenes=100)
    low = {name: np.zeros((3, 10)) for name in arms}
    floor = decide(arms=arms, oracle=low, rules=RULES, at="25 labels")
    assert (floor.status, floor.winner) == ("no verdict", None)
    assert "floor of 60 %" in floor.sentence
    high = dict.fromkeys(arms, np.ones((3, 50)))
    ceiling = decide(arms=high, oracle=high, rules=RULES, at="all labels")
    assert ceiling.status == "no verdict"
    assert "above 95 %" in ceiling.sentence


def test_a_side_that_fails_with_all_labels_is_named() -> None:
    arms = draw(np.random.default_rng(5), equal(0.3) | {"fast_wam": 0.7}, runs=3, scenes=100)
    oracle = {"pi0": np.zeros((3, 10)), "fast_wam": np.ones((3, 10))}
    guard = decide(arms=arms, oracle=oracle, rules=RULES, at="25 labels").guards[0]
    assert guard.status == "caution"
    assert "the VLA stays below" in guard.note


def test_a_sign_that_turns_with_longer_training_leaves_the_verdict_inconclusive() -> None:
    rng = np.random.default_rng(6)
    arms = draw(rng, equal(0.45) | {"fast_wam": 0.75}, runs=3, scenes=150)
    turned = draw(rng, equal(0.8) | {"fast_wam": 0.6}, runs=3, scenes=150)
    assert decide(arms=arms, oracle=GOOD, rules=RULES, at="x", doubled=arms).status == "winner"
    verdict = decide(arms=arms, oracle=GOOD, rules=RULES, at="x", doubled=turned)
    assert (verdict.status, verdict.winner) == ("inconclusive", None)
    assert verdict.sentence.startswith("Inconclusive at x: the difference changes its sign")


def test_only_a_difference_that_would_be_claimed_is_trained_twice_as_long() -> None:
    rng = np.random.default_rng(6)
    far = draw(rng, equal(0.45) | {"fast_wam": 0.75}, runs=3, scenes=150)
    near = draw(rng, equal(0.5), runs=3, scenes=150)
    assert claimed(far, RULES) == "fast_wam"
    assert claimed(near, RULES) is None
    unchecked = decide(arms=far, oracle=GOOD, rules=RULES, at="x")
    assert next(g for g in unchecked.guards if g.name == "plateau").status == "not checked"
    open_ = decide(arms=near, oracle=GOOD, rules=RULES, at="x")
    assert next(g for g in open_.guards if g.name == "plateau").status == "pass"


def test_one_run_wins_only_with_a_caution() -> None:
    arms = draw(np.random.default_rng(7), equal(0.3) | {"fast_wam": 0.8}, runs=1, scenes=150)
    verdict = decide(arms=arms, oracle=GOOD, rules=RULES, at="25 labels")
    assert verdict.status == "winner"
    assert verdict.comparisons[0].p_over_runs is None
    assert "one run each" in verdict.sentence
    assert next(g for g in verdict.guards if g.name == "training runs").status == "caution"


def test_more_named_arms_make_the_same_numbers_weaker() -> None:
    rng = np.random.default_rng(8)
    arms = draw(rng, equal(0.5) | {"fast_wam": 0.6}, runs=1, scenes=200)
    alone = decide(arms=arms, oracle=GOOD, rules=Rules(vla="pi0", wams=("fast_wam",)), at="x")
    three = decide(arms=arms, oracle=GOOD, rules=RULES, at="x")
    p_alone, p_three = alone.comparisons[0].p_adjusted, three.comparisons[0].p_adjusted
    assert p_alone < p_three <= 3 * p_alone + 1e-12


def test_swapping_the_names_of_two_arms_mirrors_the_verdict() -> None:
    arms = draw(np.random.default_rng(9), {"x": 0.7, "y": 0.4}, runs=3, scenes=120, run_std=0.02)
    one = decide(arms=arms, oracle=arms | {"x": np.ones((1, 4))}, rules=Rules(vla="x", wams=("y",)), at="x")
    two = decide(arms=arms, oracle=arms | {"x": np.ones((1, 4))}, rules=Rules(vla="y", wams=("x",)), at="x")
    assert one.difference == pytest.approx(-(two.difference or 0))
    assert one.p_value == pytest.approx(two.p_value)
    assert (one.winner, two.winner) == ("VLA", "WAM")


def test_unpaired_or_unknown_arms_are_refused_and_no_simulator_means_no_verdict() -> None:
    arms = {"pi0": np.ones((3, 10)), "fast_wam": np.ones((3, 9))}
    with pytest.raises(InputError, match="same scenes"):
        decide(arms=arms, oracle=arms, rules=Rules(vla="pi0", wams=("fast_wam",)), at="x")
    with pytest.raises(InputError, match="Did you mean 'fast_wam'"):
        decide(arms=arms, oracle=arms, rules=Rules(vla="pi0", wams=("fastwam",)), at="x")
    assert without_closed_loop("this dataset has no simulator.").status == "no verdict"
