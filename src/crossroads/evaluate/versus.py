"""Several trained policies on the same scenes: who is better than the first one, and may we stop?

With a number of scenes fixed beforehand: exact McNemar tests, Newcombe intervals, Holm's correction. Where evaluation
may end as soon as it is settled these would be wrong (they are valid at one look); then the anytime-valid test and
interval of ``sequential.py`` take their place, and alpha is split evenly over the pairs. All claims are about these
trained policies; that another training run could change them is the business of ``statistics.difference_over_runs``.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Shaped

from crossroads.errors import InputError
from crossroads.evaluate.sequential import Settled, anytime_p, compact_letters, difference_sequence, settled
from crossroads.evaluate.statistics import (
    Interval,
    PairedCounts,
    holm,
    mcnemar_exact,
    paired_counts,
    paired_difference,
)

Successes = Mapping[str, Shaped[np.ndarray, " scenes"]]
"""Success (0 or 1) of each arm on the same scenes, in the order in which they were run; the first arm leads."""


@dataclass(frozen=True, kw_only=True)
class Versus:
    """One arm against the first; differences are this arm minus the first."""

    arm: str
    first: str
    counts: PairedCounts
    """``a`` is this arm."""
    interval: Interval
    p_value: float
    p_adjusted: float
    """Holm over the pairs with the first arm."""
    answer: Literal["better", "worse", "equal", "open"]
    """Of this arm. ``equal`` (inside the margin on both sides) is only ever said when stopping early was allowed."""
    settled_after: int | None
    """Scenes after which the anytime-valid test had its answer; None while open, and with a fixed number of scenes."""


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """When evaluation may end early."""

    margin: float
    """The smallest difference of success that matters: inside it on both sides counts as equal."""
    alpha: float = 0.05
    """The chance that any of the pairs is called different though it is not; split evenly over them."""


def compare_fixed(successes: Successes, *, alpha: float = 0.05) -> tuple[Versus, ...]:
    """Every other arm against the first, after a number of scenes that was fixed beforehand."""
    first, others = _split(successes)
    counts = {arm: paired_counts(successes[arm], successes[first]) for arm in others}
    p_values = {arm: _mcnemar(counts[arm]) for arm in others}
    adjusted = holm(p_values)
    return tuple(
        Versus(
            arm=arm,
            first=first,
            counts=counts[arm],
            interval=paired_difference(counts[arm], 1 - alpha),
            p_value=p_values[arm],
            p_adjusted=adjusted[arm],
            answer=_answer(adjusted[arm] <= alpha, counts[arm].difference),
            settled_after=None,
        )
        for arm in others
    )


def compare_anytime(successes: Successes, stopping: Stopping) -> tuple[Versus, ...]:
    """The same while scenes are still coming: valid however often one looks, and for every pair at once."""
    first, others = _split(successes)
    alpha = stopping.alpha / len(others)
    found: dict[str, tuple[Settled, float, Interval]] = {}
    for arm in others:
        a, b = successes[arm], successes[first]
        state = settled(a, b, margin=stopping.margin, alpha=alpha)
        found[arm] = (state, float(anytime_p(a, b)[-1]), difference_sequence(a, b, 1 - alpha)[-1])
    adjusted = holm({arm: p_value for arm, (_, p_value, _) in found.items()})
    answers: dict[str, Literal["better", "worse", "equal", "open"]] = {"a": "better", "b": "worse"}
    return tuple(
        Versus(
            arm=arm,
            first=first,
            counts=paired_counts(successes[arm], successes[first]),
            interval=interval,
            p_value=p_value,
            p_adjusted=adjusted[arm],
            answer=answers.get(state.answer, "equal" if state.answer == "equal" else "open"),
            settled_after=None if state.answer == "open" else state.trials,
        )
        for arm, (state, p_value, interval) in found.items()
    )


def letters(successes: Successes, *, anytime: bool, alpha: float = 0.05) -> dict[str, str]:
    """Letters over *all* pairs (Holm): two arms share one exactly when they were not found different."""
    pairs = {f"{a}\n{b}": (a, b) for a, b in itertools.combinations(successes, 2)}
    p_values = {}
    for key, (a, b) in pairs.items():
        one, other = successes[a], successes[b]
        p_values[key] = float(anytime_p(one, other)[-1]) if anytime else _mcnemar(paired_counts(one, other))
    different = {frozenset(pairs[key]) for key, p_value in holm(p_values).items() if p_value <= alpha}
    return compact_letters({arm: float(np.mean(values)) for arm, values in successes.items()}, different)


def _mcnemar(counts: PairedCounts) -> float:
    return mcnemar_exact(counts.both, counts.only_a, counts.only_b, counts.neither)


def _answer(different: bool, difference: float) -> Literal["better", "worse", "open"]:
    if not different:
        return "open"
    return "better" if difference > 0 else "worse"


def _split(successes: Successes) -> tuple[str, list[str]]:
    names = list(successes)
    if len(names) < 2:
        raise InputError(
            where="comparison", expected="at least two arms", got=str(len(names)), do="Name another one with --arm."
        )
    return names[0], names[1:]
