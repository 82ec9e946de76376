"""What stands behind a number, as one line of text: how many trials, which seeds, which interval, which command.

Every measured number on the page carries such a line: as its title for the pointer and for screen readers, and in a bar
at the foot of the window while it has the keyboard focus.
"""

from __future__ import annotations

from dataclasses import dataclass

from crossroads.evaluate.grounding import Advantage, Rate
from crossroads.evaluate.latency import Latency
from crossroads.evaluate.statistics import Interval
from crossroads.pilot.report import Provenance
from crossroads.pilot.study import Effect
from crossroads.pilot.verdict import Comparison
from crossroads.pilot.words import decimal, p_value, percent, plural, points, seconds


@dataclass(frozen=True, kw_only=True)
class Tips:
    """Writes the lines; all end with the seeds and the command of the report."""

    seeds: str
    scenes: str
    command: str

    @staticmethod
    def of(source: Provenance) -> Tips:
        """The lines of one report."""
        return Tips(
            seeds=", ".join(str(seed) for seed in source.training_seeds) or "none",
            scenes=source.scene_seeds,
            command=source.command,
        )

    def measured(self, *parts: str) -> str:
        """Any facts, then where they come from."""
        return "; ".join((*parts, f"training seeds: {self.seeds}", f"command: {self.command}"))

    def executed(self, *parts: str) -> str:
        """The same for what was run in the scenes."""
        return self.measured(*parts, f"scene seeds: {self.scenes}")

    def share(self, successes: int, trials: int, interval: Interval, runs: int | None = None) -> str:
        """A success share over episodes and, where known, over training runs."""
        over = () if runs is None else (plural(runs, "training run"),)
        what = f"{percent(successes / trials)}: {successes:,} of {plural(trials, 'episode')}"
        return self.executed(what, *over, f"95 % interval {share_range(interval)}")

    def rate(self, rate: Rate) -> str:
        """A share of pooled trials with Wilson's interval."""
        return self.share(rate.successes, rate.trials, rate.interval)

    def advantage(self, gain: Advantage) -> str:
        """The instruction advantage."""
        return self.executed(
            f"{points(gain.difference)} points over {plural(gain.pairs, 'pair')}",
            f"95 % interval {point_range(gain.interval)}",
        )

    def comparison(self, found: Comparison) -> str:
        """One WAM arm against the VLA arm."""
        return self.executed(
            f"{found.wam} minus {found.vla}: {points(found.difference)} points over "
            f"{plural(found.counts.trials, 'paired episode')}",
            plural(found.runs, "training run") + " per arm",
            f"95 % interval {point_range(found.interval)}",
            f"p {p_value(found.p_adjusted)}, corrected",
        )

    def effect(self, found: Effect) -> str:
        """One comparison of a design."""
        return self.executed(
            f"{found.name}, {found.condition}: {found.first} against {found.second}: {size(found)}",
            f"95 % interval {span(found)}",
            "no test" if found.p_value is None else f"p {p_value(found.p_value)}, corrected",
            plural(found.trials, "episode") if found.trials else "no episodes",
            f"{plural(found.runs, 'training run')} per arm",
        )

    def latency(self, found: Latency) -> str:
        """Timed calls."""
        return self.measured(
            f"median {seconds(found.median_s)}, 95th percentile {seconds(found.p95_s)}, "
            f"{seconds(found.min_s)} to {seconds(found.max_s)} over {plural(found.repeats, 'timed call')}",
            f"device: {found.device}",
        )


def size(effect: Effect) -> str:
    """An effect with its unit: '+9 points', '1.40 times'."""
    return f"{points(effect.value)} points" if effect.unit == "points" else f"{decimal(effect.value)} times"


def span(effect: Effect) -> str:
    """Its interval in the same unit, in words; an end that leaves out 'no effect' by little keeps a digit."""
    ends = (effect.interval.low, effect.interval.high)
    if effect.unit == "times":
        return " to ".join(decimal(end) for end in ends)
    digits = 1 if effect.decided and any(points(end) == "0" for end in ends) else 0
    return " to ".join(points(end, digits) for end in ends)


def share_range(interval: Interval) -> str:
    """'51 to 75 %'."""
    return f"{round(100 * interval.low)} to {round(100 * interval.high)} %"


def point_range(interval: Interval) -> str:
    """'+2 to +16 points', in words because a minus and a dash look alike."""
    return f"{points(interval.low)} to {points(interval.high)} points"


def number_range(interval: Interval, digits: int = 2) -> str:
    """'1.32 to 1.80'."""
    return f"{decimal(interval.low, digits)} to {decimal(interval.high, digits)}"
