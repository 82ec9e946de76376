"""VLA or WAM? One pure function from paired successes to a sentence, with the right to stay silent.

Rules (evidence page, section 6; fixed before any run): no verdict unless some arm reaches the floor with all labels and
the best compared arm stays under the ceiling; the VLA is compared with every WAM arm named beforehand, p-values are
corrected (Holm), and the verdict speaks of the best of them. With two or more training runs per arm a difference must
pass *both* the exact McNemar test and the test over runs: McNemar alone calls equal recipes different in 14 to 50 % of
experiments when success varies by 0.03 to 0.10 between runs (simulated, 3 runs,
200 scenes; one such case is in tests/evaluate/test_runs.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Shaped

from crossroads.errors import InputError, nearest
from crossroads.evaluate.statistics import (
    Interval,
    PairedCounts,
    RunsDifference,
    difference_over_runs,
    episodes_to_settle,
    holm,
    mcnemar_exact,
    minimum_detectable_effect,
    paired_counts,
    paired_difference,
)

Successes = Mapping[str, Shaped[np.ndarray, "_ _"]]
"""Per arm: training runs x scenes, 0 or 1; the same scene at the same place in every arm and run."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What is compared and when a difference counts; write it down before the run."""

    vla: str
    wams: tuple[str, ...]
    floor: float = 0.60
    ceiling: float = 0.95
    alpha: float = 0.05
    power: float = 0.80
    smallest_difference: float = 0.05
    """The smallest difference that would change a decision; sample sizes are never asked for less."""


@dataclass(frozen=True, kw_only=True)
class Guard:
    """A condition without which numbers must not be read."""

    name: str
    status: Literal["pass", "fail", "caution", "not checked"]
    value: float | None
    limit: float | None
    note: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One WAM arm against the VLA arm; differences are WAM minus VLA."""

    wam: str
    vla: str
    wam_success: float
    vla_success: float
    counts: PairedCounts
    """``a`` is the WAM arm."""
    runs: int
    difference: float
    interval: Interval
    p_mcnemar: float
    p_over_runs: float | None
    """None with a single training run per arm."""
    p_adjusted: float
    """The larger of the two, corrected for the number of WAM arms."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What may be said, and everything needed to doubt it."""

    status: Literal["winner", "inconclusive", "no verdict"]
    winner: Literal["VLA", "WAM"] | None
    winning_arm: str | None
    sentence: str
    difference: float | None
    """Success of the best WAM arm minus that of the VLA arm."""
    interval: Interval | None
    p_value: float | None
    minimum_detectable_effect: float | None
    episodes_to_settle: int | None
    """Episodes per arm, all training runs together; None when decided or when no practical number would do."""
    runs_to_settle: int | None
    """Training runs per arm to spread them over; None with a single run, whose noise is not known."""
    guards: tuple[Guard, ...]
    comparisons: tuple[Comparison, ...]


PLATEAU = "plateau"
"""The guard that makes a verdict inconclusive; every other guard that fails forbids one."""


def decide(
    *,
    arms: Successes,
    oracle: Successes,
    rules: Rules,
    at: str,
    doubled: Successes | None = None,
    further: tuple[Guard, ...] = (),
) -> Verdict:
    """Compare the VLA arm with the pre-named WAM arms at one label budget (``at``, in words).

    ``oracle`` holds the same arms trained with all labels; ``doubled`` the same cell trained twice as long, for the
    plateau check of a difference that would be a win: where it does not keep its sign, the verdict is inconclusive.
    ``further`` guards (the budget's account) forbid a verdict like the floor's when they fail.
    """
    _check(arms, rules)
    compared = (rules.vla, *rules.wams)
    comparisons = _compare_all(arms, rules)
    chosen = next(c for c in comparisons if c.wam == best_wam(arms, rules))
    guards = (
        _floor_guard(oracle, compared, rules),
        _ceiling_guard(arms, compared, rules),
        _plateau_guard(doubled, chosen, rules),
        _runs_guard(chosen),
        *further,
    )
    found = _power(arms, chosen, rules)
    turned = [guard for guard in guards if guard.status == "fail" and guard.name == PLATEAU]
    failed = [guard for guard in guards if guard.status == "fail" and guard.name != PLATEAU]
    if failed:
        verdict = dataclasses.replace(found, status="no verdict", guards=guards, comparisons=comparisons)
        return dataclasses.replace(verdict, sentence="No verdict: " + " ".join(guard.note for guard in failed))
    if _told_apart(chosen, rules) and not turned:
        winner = "WAM" if chosen.difference > 0 else "VLA"
        found = dataclasses.replace(
            found,
            status="winner",
            winner=winner,
            winning_arm=chosen.wam if winner == "WAM" else chosen.vla,
            episodes_to_settle=None,
            runs_to_settle=None,
        )
    sentence = _sentence(found, chosen, rules, at)
    if turned:
        sentence = f"Inconclusive at {at}: {turned[0].note}"
    return dataclasses.replace(found, sentence=sentence, guards=guards, comparisons=comparisons)


def without_closed_loop(reason: str) -> Verdict:
    """The verdict when nothing was executed: offline figures never rank recipes (evidence page, section 5.1)."""
    return Verdict(
        status="no verdict",
        winner=None,
        winning_arm=None,
        sentence=f"No verdict: {reason} Offline figures below describe the arms and never rank them.",
        difference=None,
        interval=None,
        p_value=None,
        minimum_detectable_effect=None,
        episodes_to_settle=None,
        runs_to_settle=None,
        guards=(),
        comparisons=(),
    )


def _check(arms: Successes, rules: Rules) -> None:
    for name in (rules.vla, *rules.wams):
        if name not in arms:
            raise InputError(where="decide", expected=f"successes of arm {name!r}", got="none", do=nearest(name, arms))
    shapes = {name: arms[name].shape for name in (rules.vla, *rules.wams)}
    if not rules.wams or len(set(shapes.values())) != 1 or 0 in next(iter(shapes.values())):
        raise InputError(
            where="decide",
            expected="one VLA arm and at least one WAM arm, all with the same runs x scenes",
            got=f"{shapes}",
            do="Evaluate every arm with the same training seeds on the same scenes.",
        )


def _compare_all(arms: Successes, rules: Rules) -> tuple[Comparison, ...]:
    found = []
    for wam in rules.wams:
        a, b = arms[wam], arms[rules.vla]
        counts = paired_counts(a, b)
        over_runs = _over_runs(a, b, rules)
        found.append(
            Comparison(
                wam=wam,
                vla=rules.vla,
                wam_success=float(a.mean()),
                vla_success=float(b.mean()),
                counts=counts,
                runs=len(a),
                difference=counts.difference,
                interval=over_runs.interval if over_runs else paired_difference(counts, 1 - rules.alpha),
                p_mcnemar=mcnemar_exact(counts.both, counts.only_a, counts.only_b, counts.neither),
                p_over_runs=over_runs.p_value if over_runs else None,
                p_adjusted=1.0,
            )
        )
    adjusted = holm({c.wam: max(c.p_mcnemar, c.p_over_runs or 0.0) for c in found})
    return tuple(dataclasses.replace(c, p_adjusted=adjusted[c.wam]) for c in found)


def _over_runs(a: np.ndarray, b: np.ndarray, rules: Rules) -> RunsDifference | None:
    return difference_over_runs(a, b, 1 - rules.alpha) if len(a) > 1 else None


def _power(arms: Successes, chosen: Comparison, rules: Rules) -> Verdict:
    """The numbers of the verdict, still undecided; power is asked at the level of the strictest Holm step."""
    alpha = rules.alpha / len(rules.wams)
    size = max(abs(chosen.difference), rules.smallest_difference)
    discordant = max(chosen.counts.discordant, 1 / chosen.counts.trials)
    detectable = minimum_detectable_effect(chosen.counts.trials, discordant, rules.power, alpha)
    episodes, runs = episodes_to_settle(size, discordant, rules.power, alpha), None
    over_runs = _over_runs(arms[chosen.wam], arms[chosen.vla], rules)
    if over_runs is not None:
        detectable = max(detectable or 1.0, over_runs.minimum_detectable_effect(rules.power, alpha))
        settled = over_runs.settled_by(size, rules.power, alpha)
        runs = None if settled is None else settled[0]
        episodes = None if settled is None or episodes is None else max(episodes, settled[0] * settled[1])
    return Verdict(
        status="inconclusive",
        winner=None,
        winning_arm=None,
        sentence="",
        difference=chosen.difference,
        interval=chosen.interval,
        p_value=chosen.p_adjusted,
        minimum_detectable_effect=min(detectable, 1.0) if detectable is not None else None,
        episodes_to_settle=episodes,
        runs_to_settle=runs,
        guards=(),
        comparisons=(),
    )


def _floor_guard(oracle: Successes, compared: tuple[str, ...], rules: Rules) -> Guard:
    shares = {name: float(oracle[name].mean()) for name in compared if name in oracle}
    sides = (shares.get(rules.vla, 0.0), max((shares.get(name, 0.0) for name in rules.wams), default=0.0))
    best = max(sides)
    if best < rules.floor:
        note = (
            f"even with all labels the best arm reaches {_percent(best)}, below the floor of {_percent(rules.floor)}."
        )
        return Guard(name="floor", status="fail", value=best, limit=rules.floor, note=note)
    weak = " and ".join(s for s, share in zip(("the VLA", "every WAM arm"), sides, strict=True) if share < rules.floor)
    note = f"With all labels the best arm reaches {_percent(best)}."
    if weak:
        note += f" But {weak} stays below {_percent(rules.floor)}: that side may be badly trained rather than worse."
    return Guard(name="floor", status="caution" if weak else "pass", value=best, limit=rules.floor, note=note)


def _ceiling_guard(arms: Successes, compared: tuple[str, ...], rules: Rules) -> Guard:
    best = max(float(arms[name].mean()) for name in compared)
    if best < rules.ceiling:
        note = f"The best compared arm reaches {_percent(best)}: there is room to differ."
        return Guard(name="ceiling", status="pass", value=best, limit=rules.ceiling, note=note)
    note = (
        f"the best arm reaches {_percent(best)}; above {_percent(rules.ceiling)} differences are not read. Use harder "
    )
    note += "scenes or fewer labels."
    return Guard(name="ceiling", status="fail", value=best, limit=rules.ceiling, note=note)


def best_wam(arms: Successes, rules: Rules) -> str:
    """The WAM arm that the verdict speaks of: the one with the most successes."""
    return max(rules.wams, key=lambda arm: arms[arm].mean())


def claimed(arms: Successes, rules: Rules) -> str | None:
    """The WAM arm of the difference that would be called a win of either side, if no guard forbids it."""
    best = best_wam(arms, rules)
    chosen = next(c for c in _compare_all(arms, rules) if c.wam == best)
    return best if _told_apart(chosen, rules) else None


def _told_apart(chosen: Comparison, rules: Rules) -> bool:
    return chosen.p_adjusted <= rules.alpha and chosen.difference != 0


def _plateau_guard(doubled: Successes | None, chosen: Comparison, rules: Rules) -> Guard:
    if not _told_apart(chosen, rules):
        note = "No difference is claimed, so none has to hold when the arms train twice as long."
        return Guard(name=PLATEAU, status="pass", value=None, limit=None, note=note)
    if doubled is None or chosen.wam not in doubled or chosen.vla not in doubled:
        note = (
            "Not checked: the arms were not trained twice as long. A short training can turn the sign of a difference."
        )
        return Guard(name=PLATEAU, status="not checked", value=None, limit=None, note=note)
    later = float(doubled[chosen.wam].mean() - doubled[chosen.vla].mean())
    points = f"{_points(chosen.difference)} becomes {_points(later)} with twice the steps"
    if later * chosen.difference < 0:
        note = f"the difference changes its sign when both arms train longer: {points}."
        return Guard(name=PLATEAU, status="fail", value=later, limit=0.0, note=note)
    return Guard(name=PLATEAU, status="pass", value=later, limit=0.0, note=f"The sign holds: {points}.")


def _runs_guard(chosen: Comparison) -> Guard:
    notes = {
        1: "One training run per arm: the result is about these trained policies; training again may change it.",
        2: "Two training runs per arm: run-to-run noise is known only roughly, and only large differences are found.",
    }
    return Guard(
        name="training runs",
        status="pass" if chosen.runs >= 3 else "caution",
        value=float(chosen.runs),
        limit=3.0,
        note=notes.get(chosen.runs, f"{chosen.runs} training runs per arm enter the test and the interval."),
    )


def _sentence(verdict: Verdict, chosen: Comparison, rules: Rules, at: str) -> str:
    wam, vla = f"{chosen.wam} {_percent(chosen.wam_success)}", f"{chosen.vla} {_percent(chosen.vla_success)}"
    among = f", corrected for {len(rules.wams)} WAM arms" if len(rules.wams) > 1 else ""
    interval = f"{_points(chosen.interval.low)} to {_points(chosen.interval.high)}"
    numbers = (
        f"difference {_points(chosen.difference)} points, interval {interval}, p {_bounded(chosen.p_adjusted)}{among}"
    )
    if verdict.status == "winner":
        policies = "" if chosen.runs > 1 else " (these trained policies; one run each)"
        if verdict.winner == "WAM":
            return f"The WAM wins at {at}{policies}: {wam} against {vla} success ({numbers})."
        best = "the best of the WAM arms, " if len(rules.wams) > 1 else ""
        return f"The VLA wins at {at}{policies}: {vla} against {best}{wam} success ({numbers})."
    size = 100 * max(abs(chosen.difference), rules.smallest_difference)
    settle = f"per arm would settle a difference of {size:.0f} points"
    over = "" if verdict.runs_to_settle is None else f" over {roughly(verdict.runs_to_settle)} training runs"
    if verdict.episodes_to_settle is None:
        remedy = f"no practical number of episodes {settle}"
    else:
        remedy = f"about {roughly(verdict.episodes_to_settle):,} episodes{over} {settle}"
    return f"Inconclusive at {at}: {wam}, {vla} success ({numbers}); {remedy}."


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _bounded(p: float) -> str:
    return "< 0.0001" if p < 1e-4 else f"= {p:.2g}"


def _points(difference: float) -> str:
    rounded = round(100 * difference)
    return f"{rounded:+d}".replace("-", "\N{MINUS SIGN}") if rounded else "0"


def roughly(number: int) -> int:
    """Rounded up to two leading digits: a sample size is never known better than that."""
    unit = 10 ** max(0, len(str(number)) - 2)
    return -(-number // unit) * unit
