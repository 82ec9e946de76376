"""Grounding figures separate an obedient policy from a habitual and a random one, by construction of such policies."""

from __future__ import annotations

import dataclasses
import random

import pytest

from crossroads.errors import InputError
from crossroads.evaluate.grounding import NOTHING, grounding, grounding_by, grounding_matrix, rate, rate_over_runs
from crossroads.evaluate.records import EpisodeRecord

OBJECTS = ("red cube", "blue ball", "green can", "yellow cube")


def episode(seed: int, named: str, touched: tuple[str, ...], *, usual: str, swapped: bool) -> EpisodeRecord:
    """A reach task: the goal is the first touched object."""
    achieved = tuple(f"reach {name}" for name in touched[:1])
    return EpisodeRecord(
        arm="arm",
        cell="cell",
        training_seed=0,
        seed=seed,
        family="reach" if seed % 2 else "push",
        text=f"go to the {named}",
        goal=f"reach {named}",
        named_object=named,
        num_objects=4,
        swapped=swapped,
        success=f"reach {named}" in achieved,
        touched=touched,
        achieved=achieved,
        old_goal_achieved=swapped and f"reach {usual}" in achieved,
        num_steps=10,
        latencies_s=(0.01,),
    )


def run(policy: str, num: int = 200) -> list[EpisodeRecord]:
    chooser = random.Random(0)
    records = []
    for seed in range(num):
        usual, other = chooser.sample(OBJECTS, 2)
        for named, swapped in ((usual, False), (other, True)):
            choice = {"obeys": named, "habit": usual, "random": chooser.choice(OBJECTS)}.get(policy)
            touched = () if choice is None else (choice,)
            records.append(episode(seed, named, touched, usual=usual, swapped=swapped))
    return records


def test_an_obedient_policy_has_all_and_no_habit() -> None:
    found = grounding(run("obeys"))
    assert found.swap_score is not None
    assert found.habit is not None
    assert found.instruction_advantage is not None
    assert (found.swap_score.share, found.habit.share) == (1.0, 0.0)
    assert found.instruction_advantage.difference == 1.0
    assert found.following is not None
    assert found.following.share == 1.0


def test_a_habitual_policy_looks_perfect_until_the_words_are_swapped() -> None:
    found = grounding(run("habit"))
    assert found.success is not None
    assert found.swap_score is not None
    assert found.habit is not None
    assert found.instruction_advantage is not None
    assert found.success.share == 1.0
    assert (found.swap_score.share, found.habit.share) == (0.0, 1.0)
    assert found.instruction_advantage.difference == 0.0
    assert found.instruction_advantage.interval.contains(0.0)


def test_a_random_policy_follows_at_chance_and_gains_nothing_from_words() -> None:
    found = grounding(run("random", 1000))
    assert found.following is not None
    assert found.following_chance == pytest.approx(0.25)
    assert found.following.share == pytest.approx(0.25, abs=0.04)
    assert found.instruction_advantage is not None
    assert abs(found.instruction_advantage.difference) < 0.07
    assert found.instruction_advantage.pairs == 1000


def test_following_wrong_and_untouched_are_all_there_is() -> None:
    records = run("random", 50) + run("idle", 50)
    found = grounding(records)
    assert found.following is not None
    assert found.wrong_object is not None
    untouched = sum(not r.touched for r in records)
    assert found.following.successes + found.wrong_object.successes + untouched == len(records)


def test_success_after_touching_another_object_first_is_not_instructed_success() -> None:
    clean = episode(1, "red cube", ("red cube", "blue ball"), usual="red cube", swapped=False)
    lucky = dataclasses.replace(clean, seed=2, touched=("blue ball", "red cube"))
    found = grounding([clean, lucky])
    assert found.success is not None
    assert found.instructed_success is not None
    assert found.wrong_object is not None
    assert (found.success.share, found.instructed_success.share, found.wrong_object.share) == (1.0, 0.5, 0.5)


def test_without_trials_a_figure_is_absent_and_not_zero() -> None:
    plain = [dataclasses.replace(r, named_object="", touched=()) for r in run("obeys", 5) if not r.swapped]
    found = grounding(plain)
    assert found.success is not None
    assert found.following is None
    assert found.swap_score is None
    assert found.instruction_advantage is None
    assert rate([]) is None


def test_the_matrix_shows_success_on_the_diagonal_and_columns_account_for_every_trial() -> None:
    matrix = grounding_matrix(run("habit"))
    assert matrix.achieved[-1] == NOTHING
    for column in range(len(matrix.told)):
        assert sum(row[column] for row in matrix.share) == pytest.approx(1.0)
    obeying = grounding_matrix(run("obeys"))
    assert all(obeying.share[i][i] == 1.0 for i in range(len(obeying.told)))
    assert grounding_matrix(run("idle")).share[-1] == (1.0,) * 4
    with pytest.raises(InputError, match="at least one"):
        grounding_matrix([])


def test_families_split_the_episodes_without_losing_any() -> None:
    records = run("random", 31)
    groups = grounding_by(records, lambda record: record.family)
    assert list(groups) == ["push", "reach"]
    assert sum(group.success.trials for group in groups.values() if group.success) == 31


def test_training_runs_that_differ_widen_every_interval_and_must_meet_the_same_trials() -> None:
    obeying, habitual = run("obeys", 40), [dataclasses.replace(r, training_seed=1) for r in run("habit", 40)]
    alike = [dataclasses.replace(r, training_seed=1) for r in run("obeys", 40)]
    torn, sure = grounding([*obeying, *habitual]), grounding([*obeying, *alike])
    assert torn.swap_score is not None
    assert sure.swap_score is not None
    assert torn.swap_score.share == 0.5
    assert torn.swap_score.interval.width > 0.9  # one run always, the other never
    assert sure.swap_score.interval.width < 0.1
    assert torn.instruction_advantage is not None
    assert torn.instruction_advantage.interval.contains(0.0)
    assert torn.instruction_advantage.interval.contains(1.0)
    with pytest.raises(InputError, match="same scenes"):
        rate_over_runs([*obeying, *habitual[:-1]], lambda record: record.success)
