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
from crossroads.evaluate.statistics import (
    Interval,
    paired_counts,
    paired_difference,
    success_interval,
    sum_over_runs,
    wilson,
)


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A share of trials with its interval: Wilson's for one policy, over training runs and scenes for several."""

    successes: int
    trials: int
    interval: Interval

    @property
    def share(self) -> float:
        return self.successes / self.trials


def rate(outcomes: Sequence[bool]) -> Rate | None:
    """The share of true outcomes of *one* policy (independent trials); None where there is no trial."""
    if not outcomes:
        return None
    successes = int(sum(outcomes))
    return Rate(successes=successes, trials=len(outcomes), interval=wilson(successes, len(outcomes)))


def rate_over_runs(records: Sequence[EpisodeRecord], outcome: Callable[[EpisodeRecord], bool]) -> Rate | None:
    """The share of records with this outcome and its interval over training runs and trials (``success_interval``).

    Every run must have as many of these trials; pooling three runs that differ by 0.1 as if trials were independent
    covers 70 % instead of 95 % with 60 scenes, 35 % with 400 (benchmarks/coverage.py).
    """
    if not records:
        return None
    by_run = _by_run("rate_over_runs", records, [float(outcome(record)) for record in records])
    return Rate(successes=int(by_run.sum()), trials=by_run.size, interval=success_interval(by_run))


def _by_run(where: str, records: Sequence[EpisodeRecord], values: Sequence[float]) -> np.ndarray:
    """Values as training runs x trials, the trials of every run in the order of their scenes."""
    runs: dict[tuple[str, str, int], list[tuple[int, bool, float]]] = {}
    for record, value in zip(records, values, strict=True):
        key = (record.arm, record.cell, record.training_seed)
        runs.setdefault(key, []).append((record.seed, record.swapped, value))
    if len({len(trials) for trials in runs.values()}) != 1:
        raise InputError(
            where=where,
            expected="the same number of trials of every training run",
            got=", ".join(f"{len(trials)} of {arm} seed {seed}" for (arm, _, seed), trials in runs.items()),
            do="Evaluate every training run on the same scenes; ask for one arm at a time.",
        )
    ordered = [sorted(trials, key=lambda trial: trial[:2]) for trials in runs.values()]
    return np.array([[value for *_, value in trials] for trials in ordered])


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
        success=rate_over_runs(usual, lambda r: r.success),
        instructed_success=rate_over_runs([r for r in usual if _named(r)], lambda r: r.success and _followed(r)),
        wrong_object=rate_over_runs(naming, lambda r: bool(r.touched) and not _followed(r)),
        following=rate_over_runs(naming, _followed),
        following_chance=sum(1 / r.num_objects for r in naming) / len(naming) if naming else None,
        swap_score=rate_over_runs(swapped, lambda r: r.success),
        habit=rate_over_runs(swapped, lambda r: r.old_goal_achieved),
        instruction_advantage=_advantage(usual, swapped),
    )


def _advantage(usual: Sequence[EpisodeRecord], swapped: Sequence[EpisodeRecord]) -> Advantage | None:
    """Pair each swapped trial with the usual trial of the same policy in the same scene.

    The benchmarks page draws the second instruction from all valid ones; we draw from the *other* valid ones, so that
    the value does not shrink with the number of instructions that a scene admits.
    """
    told = {(r.arm, r.cell, r.training_seed, r.seed): r.success for r in usual}
    paired = [r for r in swapped if (r.arm, r.cell, r.training_seed, r.seed) in told]
    if not paired:
        return None
    spoken = [float(told[r.arm, r.cell, r.training_seed, r.seed]) for r in paired]
    by_run = [_by_run("grounding", paired, x) for x in (spoken, [float(r.old_goal_achieved) for r in paired])]
    if by_run[0].shape[0] > 1 and by_run[0].shape[1] > 1:
        found = sum_over_runs([by_run[0] - by_run[1]])
        return Advantage(difference=found.difference, interval=found.interval.within(-1, 1), pairs=len(paired))
    counts = paired_counts(*by_run)
    return Advantage(difference=counts.difference, interval=paired_difference(counts), pairs=len(paired))


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
