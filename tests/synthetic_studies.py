"""The decision layer of a report with made-up numbers, for tests of the page only."""

from __future__ import annotations

import numpy as np

from crossroads.evaluate.sequential import compact_letters
from crossroads.evaluate.statistics import Interval, wilson
from crossroads.pilot.report import ArmLetters
from crossroads.pilot.study import (
    Amounts,
    BudgetTable,
    Convergence,
    Correlation,
    Effect,
    Executability,
    Measure,
    Multiplier,
    Spend,
    Study,
    StudyArm,
    StudyPoint,
)
from crossroads.pilot.verdict import Guard

TRIALS, RUNS = 300, 3
DESIGNS = {
    "labels": (
        "Labels: what is action-free video worth?",
        ("10", "25", "100", "400"),
        {
            "cloning": ("labels alone", (0.08, 0.21, 0.55, 0.81)),
            "pseudo-labels": ("an inverse model labels the action-free video", (0.3, 0.48, 0.66, 0.82)),
            "inverse dynamics": ("the video is imagined, then acted out", (0.24, 0.41, 0.63, 0.8)),
            "joint": ("video and action in one network", (0.12, 0.33, 0.61, 0.83)),
            "oracle": ("all action-free video labelled", (0.79, 0.8, 0.82, 0.83)),
        },
    ),
    "video-loss": (
        "Video loss: is it the training signal or the imagination?",
        ("nominal", "light and colour", "distractor", "noise", "start pose"),
        {
            "no video loss": ("actions alone", (0.62, 0.41, 0.5, 0.44, 0.38)),
            "current frame": ("reconstructs what it sees", (0.63, 0.45, 0.52, 0.47, 0.4)),
            "future, not used": ("video loss in training only", (0.7, 0.5, 0.56, 0.52, 0.47)),
            "future, used": ("imagines while acting", (0.71, 0.48, 0.57, 0.5, 0.46)),
            "future, then action": ("acts on what it imagined", (0.69, 0.49, 0.55, 0.51, 0.45)),
            "future, condition-on-prediction": ("reads its own prediction", (0.68, 0.47, 0.56, 0.5, 0.44)),
        },
    ),
    "grounding": (
        "Grounding: does it obey the words?",
        ("seen pairs", "swapped pairs"),
        {
            "one instruction per scene": ("the usual data", (0.92, 0.08)),
            "counterfactual video": ("action-free clips of other instructions", (0.9, 0.51)),
            "counterfactual labels": ("the same clips with labels", (0.91, 0.83)),
        },
    ),
}


def _amounts(scale: float, money: float | None = None) -> Amounts:
    return Amounts(
        samples=int(128_000 * scale),
        steps=int(2000 * scale),
        flops=2.1e14 * scale,
        seconds=412.7 * scale,
        device_hours=412.7 * scale / 3600,
        money=None if money is None else money * scale,
        parameters=1_048_576,
    )


def budget_table(names: tuple[str, ...]) -> BudgetTable:
    """The last arm has not run; the second took longer than planned."""
    rows = tuple(
        Spend(arm=n, planned=_amounts(1, 0.02), spent=None if n == names[-1] else _amounts(1 + 0.12 * (i == 1), 0.02))
        for i, n in enumerate(names)
    )
    return BudgetTable(
        matched=("samples", "steps"),
        tolerance=0.05,
        rows=rows,
        unequal=("compute: fast_wam_idm has 1.62 times that of pi0",),
        rates="Seconds from 0.5 TFLOP/s on one CPU core, money at 0.10 EUR per device hour (made up).",
    )


def studies() -> tuple[Study, ...]:
    """All three designs, each with effects that are decided and some that are not."""
    return tuple(study(key) for key in DESIGNS)


def study(key: str) -> Study:
    """One design."""
    title, conditions, arms = DESIGNS[key]
    names = tuple(arms)
    points = [
        StudyPoint(
            arm=name,
            condition=condition,
            successes=round(TRIALS * share),
            trials=TRIALS,
            runs=RUNS,
            interval=wilson(round(TRIALS * share), TRIALS),
        )
        for name, (_, shares) in arms.items()
        for condition, share in zip(conditions, shares, strict=True)
    ]
    effects = [
        _effect(f"what {second} adds", second, names[0], condition, arms[second][1][c] - arms[names[0]][1][c])
        for second in names[1:3]
        for c, condition in enumerate(conditions[:3])
    ]
    if key == "video-loss":
        effects.append(_effect("latency of imagining while acting", names[3], names[2], "nominal", 3.4, "times"))
    failed = Guard(name="plateau", status="fail", value=-0.02, limit=0.0, note="The sign turns at twice the steps.")
    passed = Guard(name="floor", status="pass", value=0.8, limit=0.6, note="The oracle reaches 80 %.")
    return Study(
        key=key,  # pyright: ignore[reportArgumentType]
        title=title,
        question="SYNTHETIC: does the arm that sees more video succeed more often at the same budget?",
        arms=tuple(
            StudyArm(name=name, summary=what, trained=_amounts(1 + 0.01 * index))
            for index, (name, (what, _)) in enumerate(arms.items())
        ),
        conditions=conditions,
        points=tuple(points[:-1]),
        effects=tuple(effects),
        multipliers=_multipliers(names) if key == "labels" else (),
        measures=_measures(names) if key == "grounding" else (),
        finding="SYNTHETIC: the second arm is ahead of the first under the first condition, and nothing can be said of "
        "the others, whose intervals hold zero.",
        guards=(passed, failed) if key == "grounding" else (passed,),
    )


def _multipliers(names: tuple[str, ...]) -> tuple[Multiplier, ...]:
    """One with a value, one with a bound only."""
    return tuple(
        Multiplier(
            name=f"what {first} adds",
            first=first,
            second=names[0],
            condition="usual",
            level=0.4,
            labels=(10, 25, 100, 400),
            low=2.4,
            high=high,
            interval_low=1.3,
            interval_high=None,
            said=f"{'' if high else 'at least '}2.4x the labels at 40 % success [1.3x, unbounded]",
            p_value=0.03,
            runs=RUNS,
            trials=TRIALS,
            plateau="keeps its sign" if high else "not checked",
        )
        for first, high in zip(names[1:3], (2.4, None), strict=True)
    )


def _measures(names: tuple[str, ...]) -> tuple[Measure, ...]:
    """A share under two conditions, and a figure that only one arm has."""
    shares = [
        Measure(
            name="following",
            arm=name,
            condition=condition,
            value=0.2 + 0.3 * index,
            unit="share",
            interval=wilson(60 + 90 * index, TRIALS),
            trials=TRIALS,
            note="SYNTHETIC: trials whose first touch is on the named object",
        )
        for index, name in enumerate(names)
        for condition in ("seen pairs", "swapped pairs")
    ]
    shift = Measure(
        name="shift",
        arm=names[1],
        condition="empty",
        value=0.41,
        unit="ratio",
        interval=None,
        trials=60,
        note="SYNTHETIC: shift of the planned chunk",
    )
    return (*shares, shift)


def _effect(name: str, first: str, second: str, condition: str, value: float, unit: str = "points") -> Effect:
    half = 0.06 if unit == "points" else 0.5
    return Effect(
        name=name,
        first=first,
        second=second,
        condition=condition,
        value=value,
        unit=unit,  # pyright: ignore[reportArgumentType]
        interval=Interval(low=value - half, high=value + half),
        p_value=(0.004 if abs(value) > 0.1 else 0.2) if unit == "points" else None,
        runs=RUNS,
        trials=TRIALS,
    )


def convergence(names: tuple[str, ...]) -> tuple[Convergence, ...]:
    """The last arm reaches its plateau only at the end."""
    steps = np.linspace(700, 1850, len(names))
    return tuple(
        Convergence(arm=n, steps=float(s), interval=Interval(low=0.8 * s, high=1.1 * s), runs=RUNS, of_steps=2000)
        for n, s in zip(names, steps, strict=True)
    )


def executability(names: tuple[str, ...]) -> tuple[Executability, ...]:
    """One row per imagining arm; the second has no correlation with failure."""
    return tuple(
        Executability(
            arm=name,
            ratio=1.31 + 0.4 * index,
            interval=Interval(low=1.2 + 0.4 * index, high=1.44 + 0.4 * index),
            error_imagined=0.52 + 0.1 * index,
            error_real=0.397,
            chunks=640,
            video_against_action=_correlation(0.18 - 0.3 * index),
            video_against_failure=None if index else _correlation(0.05),
        )
        for index, name in enumerate(names)
    )


def _correlation(value: float) -> Correlation:
    return Correlation(value=value, interval=Interval(low=value - 0.4, high=value + 0.4), episodes=20)


def letters(names: tuple[str, ...]) -> tuple[ArmLetters, ...]:
    """A display of many arms: neighbours are not told apart."""
    successes = {name: 210 - 22 * index for index, name in enumerate(names)}
    different = {frozenset((a, b)) for a in names for b in names if successes[a] - successes[b] > 30}
    found = compact_letters(successes, different)
    return tuple(
        ArmLetters(
            arm=name, successes=hits, trials=TRIALS, runs=RUNS, interval=wilson(hits, TRIALS), letters=found[name]
        )
        for name, hits in successes.items()
    )
