"""What a matched experiment found, as data: arms, measured points, effects with intervals, and one sentence.

The three designs of the evidence page (section 6) fill these values and the page draws them; nothing here computes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from crossroads.evaluate.statistics import Interval
from crossroads.pilot.verdict import Guard

ALPHA = 0.05
"""What a corrected p-value may be at most where something is called settled."""
Key = Literal["labels", "video-loss", "grounding", "forgetting"]
Currency = Literal["samples", "steps", "flops", "seconds", "device_hours", "money", "parameters"]
Longer = Literal["keeps its sign", "turns", "not checked"]
"""What becomes of an effect when its arms train with twice the steps; asked only of effects that would be settled."""


@dataclass(frozen=True, kw_only=True)
class Amounts:
    """What one arm is given or has used, in every currency; sums over all networks that the arm trains."""

    samples: int
    steps: int
    flops: float
    seconds: float
    """Wall clock of training, one process."""
    device_hours: float
    money: float | None
    """None without a stated rate."""
    parameters: int
    """Trained, summed over the arm's networks."""


@dataclass(frozen=True, kw_only=True)
class Spend:
    """One arm's plan beside its account."""

    arm: str
    planned: Amounts
    spent: Amounts | None
    """None in a plan that has not run."""


@dataclass(frozen=True, kw_only=True)
class BudgetTable:
    """What was planned, what was spent, and in which currencies the arms had to be equal."""

    matched: tuple[Currency, ...]
    tolerance: float
    """Largest relative difference between two arms in a matched currency."""
    rows: tuple[Spend, ...]
    unequal: tuple[str, ...]
    """In words, the currencies in which arms differ by more than the tolerance without having been matched."""
    rates: str
    """Where seconds and money come from: the device, its assumed speed, the stated price."""


@dataclass(frozen=True, kw_only=True)
class StudyArm:
    """One arm of a design."""

    name: str
    summary: str
    trained: Amounts


@dataclass(frozen=True, kw_only=True)
class StudyPoint:
    """One measured share: an arm under a condition, pooled over training runs."""

    arm: str
    condition: str
    successes: int
    trials: int
    runs: int
    interval: Interval
    """Over training runs and episodes (hierarchical) where there are several runs."""

    @property
    def share(self) -> float:
        return self.successes / self.trials


@dataclass(frozen=True, kw_only=True)
class Effect:
    """One comparison that the design was made for."""

    name: str
    """What it asks, in words: 'action-free video, by pseudo-labels'."""
    first: str
    second: str
    condition: str
    value: float
    """First minus second (unit ``points``), or first over second (unit ``times``)."""
    unit: Literal["points", "times"]
    interval: Interval
    p_value: float | None
    """Corrected over the effects of the design (Holm); None where no test exists."""
    runs: int
    trials: int
    plateau: Longer = "not checked"

    @property
    def decided(self) -> bool:
        """True when interval and corrected test (if any) leave out 'no effect', and no plateau check turned it."""
        nothing = 0.0 if self.unit == "points" else 1.0
        tested = self.p_value is None or self.p_value <= ALPHA
        return tested and self.plateau != "turns" and not self.interval.low <= nothing <= self.interval.high


@dataclass(frozen=True, kw_only=True)
class Multiplier:
    """How many labels of ``second`` one label of ``first`` is worth, at the same success."""

    name: str
    first: str
    second: str
    condition: str
    level: float
    """The success at which they are compared, fixed by the design."""
    labels: tuple[int, ...]
    """The numbers at which both were measured; beyond them nothing is said."""
    low: float
    """Low = high where both curves cross the level, else the bounds that the measured numbers leave."""
    high: float | None
    """None: unbounded."""
    interval_low: float
    interval_high: float | None
    said: str
    """The estimate and its interval in words."""
    p_value: float
    """Against equal needs, corrected with the effects of the design (Holm)."""
    runs: int
    trials: int
    plateau: Longer = "not checked"


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A figure of one arm that is no success: a rate, a distance, an attribution."""

    name: str
    arm: str
    condition: str
    value: float
    unit: Literal["share", "points", "ratio"]
    interval: Interval | None
    """Over training runs and trials; None where it has none."""
    trials: int
    note: str
    """What exactly was counted; the same for every arm."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """One design: what was asked, what was measured, what may be said."""

    key: Key
    title: str
    question: str
    arms: tuple[StudyArm, ...]
    conditions: tuple[str, ...]
    """In their order; a number of labels, or a kind of trial."""
    points: tuple[StudyPoint, ...]
    effects: tuple[Effect, ...]
    multipliers: tuple[Multiplier, ...]
    measures: tuple[Measure, ...]
    finding: str
    """One honest paragraph, written from the effects by the same rules for every result."""
    guards: tuple[Guard, ...]


@dataclass(frozen=True, kw_only=True)
class Convergence:
    """After how many optimiser steps an arm reaches 90 % of its plateau."""

    arm: str
    steps: float
    interval: Interval
    runs: int
    of_steps: int
    """Steps of the whole training."""


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """Spearman's rank correlation over episodes."""

    value: float
    interval: Interval
    episodes: int


@dataclass(frozen=True, kw_only=True)
class Executability:
    """Whether an imagined clip can be acted out: the motion an inverse model reads from it against the executed one."""

    arm: str
    ratio: float
    """Error on imagined clips over the error of the same inverse model on real expert frames; 1 is as good as real."""
    interval: Interval
    error_imagined: float
    error_real: float
    """Root mean square, standard deviations of the actions."""
    chunks: int
    video_against_action: Correlation | None
    """Rank correlation, over episodes, of imagined-video error with action error."""
    video_against_failure: Correlation | None
