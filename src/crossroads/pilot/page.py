"""The report as one HTML page: numbers into words, tables and inline plots; nothing is fetched from anywhere.

Templates beside this file hold the text: ``report.html.jinja`` the frame, ``report_first`` the page that is forwarded,
``report_design``, ``report_measured`` and ``report_source`` the details. The page forbids itself every request by a
content security policy and has no script.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from crossroads.errors import InputError
from crossroads.evaluate.grounding import Rate
from crossroads.pilot import page_budget, page_first, plots, words
from crossroads.pilot.drawing import styles, swatch
from crossroads.pilot.page_studies import common, view
from crossroads.pilot.report import ArmLetters, CurvePoint, Report, check_arms
from crossroads.pilot.tips import Tips, number_range, point_range, share_range


def write_report(report: Report, folder: Path) -> Path:
    """Write ``report.json`` and ``report.html`` (one page, no requests) into the folder; returns where the page is.

    Both are rendered before either is written, and each appears whole. A folder that holds another run is left alone.
    """
    check_arms(report)
    written = folder / "report.json"
    if written.is_file():
        earlier = Report.from_json(written.read_text(encoding="utf-8")).provenance.run_id
        if earlier != report.provenance.run_id:
            raise InputError(
                where=str(folder),
                expected=f"an empty folder or the run {report.provenance.run_id!r}",
                got=f"the report of run {earlier!r}",
                do="Choose another output folder, or remove this one.",
            )
    text, page = report.to_json(), render(report)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (("report.json", text), ("report.html", page)):
        partial = folder / f".{name}.{os.getpid()}.partial"
        partial.write_text(content, encoding="utf-8")
        partial.replace(folder / name)
    return folder / "report.html"


def render(report: Report) -> str:
    """The whole page as HTML (well-formed XML, so that it can be checked as such)."""
    tips, look = Tips.of(report.provenance), styles(report.arms)
    page = (
        environment()
        .get_template("report.html.jinja")
        .render(
            report=report,
            tips=tips,
            badge=page_first.badge(report.verdict),
            confidence=page_first.confidence(report, tips),
            changes=page_first.changes(report),
            unmeasured=page_first.unmeasured(report),
            swatch={name: Markup(swatch(style)) for name, style in look.items()},
            held=_held(report),
            columns=page_budget.columns(report.budget) if report.budget else (),
            spending=page_budget.spending(report.budget) if report.budget else (),
            studies=[view(study, report.arms, tips) for study in report.studies],
            families=_families(report),
            points_by_arm=_points_by_arm(report),
            letters=sorted(report.letters, key=lambda row: (-row.share, row.arm)),
            every_letter=every_letter(report.letters),
            plot={name: Markup(svg) for name, svg in _plots(report, tips).items()},
            common=common,
            tint=tint,
        )
    )
    return page.strip() + "\n"


def environment() -> Environment:
    """The templates beside this file, and the filters that they use."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    named = (words.percent, words.points, words.percents, words.count, words.flops, words.seconds, words.p_value)
    more = (words.decimal, words.signed, words.plural, words.lower_first, number_range, point_range, share_range)
    made.filters.update({function.__name__: function for function in (*named, *more, split_diff)})
    return made


def _plots(report: Report, tips: Tips) -> dict[str, str]:
    found, arms, closed = {}, report.arms, report.closed_loop
    if report.verdict.comparisons:
        found["forest"] = plots.forest(report.verdict.comparisons, arms, tips, page_budget.TOLERANCE)
    if closed and closed.curves:
        limits = {guard.name: guard.limit for guard in report.verdict.guards}
        floor, ceiling = limits.get("floor") or 0.60, limits.get("ceiling") or 0.95
        found["curves"] = plots.curves(closed.curves, arms, tips, floor=floor, ceiling=ceiling)
    if closed and closed.families:
        found["families"] = plots.family_dots(closed.families, arms, tips)
    if closed and closed.grounding:
        found["grounding"] = plots.grounding_dots(closed.grounding, arms, tips)
    if report.video:
        found["horizons"] = plots.horizons(report.video, arms, tips)
    if report.latency:
        found["duty"] = plots.duty_bars(report.latency, arms, tips)
    return found


def _held(report: Report) -> tuple[page_budget.HeldRow, ...]:
    held = page_budget.held_equal(report.budgets, report.arms)
    return tuple(row for row in held if report.budget is None or row.name not in page_budget.IN_PLAN)


def _families(report: Report) -> dict[str, dict[str, Rate]]:
    table: dict[str, dict[str, Rate]] = {}
    for row in report.closed_loop.families if report.closed_loop else ():
        table.setdefault(row.family, {})[row.arm] = row.rate
    return {family: table[family] for family in sorted(table)}


def _points_by_arm(report: Report) -> dict[str, dict[int, CurvePoint]]:
    """Per arm, its points by number of labels; every arm has the same numbers in the same order."""
    points = report.closed_loop.curves if report.closed_loop else ()
    labels = sorted({point.labels for point in points})
    found = {(point.arm, point.labels): point for point in points}
    return {
        arm.name: {number: found[arm.name, number] for number in labels if (arm.name, number) in found}
        for arm in report.arms
    }


def every_letter(rows: tuple[ArmLetters, ...]) -> tuple[str, ...]:
    """The letters in use, in their order: one column of the display each."""
    return tuple(sorted({letter for row in rows for letter in row.letters}))


def tint(share: float) -> str:
    """A background that grows with a share; the number itself is always printed on it."""
    return f"background: rgba(0, 114, 178, {0.05 + 0.23 * share:.3f})"


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
