"""The first page of the report: how sure the verdict is, and what would change it.

Everything here is read off the verdict, its guards, the budget and the convergence; nothing is measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from crossroads.pilot.page_budget import differing
from crossroads.pilot.report import Report
from crossroads.pilot.tips import Tips, point_range
from crossroads.pilot.verdict import Comparison, Verdict, roughly
from crossroads.pilot.words import p_value, percent, plural, points

LATE = 0.8
"""An arm that reaches 90 % of its plateau after this share of its training may not have finished learning."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One line of the table of confidence."""

    name: str
    value: str
    tip: str


@dataclass(frozen=True, kw_only=True)
class Change:
    """One thing that would change the verdict: a few words, then a sentence."""

    lead: str
    text: str


def badge(verdict: Verdict) -> str:
    """The verdict in one to four words."""
    if verdict.status == "winner" and verdict.winner:
        return verdict.winner
    if verdict.status == "inconclusive":
        return "Inconclusive"
    return "No verdict: guard tripped" if verdict.guards else "No verdict"


def chosen(verdict: Verdict) -> Comparison | None:
    """The comparison that the verdict speaks of."""
    return max(verdict.comparisons, key=lambda c: c.wam_success, default=None)


def confidence(report: Report, tips: Tips) -> tuple[Figure, ...]:
    """Difference, interval, p-value and how much was run; empty when nothing was executed."""
    verdict = report.verdict
    found = chosen(verdict)
    if found is None:
        return ()
    tip = tips.comparison(found)
    tests = "McNemar over episodes" + (", t over runs" if found.runs > 1 else "")
    tests += f"; Holm over {len(verdict.comparisons)} WAM arms" if len(verdict.comparisons) > 1 else ""
    success = f"{found.wam} {percent(found.wam_success)}, {found.vla} {percent(found.vla_success)}"
    rows = [
        ("success", success),
        ("difference", f"{points(found.difference)} points"),
        ("95 % interval", point_range(found.interval)),
        ("p, corrected", p_value(found.p_adjusted)),
        ("tests", tests),
        ("evidence", f"{plural(found.counts.trials, 'paired episode')}, {plural(found.runs, 'training run')} per arm"),
        ("training seeds", tips.seeds),
    ]
    if verdict.minimum_detectable_effect is not None:
        seen = f"{100 * verdict.minimum_detectable_effect:.0f} points, in 4 of 5 such pilots"
        rows.append(("smallest difference it can find", seen))
    return tuple(Figure(name=name, value=value, tip=tip) for name, value in rows)


def changes(report: Report) -> tuple[Change, ...]:
    """What would change the verdict, the most telling first."""
    found = [*_guards(report, "fail"), *_more(report), *_guards(report, "caution"), *_guards(report, "not checked")]
    if unequal := differing(report):
        found.append(
            Change(lead="arms unequal", text=f"{', '.join(unequal)}: a difference may be bought, not designed.")
        )
    compared = {arm.name for arm in report.arms if arm.kind != "control"}
    late = [row for row in report.convergence if row.arm in compared and row.steps > LATE * row.of_steps]
    for row in late:
        text = f"only after {row.steps:,.0f} of {row.of_steps:,} steps was {row.arm} at 90 % of its plateau."
        found.append(Change(lead="training may be too short", text=text))
    return tuple(found)


def _guards(report: Report, status: str) -> list[Change]:
    shown = [guard for guard in report.verdict.guards if guard.status == status]
    return [Change(lead=f"{g.name}: {status}", text=g.note.removeprefix("Not checked: ")) for g in shown]


def _more(report: Report) -> list[Change]:
    """Episodes and runs: what would settle the question, or how far a winner is from doubt."""
    verdict, found = report.verdict, chosen(report.verdict)
    if found is None:
        text = f"nothing was executed ({report.closed_loop_absent.rstrip('.')}): only trials can prefer an arm."
        return [Change(lead="trials in a simulator or on the robot", text=text)]
    if verdict.status == "winner":
        margin = min(abs(found.interval.low), abs(found.interval.high))
        text = f"the interval stays {points(margin).removeprefix('+')} points away from no difference."
        return [Change(lead="a repeat that disagrees", text=text)]
    if verdict.status != "inconclusive":
        return []
    if verdict.episodes_to_settle is None:
        text = "no practical number of episodes would do: training again changes the success too much."
        return [Change(lead="steadier training", text=text)]
    runs, now = "", f"{found.counts.trials:,}"
    if verdict.runs_to_settle is not None:
        runs = f" over {plural(roughly(verdict.runs_to_settle), 'training run')}"
        now += f" over {found.runs}"
    text = (
        f"about {roughly(verdict.episodes_to_settle):,} per arm{runs} would settle it (this pilot: {now}), at the "
        "difference seen or the smallest that matters."
    )
    return [Change(lead="more episodes", text=text)]


def unmeasured(report: Report) -> tuple[str, ...]:
    """The parts that this run lacks, in words."""
    parts = (
        (report.budget, "the budget plan against its account"),
        (report.studies, "the matched designs (labels, video loss, grounding)"),
        (report.convergence, "convergence"),
        (report.executability, "whether imagined clips can be acted out"),
        (report.letters, "the letter display of many arms"),
    )
    return tuple(name for part, name in parts if not part)
