"""From the cells of a matched experiment to what may be said: points, effects with intervals, one paragraph by rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from crossroads.cost.price import Device
from crossroads.evaluate.statistics import success_interval
from crossroads.pilot.budget import spend
from crossroads.pilot.design import Design
from crossroads.pilot.study import ALPHA, Amounts, Effect, Measure, Multiplier, Study, StudyArm, StudyPoint
from crossroads.pilot.study_cell import trainings_of
from crossroads.pilot.study_effects import (
    Compared,
    Table,
    column_name,
    columns,
    compared,
    convergences,
    significant,
    table_of,
)
from crossroads.pilot.study_measures import Records, measures_of
from crossroads.pilot.verdict import Guard
from crossroads.space import ActionSpace

FLOOR, CEILING = 0.60, 0.95


def study_of(
    design: Design,
    results: Sequence[dict[str, Any]],
    records: Records,
    *,
    space: ActionSpace,
    cameras: tuple[str, ...],
    device: Device,
) -> Study:
    """The whole study. Nothing is filled in for cells that have not run."""
    table = table_of(results, design)
    found = compared(design, results)
    asked = {condition.name for condition in design.conditions if condition.questions}
    played = {key: found for key, found in table.items() if key[2] not in asked}
    guards = (_floor(played), _ceiling(played), _runs(design), _plateau(found))
    return Study(
        key=design.key,
        title=design.title,
        question=design.question,
        arms=tuple(
            StudyArm(
                name=route.name,
                summary=route.summary,
                trained=_account(
                    [
                        result
                        for result in results
                        if result["route"] == route.name and not result.get("doubled", False)
                    ],
                    spend(trainings_of(design, route, space, cameras), device),
                ),
            )
            for route in design.routes
        ),
        conditions=tuple(column_name(design, labels, condition) for labels, condition in columns(design)),
        points=tuple(_points(design, table)),
        effects=(*(one for one in found if isinstance(one, Effect)), *convergences(design, results)),
        multipliers=tuple(one for one in found if isinstance(one, Multiplier)),
        measures=measures_of(design, results, records),
        finding=finding(found, guards, complete=len(_main(results)) == _num_cells(design)),
        guards=guards,
    )


def _num_cells(design: Design) -> int:
    return len(design.seeds) * sum(len(route.labels) for route in design.routes)


def _main(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the cells of the plateau check."""
    return [result for result in results if not result.get("doubled", False)]


def _account(results: Sequence[dict[str, Any]], planned: Amounts) -> Amounts:
    """What one cell of the arm took: planned sums, and the mean measured seconds where cells have run."""
    if not results:
        return planned
    seconds = float(np.mean([result["seconds"] for result in results]))
    return dataclasses.replace(planned, seconds=seconds, device_hours=seconds / 3600, money=None)


def _points(design: Design, table: Table):
    for labels, condition in columns(design):
        for route in design.routes:
            found = table.get((route.name, labels, condition))
            if found is not None:
                yield StudyPoint(
                    arm=route.name,
                    condition=column_name(design, labels, condition),
                    successes=int(found.sum()),
                    trials=found.size,
                    runs=len(found),
                    interval=success_interval(found),
                )


def finding(found: Sequence[Compared], guards: Sequence[Guard], *, complete: bool) -> str:
    """The paragraph, by the same rules for every result: what is settled, what is not, what forbids reading it."""
    if not found:
        return "Nothing can be said yet: no comparison has all its training runs."
    turned = [one for one in found if significant(one) and one.plateau == "turns"]
    settled = [one for one in found if significant(one) and one.plateau != "turns"]
    open_ = [one for one in found if not significant(one)]
    parts = [] if complete else ["Not every cell has run; what follows is from those that have."]
    if settled:
        parts.append(f"Settled at p <= {ALPHA} after Holm's correction over {len(found)} comparisons:")
        parts.append("; ".join(map(_said, settled)) + ".")
    else:
        parts.append(f"None of the {len(found)} comparisons is settled at p <= {ALPHA} after Holm's correction.")
    if turned:
        parts.append("Not settled, because it turns when its arms train twice as long:")
        parts.append("; ".join(map(_said, turned)) + ".")
    if open_:
        differences = [one for one in open_ if isinstance(one, Effect)]
        parts.append(f"{len(open_)} are open")
        if differences:
            parts[-1] += f"; the largest difference of these: {_said(max(differences, key=lambda one: abs(one.value)))}"
        parts[-1] += "."
    for guard in guards:
        if guard.status in ("fail", "caution", "not checked"):
            parts.append(f"{guard.name.capitalize()}: {guard.note}")
    return " ".join(parts)


def _said(found: Compared) -> str:
    if isinstance(found, Multiplier):
        return f"{found.name}: {found.second} needs {found.said}, compared with {found.first}"
    low, high = found.interval.low, found.interval.high
    if found.unit == "times":
        pair = f"{found.first} against {found.second}"
        return f"{found.name}, {found.condition}: {found.value:.2f} times [{low:.2f}, {high:.2f}] ({pair})"
    return (
        f"{found.name}, {found.condition}: {_signed(found.value)} points "
        f"[{_signed(low)}, {_signed(high)}] ({found.first} against {found.second})"
    )


def _signed(share: float) -> str:
    return f"{100 * share:+.0f}".replace("-", "\N{MINUS SIGN}")


def _floor(table: Table) -> Guard:
    best = max((float(found.mean()) for found in table.values()), default=0.0)
    status = "pass" if best >= FLOOR else "fail"
    note = f"the best arm of the design reaches {100 * best:.0f} %"
    note += "." if status == "pass" else f", below {100 * FLOOR:.0f} %: differences may be those of badly trained arms."
    return Guard(name="floor", status=status, value=best, limit=FLOOR, note=note)


def _ceiling(table: Table) -> Guard:
    high = sum(float(found.mean()) >= CEILING for found in table.values())
    note = f"{high} of {len(table)} points lie at {100 * CEILING:.0f} % or above, where differences are not read."
    return Guard(name="ceiling", status="caution" if high else "pass", value=float(high), limit=None, note=note)


def _runs(design: Design) -> Guard:
    num = len(design.seeds)
    note = f"{num} training runs per arm enter every interval."
    return Guard(name="training runs", status="pass" if num >= 3 else "caution", value=float(num), limit=3.0, note=note)


def _plateau(found: Sequence[Compared]) -> Guard:
    """Whether what would be settled keeps its sign when its arms train with twice the steps."""
    asked = [one for one in found if significant(one)]
    turned = [one for one in asked if one.plateau == "turns"]
    unchecked = [one for one in asked if one.plateau == "not checked"]
    status = "fail" if turned else "not checked" if unchecked else "pass"
    if not asked:
        note = "nothing is settled, so nothing had to be trained twice as long."
    elif turned:
        note = f"{len(turned)} of {len(asked)} effects turn with twice the steps and are not settled."
    elif unchecked:
        note = (
            f"not checked for {len(unchecked)} of {len(asked)} effects: their arms were not trained twice as long; "
            "a short training can turn the sign of a difference."
        )
    else:
        note = f"all {len(asked)} settled effects keep their sign with twice the steps."
    return Guard(name="plateau", status=status, value=float(len(turned)) if asked else None, limit=0.0, note=note)


def as_text(study: Study) -> str:
    """The study as text: shares by arm and condition, effects, finding."""
    width = max(len(arm.name) for arm in study.arms) + 2
    lines = [study.title, study.question, ""]
    lines.append(" " * width + "".join(f"{name:>24}" for name in study.conditions))
    for arm in study.arms:
        cells = {point.condition: point for point in study.points if point.arm == arm.name}
        shown = [
            f"{p.share:.2f} [{p.interval.low:.2f}, {p.interval.high:.2f}]" if (p := cells.get(name)) else "-"
            for name in study.conditions
        ]
        lines.append(f"{arm.name:{width}}" + "".join(f"{cell:>24}" for cell in shown))
    lines.append("")
    for effect in study.effects:
        p = "" if effect.p_value is None else f", p {effect.p_value:.2g}"
        lines.append(f"{_said(effect)}{p}{_checked(effect)}")
    lines += [f"{_said(one)}, p {one.p_value:.2g}{_checked(one)}" for one in study.multipliers]
    for name in dict.fromkeys(measure.name for measure in study.measures):
        rows = [measure for measure in study.measures if measure.name == name]
        lines += ["", f"{name}: {rows[0].note}", *(f"  {row.arm}, {row.condition}: {_valued(row)}" for row in rows)]
    return "\n".join([*lines, "", study.finding])


def _checked(found: Compared) -> str:
    return f"; with twice the steps it {found.plateau}" if found.plateau != "not checked" else ""


def _valued(measure: Measure) -> str:
    scale = 1 if measure.unit == "ratio" else 100
    unit = {"share": " %", "points": " points", "ratio": ""}[measure.unit]
    digits = 2 if measure.unit == "ratio" else 0
    value = f"{scale * measure.value:.{digits}f}{unit}"
    if measure.interval is None:
        return f"{value}, {measure.trials} trials"
    low, high = scale * measure.interval.low, scale * measure.interval.high
    return f"{value} [{low:.{digits}f}, {high:.{digits}f}], {measure.trials} trials"
