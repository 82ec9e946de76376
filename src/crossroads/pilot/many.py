"""What is said of all arms at once: letters of those that were told apart, and how soon each had learned."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from crossroads.evaluate.convergence import plateaus_of, steps_over_runs
from crossroads.evaluate.sequential import compact_letters
from crossroads.evaluate.statistics import (
    difference_over_runs,
    holm,
    mcnemar_exact,
    paired_counts,
    success_interval,
)
from crossroads.pilot.plan import Profile
from crossroads.pilot.report import ArmLetters
from crossroads.pilot.study import Convergence

ALPHA = 0.05


def letters(successes: Mapping[str, np.ndarray]) -> tuple[ArmLetters, ...]:
    """Compact letters over all pairs of arms (training runs x scenes each), Holm-corrected, best arm first."""
    if len(successes) < 2:
        return ()
    p_values = {f"{a}|{b}": _p(successes[a], successes[b]) for a, b in itertools.combinations(successes, 2)}
    adjusted = holm(p_values)
    different = {frozenset(pair.split("|")) for pair, p in adjusted.items() if p <= ALPHA}
    means = {arm: float(found.mean()) for arm, found in successes.items()}
    named = compact_letters(means, different)
    return tuple(
        ArmLetters(
            arm=arm,
            successes=int(successes[arm].sum()),
            trials=successes[arm].size,
            runs=len(successes[arm]),
            interval=success_interval(successes[arm]),
            letters=named[arm],
        )
        for arm in sorted(successes, key=lambda arm: -means[arm])
    )


def _p(a: np.ndarray, b: np.ndarray) -> float:
    """Both tests of the verdict: over scenes, and over training runs where there are several."""
    counts = paired_counts(a, b)
    found = mcnemar_exact(counts.both, counts.only_a, counts.only_b, counts.neither)
    return max(found, difference_over_runs(a, b).p_value) if len(a) > 1 else found


def convergences(plan: Profile, results: Sequence[Mapping[str, Any]]) -> tuple[Convergence, ...]:
    """Steps to 90 % of the plateau of the action loss with all labels; needs two training runs or more per arm, all of
    which learned."""
    found = []
    for arm in plan.arms:
        own = [r for r in results if r["arm"] == arm and not r["doubled"]]
        most = max((r["labels"] for r in own), default=0)
        curves = [[(line["step"], line["action"]) for line in r["losses"]] for r in own if r["labels"] == most]
        plateaus = plateaus_of(curves)
        if plateaus is None or len(plateaus) < 2:
            continue
        over = steps_over_runs(plateaus)
        found.append(
            Convergence(
                arm=arm,
                steps=over.value,
                interval=over.interval,
                runs=over.runs,
                of_steps=int(plateaus[0].of_steps),
            )
        )
    return tuple(found)
