"""From the cells of a matched experiment to what may be said: points, effects with intervals, one paragraph by rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from crossroads.cost.price import Device
from crossroads.evaluate.statistics import (
    Interval,
    difference_over_runs,
    holm,
    mcnemar_exact,
    paired_counts,
    paired_difference,
    success_interval,
)
from crossroads.pilot.budget import spend
from crossroads.pilot.design import Contrast, Design
from crossroads.pilot.study import Amounts, Effect, Study, StudyArm, StudyPoint
from crossroads.pilot.study_cell import trainings_of
from crossroads.pilot.verdict import Guard
from crossroads.space import ActionSpace

ALPHA = 0.05
FLOOR, CEILING = 0.60, 0.95
Table = dict[tuple[str, int, str], np.ndarray]
"""Successes, training runs x scenes, by arm, labels and condition."""


def table_of(results: Sequence[dict[str, Any]], design: Design) -> Table:
    """The successes of finished cells; an arm whose seeds are not all finished is left out."""
    rows: dict[tuple[str, int, str], dict[int, list[int]]] = {}
    for result in results:
        for condition, successes in result["conditions"].items():
            rows.setdefault((result["route"], result["labels"], condition), {})[result["seed"]] = successes
    return {
        key: np.array([found[seed] for seed in design.seeds])
        for key, found in rows.items()
        if set(found) == set(design.seeds)
    }


def study_of(
    design: Design, results: Sequence[dict[str, Any]], *, space: ActionSpace, cameras: tuple[str, ...], device: Device
) -> Study:
    """The whole study. Nothing is filled in for cells that have not run."""
    table = table_of(results, design)
    effects = _corrected([effect for contrast in design.contrasts for effect in _effects(design, contrast, table)])
    guards = (_floor(design, table), _ceiling(table), _runs(design), _plateau())
    return Study(
        key=design.key,
        title=design.title,
        question=design.question,
        arms=tuple(
            StudyArm(
                name=route.name,
                summary=route.summary,
                trained=_account(
                    [result for result in results if result["route"] == route.name],
                    spend(trainings_of(design, route, space, cameras), device),
                ),
            )
            for route in design.routes
        ),
        conditions=tuple(_name(design, labels, condition) for labels, condition in _columns(design)),
        points=tuple(_points(design, table)),
        effects=effects,
        finding=finding(effects, guards, complete=len(results) == _num_cells(design)),
        guards=guards,
    )


def _num_cells(design: Design) -> int:
    return len(design.seeds) * sum(len(route.labels) for route in design.routes)


def _account(results: Sequence[dict[str, Any]], planned: Amounts) -> Amounts:
    """What one cell of the arm took: planned sums, and the mean measured seconds where cells have run."""
    if not results:
        return planned
    seconds = float(np.mean([result["seconds"] for result in results]))
    return dataclasses.replace(planned, seconds=seconds, device_hours=seconds / 3600, money=None)


def _columns(design: Design) -> list[tuple[int, str]]:
    sizes = sorted({size for route in design.routes for size in route.labels})
    return [(size, condition.name) for size in sizes for condition in design.conditions]


def _name(design: Design, labels: int, condition: str) -> str:
    if len(design.conditions) == 1:
        return str(labels) if design.key == "labels" else f"{labels} labels"
    sizes = {size for route in design.routes for size in route.labels}
    return condition if len(sizes) == 1 else f"{labels} labels, {condition}"


def _points(design: Design, table: Table):
    for labels, condition in _columns(design):
        for route in design.routes:
            found = table.get((route.name, labels, condition))
            if found is not None:
                yield StudyPoint(
                    arm=route.name,
                    condition=_name(design, labels, condition),
                    successes=int(found.sum()),
                    trials=found.size,
                    runs=len(found),
                    interval=success_interval(found),
                )


def _effects(design: Design, contrast: Contrast, table: Table):
    for labels, condition in _columns(design):
        a = table.get((contrast.first, labels, condition))
        b = table.get((contrast.second, labels, condition))
        if a is None or b is None:
            continue
        interval, p_value = _difference(a, b)
        yield Effect(
            name=contrast.name,
            first=contrast.first,
            second=contrast.second,
            condition=_name(design, labels, condition),
            value=float(a.mean() - b.mean()),
            unit="points",
            interval=interval,
            p_value=p_value,
            runs=len(a),
            trials=a.size,
        )


def _difference(a: np.ndarray, b: np.ndarray) -> tuple[Interval, float]:
    """Over training runs and scenes where there are several runs; over scenes alone for one."""
    if len(a) > 1:
        found = difference_over_runs(a, b, 1 - ALPHA)
        return found.interval, found.p_value
    counts = paired_counts(a, b)
    return paired_difference(counts, 1 - ALPHA), mcnemar_exact(
        counts.both, counts.only_a, counts.only_b, counts.neither
    )


def _corrected(effects: Sequence[Effect]) -> tuple[Effect, ...]:
    """Holm over every effect of the design."""
    names = [f"{index}" for index in range(len(effects))]
    adjusted = holm({name: effect.p_value for name, effect in zip(names, effects, strict=True) if effect.p_value})
    return tuple(
        dataclasses.replace(effect, p_value=adjusted.get(name, effect.p_value))
        for name, effect in zip(names, effects, strict=True)
    )


def finding(effects: Sequence[Effect], guards: Sequence[Guard], *, complete: bool) -> str:
    """The paragraph, by the same rules for every result: what is settled, what is not, what forbids reading it."""
    if not effects:
        return "Nothing can be said yet: no comparison has all its training runs."
    settled = [effect for effect in effects if effect.p_value is not None and effect.p_value <= ALPHA]
    open_ = [effect for effect in effects if effect not in settled]
    parts = [] if complete else ["Not every cell has run; what follows is from those that have."]
    if settled:
        parts.append(f"Settled at p <= {ALPHA} after Holm's correction over {len(effects)} effects:")
        parts += [f"{_said(effect)};" for effect in settled]
        parts[-1] = parts[-1][:-1] + "."
    else:
        parts.append(f"None of the {len(effects)} effects is settled at p <= {ALPHA} after Holm's correction.")
    if open_:
        widest = max(open_, key=lambda effect: abs(effect.value))
        parts.append(f"{len(open_)} are open; the largest of these: {_said(widest)}.")
    for guard in guards:
        if guard.status in ("fail", "caution", "not checked"):
            parts.append(f"{guard.name.capitalize()}: {guard.note}")
    return " ".join(parts)


def _said(effect: Effect) -> str:
    low, high = effect.interval.low, effect.interval.high
    return (
        f"{effect.name}, {effect.condition}: {_signed(effect.value)} points "
        f"[{_signed(low)}, {_signed(high)}] ({effect.first} against {effect.second})"
    )


def _signed(share: float) -> str:
    return f"{100 * share:+.0f}".replace("-", "\N{MINUS SIGN}")


def _floor(design: Design, table: Table) -> Guard:
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


def _plateau() -> Guard:
    note = "not checked: the arms were not trained twice as long; a short training can turn the sign of a difference."
    return Guard(name="plateau", status="not checked", value=None, limit=None, note=note)


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
        lines.append(f"{_said(effect)}{p}")
    return "\n".join([*lines, "", study.finding])
