"""The offline probe tells policies that read the words from policies that do not, without any robot."""

from __future__ import annotations

import numpy as np
import pytest

from crossroads.errors import InputError
from crossroads.evaluate.swap_probe import Targets, swap_probe

STATES, DRAWS, STEPS = 60, 3, 8


def world(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str], np.ndarray]:
    """Hand, old target, new target, task names, and noise shared by all instructions."""
    rng = np.random.default_rng(seed)
    hand, old, new = rng.normal(size=(3, STATES, 2))
    noise = 0.02 * rng.normal(size=(STATES, DRAWS, STEPS, 3))
    return hand, old, new, [f"task {i % 5}" for i in range(STATES)], noise


def towards(hand: np.ndarray, target: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Chunks that go straight to the target; the third dimension is the jaw."""
    steps = np.repeat(((target - hand) / STEPS)[:, None, None, :], STEPS, axis=2)
    return np.concatenate([steps.repeat(DRAWS, axis=1), np.ones((STATES, DRAWS, STEPS, 1))], axis=-1) + noise


def probe(other_target: str, paraphrase_shift: float = 0.0):
    hand, old, new, tasks, noise = world()
    chosen = {"new": new, "old": old, "away": 2 * hand - new}[other_target]
    correct = towards(hand, old, noise)
    chunks = {"correct": correct, "other": towards(hand, chosen, noise), "paraphrase": correct + paraphrase_shift}
    return swap_probe(chunks, tasks=tasks, scale=np.ones(3), targets=Targets(hand=hand, new=new, motion=(0, 1)))


def test_a_policy_that_reads_turns_to_the_new_target_by_their_distance() -> None:
    found = probe("new")
    assert found.turned is not None
    assert found.turned.share > 0.95
    other, paraphrase = found.shifts
    assert other.relative == pytest.approx(
        0.5**0.5, abs=0.07
    )  # two targets differ by 2 units of variance, two ways by 4
    assert other.over_noise is not None
    assert other.over_noise > 3
    assert paraphrase.relative == 0.0


def test_a_policy_that_ignores_words_shifts_by_exactly_nothing() -> None:
    found = probe("old")
    assert found.shifts[0].relative == 0.0
    assert found.turned is not None
    assert found.turned.share == 0.0


def test_turning_away_is_not_turning_towards() -> None:
    found = probe("away")
    assert found.turned is not None
    assert found.turned.share < 0.1
    assert found.shifts[0].relative > 0.5


def test_units_do_not_matter_when_the_scale_follows() -> None:
    hand, old, new, tasks, noise = world()
    chunks = {"correct": towards(hand, old, noise), "other": towards(hand, new, noise)}
    factor = np.array([1000.0, 0.01, 3.0])
    plain = swap_probe(chunks, tasks=tasks, scale=np.ones(3), targets=None)
    scaled = swap_probe({k: v * factor for k, v in chunks.items()}, tasks=tasks, scale=factor, targets=None)
    assert scaled.shifts[0].relative == pytest.approx(plain.shifts[0].relative)
    assert plain.turned is None


def test_bad_input_is_named() -> None:
    hand, old, _, tasks, noise = world()
    correct = towards(hand, old, noise)
    with pytest.raises(InputError, match="Did you mean 'paraphrase'"):
        swap_probe({"correct": correct, "parafrase": correct}, tasks=tasks, scale=np.ones(3), targets=None)
    with pytest.raises(InputError, match="two different tasks"):
        swap_probe({"correct": correct}, tasks=["one"] * STATES, scale=np.ones(3), targets=None)
    with pytest.raises(InputError, match="same states"):
        swap_probe({"other": correct}, tasks=tasks, scale=np.ones(3), targets=None)
    with pytest.raises(InputError, match="never move"):
        swap_probe({"correct": correct}, tasks=tasks, scale=np.zeros(3), targets=None)
