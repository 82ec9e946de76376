"""Does the policy obey the words? Success alone hides it where a scene has one usual instruction.

Closed loop, from episode records: success on the named object, wrong-object rate, following rate, and swapped trials
(the same scene told another of its valid instructions). Definitions follow LIBERO-CF (arXiv 2602.17659: following apart
from success, counterfactual instructions) and LangGap (arXiv 2603.00592); where a term has no fixed meaning the
docstring of the field states ours. The offline probe, which needs no robot, is in ``swap_probe.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from crossroads.errors import InputError
from crossroads.evaluate.records import EpisodeRecord
from crossroads.evaluate.statistics import Interval, paired_counts, paired_difference, wilson


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A share of trials with its Wilson interval (trials pooled over training runs)."""

    successes: int
    trials: int
    interval: Interval

    @property
    def share(self) -> float:
        return self.successes / self.trials


def rate(outcomes: Sequence[bool]) -> Rate | None:
    """The share of true outcomes; None where there is no trial."""
    if not outcomes:
        return None
    successes = int(sum(outcomes))
    return Rate(successes=successes, trials=len(outcomes), interval=wilson(successes, len(outcomes)))


@dataclass(frozen=True, kw_only=True)
class Advantage:
    """Success under the spoken instruction minus success on the *same goal* when another valid one is spoken."""

    difference: float
    interval: Interval
    pairs: int


@dataclass(frozen=True, kw_only=True)
class Grounding:
    """What one set of episodes says about obedience; a field is None where no trial could show it."""

    success: Rate | None
    """Unswapped trials in which the named goal was achieved."""
    instructed_success: Rate | None
    """Unswapped trials naming an object: goal achieved *and* no other object touched before the named one."""
    wrong_object: Rate | None
    """Trials naming an object (swapped or not) in which the first object touched is another one."""
    following: Rate | None
    """Trials naming an object (swapped or not) in which the first object touched is the named one."""
    following_chance: float | None
    """What touching any object at random would give: the mean of 1 / objects in the scene."""
    swap_score: Rate | None
    """Swapped trials in which the *new* instruction is achieved."""
    habit: Rate | None
    """Swapped trials in which the goal of the instruction that was not spoken is achieved (stickiness)."""
    instruction_advantage: Advantage | None
    """Zero means that the words change nothing."""


def _named(record: EpisodeRecord) -> bool:
    return record.named_object != ""


def _followed(record: EpisodeRecord) -> bool:
    return record.touched[:1] == (record.named_object,)


def grounding(records: Sequence[EpisodeRecord]) -> Grounding:
    """All grounding figures of a set of episodes (usually one arm, one cell)."""
    usual = [r for r in records if not r.swapped]
    swapped = [r for r in records if r.swapped]
    naming = [r for r in records if _named(r)]
    return Grounding(
        success=rate([r.success for r in usual]),
        instructed_success=rate([r.success and _followed(r) for r in usual if _named(r)]),
        wrong_object=rate([bool(r.touched) and not _followed(r) for r in naming]),
        following=rate([_followed(r) for r in naming]),
        following_chance=sum(1 / r.num_objects for r in naming) / len(naming) if naming else None,
        swap_score=rate([r.success for r in swapped]),
        habit=rate([r.old_goal_achieved for r in swapped]),
        instruction_advantage=_advantage(usual, swapped),
    )


def _advantage(usual: Sequence[EpisodeRecord], swapped: Sequence[EpisodeRecord]) -> Advantage | None:
    """Pair each swapped trial with the usual trial of the same policy in the same scene.

    The benchmarks page draws the second instruction from all valid ones; we draw from the *other* valid ones, so that
    the value does not shrink with the number of instructions that a scene admits.
    """
    told = {(r.arm, r.cell, r.training_seed, r.seed): r.success for r in usual}
    pairs = [
        (told[key], r.old_goal_achieved) for r in swapped if (key := (r.arm, r.cell, r.training_seed, r.seed)) in told
    ]
    if not pairs:
        return None
    counts = paired_counts(np.array([spoken for spoken, _ in pairs]), np.array([unspoken for _, unspoken in pairs]))
    return Advantage(difference=counts.difference, interval=paired_difference(counts), pairs=len(pairs))


def grounding_by(records: Sequence[EpisodeRecord], key: Callable[[EpisodeRecord], str]) -> dict[str, Grounding]:
    """Grounding figures per group, for instance ``grounding_by(records, lambda r: r.family)``, in sorted order."""
    groups: dict[str, list[EpisodeRecord]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return {name: grounding(groups[name]) for name in sorted(groups)}


NOTHING = "nothing"
"""The row of the grounding matrix for trials in which no goal of the scene was achieved."""


@dataclass(frozen=True, kw_only=True)
class GroundingMatrix:
    """``share[i][j]``: told ``told[j]``, achieved ``achieved[i]``. A strong row is a habit; the diagonal is success."""

    told: tuple[str, ...]
    achieved: tuple[str, ...]
    share: tuple[tuple[float, ...], ...]
    trials: tuple[int, ...]


def grounding_matrix(
    records: Sequence[EpisodeRecord],
    *,
    told: Callable[[EpisodeRecord], str] = lambda record: record.goal,
    achieved: Callable[[str], str] = lambda goal: goal,
) -> GroundingMatrix:
    """How often each goal came about under each instruction; ``achieved`` may map goals to coarser names (families).

    A trial that achieves several goals counts in several rows; one that achieves none counts under ``nothing``.
    """
    if not records:
        raise InputError(
            where="grounding_matrix",
            expected="at least one episode record",
            got="none",
            do="Evaluate a cell before asking for its matrix.",
        )
    columns = tuple(sorted({told(r) for r in records}))
    rows_of = [{achieved(goal) for goal in r.achieved} or {NOTHING} for r in records]
    others = {row for rows in rows_of for row in rows} - set(columns) - {NOTHING}
    rows = (*columns, *sorted(others), NOTHING)
    trials = tuple(sum(told(r) == column for r in records) for column in columns)
    counts = {(row, column): 0 for row in rows for column in columns}
    for record, achieved_rows in zip(records, rows_of, strict=True):
        for row in achieved_rows:
            counts[row, told(record)] += 1
    share = tuple(tuple(counts[row, c] / n for c, n in zip(columns, trials, strict=True)) for row in rows)
    return GroundingMatrix(told=columns, achieved=rows, share=share, trials=trials)
