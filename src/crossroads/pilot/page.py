"""The report as one HTML page: numbers into words, tables and inline plots; nothing is fetched from anywhere.

The template beside this file holds the text; here are the formats and the few computed remarks (what was held equal,
which duty is too high). The page forbids itself every request by a content security policy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from crossroads.evaluate.grounding import Rate
from crossroads.evaluate.statistics import Interval
from crossroads.pilot import plots
from crossroads.pilot.report import Arm, Budget, CurvePoint, Report
from crossroads.pilot.verdict import roughly

TOLERANCE = 0.05
"""Arms within this relative distance of each other count as held equal."""


def render(report: Report) -> str:
    """The whole page as HTML (well-formed XML, so that it can be checked as such)."""
    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=percent,
        points=points,
        percents=percents,
        count=count,
        flops=flops,
        seconds=seconds,
        p_value=p_value,
        roughly=roughly,
        lower_first=lower_first,
        split_diff=split_diff,
    )
    look = plots.styles(report.arms)
    page = environment.get_template("report.html.jinja").render(
        report=report,
        badge=_badge(report),
        swatch={name: Markup(plots.swatch(style)) for name, style in look.items()},
        held=held_equal(report.budgets, report.arms),
        families=_families(report),
        points_by_labels=_points_by_labels(report),
        plot={name: Markup(svg) for name, svg in _plots(report).items()},
        tint=tint,
    )
    return page.strip() + "\n"


def _badge(report: Report) -> str:
    verdict = report.verdict
    if verdict.status == "winner" and verdict.winner:
        return verdict.winner
    if verdict.status == "inconclusive":
        return "Inconclusive"
    return "No verdict: guard tripped" if verdict.guards else "No verdict"


def _plots(report: Report) -> dict[str, str]:
    found, arms, closed = {}, report.arms, report.closed_loop
    if report.verdict.comparisons:
        found["forest"] = plots.forest(report.verdict.comparisons, arms, TOLERANCE)
    if closed and closed.curves:
        limits = {guard.name: guard.limit for guard in report.verdict.guards}
        floor, ceiling = limits.get("floor") or 0.60, limits.get("ceiling") or 0.95
        found["curves"] = plots.curves(closed.curves, arms, floor=floor, ceiling=ceiling)
    if closed and closed.families:
        found["families"] = plots.family_dots(closed.families, arms)
    if closed and closed.grounding:
        found["grounding"] = plots.grounding_dots(closed.grounding, arms)
    if report.video:
        found["horizons"] = plots.horizons(report.video, arms)
    if report.latency:
        found["duty"] = plots.duty_bars(report.latency, arms)
    return found


@dataclass(frozen=True, kw_only=True)
class HeldRow:
    """One quantity over all arms, and whether the compared arms have the same."""

    name: str
    cells: tuple[str, ...]
    remark: str
    equal: bool


_HELD: tuple[tuple[str, Callable[[Budget], float], Callable[[float], str]], ...] = (
    ("labelled episodes", lambda b: b.labelled_episodes, lambda x: f"{x:,.0f}"),
    ("action-free episodes", lambda b: b.action_free_episodes, lambda x: f"{x:,.0f}"),
    ("trainable parameters", lambda b: b.trainable_parameters, lambda x: count(x)),
    ("total parameters", lambda b: b.total_parameters, lambda x: count(x)),
    ("optimiser steps", lambda b: b.optimiser_steps, lambda x: f"{x:,.0f}"),
    ("samples seen", lambda b: b.samples, lambda x: f"{x:,.0f}"),
    ("training compute", lambda b: b.training_flops, lambda x: flops(x)),
    ("control rate", lambda b: b.control_hz, lambda x: f"{x:g} Hz"),
)


def held_equal(budgets: Sequence[Budget], arms: Sequence[Arm]) -> tuple[HeldRow, ...]:
    """One row per quantity; the remark compares the VLA and WAM arms (controls may differ by design)."""
    compared = {arm.name for arm in arms if arm.kind != "control"}
    rows = []
    for name, value_of, shown in _HELD:
        values = [value_of(b) for b in budgets if b.arm in compared]
        low, high = min(values, default=0.0), max(values, default=0.0)
        if low == high:
            remark, equal = "equal", True
        elif low > 0 and high / low - 1 <= TOLERANCE:
            remark, equal = f"within {100 * (high / low - 1):.1f} %", True
        else:
            remark, equal = (f"differs, {high / low:.2f} ×" if low > 0 else "differs"), False  # noqa: RUF001
        rows.append(HeldRow(name=name, cells=tuple(shown(value_of(b)) for b in budgets), remark=remark, equal=equal))
    return tuple(rows)


def _families(report: Report) -> dict[str, dict[str, Rate]]:
    table: dict[str, dict[str, Rate]] = {}
    for row in report.closed_loop.families if report.closed_loop else ():
        table.setdefault(row.family, {})[row.arm] = row.rate
    return {family: table[family] for family in sorted(table)}


def _points_by_labels(report: Report) -> dict[int, dict[str, CurvePoint]]:
    table: dict[int, dict[str, CurvePoint]] = {}
    for point in report.closed_loop.curves if report.closed_loop else ():
        table.setdefault(point.labels, {})[point.arm] = point
    return {labels: table[labels] for labels in sorted(table)}


def tint(share: float) -> str:
    """A background that grows with a share; the number itself is always printed on it."""
    return f"background: rgba(0, 114, 178, {0.05 + 0.23 * share:.3f})"


def percent(share: float) -> str:
    """0.643 as '64 %'."""
    return f"{100 * share:.0f} %"


def points(difference: float) -> str:
    """A signed difference of shares in percentage points."""
    rounded = round(100 * difference)
    return f"{rounded:+d}".replace("-", "\N{MINUS SIGN}") if rounded else "0"


def percents(interval: Interval) -> str:
    """An interval of shares, '[51, 75]'."""
    return f"[{round(100 * interval.low)}, {round(100 * interval.high)}]".replace("-", "\N{MINUS SIGN}")


def p_value(p: float) -> str:
    """Two digits; tiny values as a bound."""
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def count(number: float) -> str:
    """4912384 as '4.91 M'."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return f"{number:.0f}"


def flops(number: float) -> str:
    """Floating-point operations with the prefix that leaves one to three digits."""
    if number <= 0:
        return "0"
    power = max(0, min(21, 3 * math.floor(math.log10(number) / 3)))
    letter = {0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P", 18: "E", 21: "Z"}[power]
    return f"{number / 10**power:.3g} {letter}FLOP"


STRUCTURE = ("axes.", "phases.", "stage.edges.", "stage.schedule.", "stage.sequence")


@dataclass(frozen=True, kw_only=True)
class SplitDiff:
    """A recipe diff in two parts: who reads whom, when and how; and everything else, folded away."""

    structure: str
    sizes: str
    num_sizes: int


def split_diff(text: str) -> SplitDiff:
    """The lines about structure stay in sight; the rest is long."""
    first, *lines = text.splitlines()
    rest = [line for line in lines if not line.startswith(STRUCTURE)]
    kept = [first, *(line for line in lines if line.startswith(STRUCTURE))]
    return SplitDiff(structure="\n".join(kept), sizes="\n".join(rest), num_sizes=len(rest))


def lower_first(sentence: str) -> str:
    """A sentence that continues another one."""
    return sentence[:1].lower() + sentence[1:]


def seconds(time_s: float) -> str:
    """A duration in the unit a person would use."""
    if time_s < 1:
        return f"{1000 * time_s:.3g} ms"
    if time_s < 60:
        return f"{time_s:.3g} s"
    if time_s < 3600:
        return f"{int(time_s // 60)} min {time_s % 60:.0f} s"
    return f"{int(time_s // 3600)} h {time_s % 3600 / 60:.0f} min"
