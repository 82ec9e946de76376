"""The matched designs as the page shows them: swatches, a table of points, rows of effects, plots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from crossroads.pilot import plots_studies
from crossroads.pilot.drawing import study_styles, swatch
from crossroads.pilot.page_budget import amounts
from crossroads.pilot.report import Arm, ArmLetters, CurvePoint
from crossroads.pilot.study import Effect, Measure, Study, StudyArm, StudyPoint
from crossroads.pilot.tips import Tips, size, span
from crossroads.pilot.verdict import Guard
from crossroads.pilot.words import decimal, p_value, percent, plural, points


@dataclass(frozen=True, kw_only=True)
class ArmRow:
    """One arm of a design: its points in the order of the conditions, and what it was trained with."""

    arm: StudyArm
    points: tuple[StudyPoint | None, ...]
    trained: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class EffectRow:
    """One effect as text."""

    effect: Effect
    size: str
    span: str
    p: str
    tip: str


@dataclass(frozen=True, kw_only=True)
class MeasureCell:
    """One figure as text."""

    value: str
    span: str
    tip: str


@dataclass(frozen=True, kw_only=True)
class MeasureTable:
    """One measure: arms by conditions."""

    name: str
    note: str
    conditions: tuple[str, ...]
    rows: tuple[tuple[str, tuple[MeasureCell | None, ...]], ...]


@dataclass(frozen=True, kw_only=True)
class StudyView:
    """One design, ready for the template."""

    study: Study
    swatch: dict[str, Markup]
    rows: tuple[ArmRow, ...]
    effects: tuple[EffectRow, ...]
    checked: bool
    """Whether any comparison was asked again with twice the steps."""
    measures: tuple[MeasureTable, ...]
    points_plot: Markup
    effect_plots: tuple[Markup, ...]
    common: str
    """Trials and runs that all points share, in words; empty where they differ."""
    doubts: tuple[Guard, ...]
    """Guards that were not passed."""


def common(points: Sequence[StudyPoint | CurvePoint | ArmLetters]) -> str:
    """'300 episodes over 3 training runs', where that holds for every point; else empty."""
    sizes = {(point.trials, point.runs) for point in points}
    if len(sizes) != 1:
        return ""
    trials, runs = sizes.pop()
    return f"{plural(trials, 'episode')} over {plural(runs, 'training run')}"


def view(study: Study, arms: Sequence[Arm], tips: Tips) -> StudyView:
    """Everything that the page shows of one design."""
    look = study_styles(study, arms)
    at = {(point.arm, point.condition): point for point in study.points}
    units = [unit for unit in ("points", "times") if any(effect.unit == unit for effect in study.effects)]
    return StudyView(
        study=study,
        swatch={name: Markup(swatch(style)) for name, style in look.items()},
        rows=tuple(
            ArmRow(
                arm=arm,
                points=tuple(at.get((arm.name, condition)) for condition in study.conditions),
                trained=amounts(arm.trained, None),
            )
            for arm in study.arms
        ),
        effects=tuple(
            EffectRow(
                effect=effect,
                size=size(effect),
                span=span(effect),
                p="\N{EN DASH}" if effect.p_value is None else p_value(effect.p_value),
                tip=tips.effect(effect),
            )
            for effect in study.effects
        ),
        checked=any(one.plateau != "not checked" for one in (*study.effects, *study.multipliers)),
        measures=tuple(_measures(study, tips)),
        points_plot=Markup(plots_studies.study_points(study, look, tips)),
        effect_plots=tuple(Markup(plots_studies.effect_forest(study, unit, tips)) for unit in units),
        common=common(study.points),
        doubts=tuple(guard for guard in study.guards if guard.status != "pass"),
    )


def _measures(study: Study, tips: Tips) -> Iterator[MeasureTable]:
    for name in dict.fromkeys(measure.name for measure in study.measures):
        mine = [measure for measure in study.measures if measure.name == name]
        conditions = tuple(dict.fromkeys(measure.condition for measure in mine))
        at = {(measure.arm, measure.condition): measure for measure in mine}
        yield MeasureTable(
            name=name,
            note=mine[0].note,
            conditions=conditions,
            rows=tuple(
                (arm, tuple(_cell(at.get((arm, condition)), tips) for condition in conditions))
                for arm in dict.fromkeys(measure.arm for measure in mine)
            ),
        )


def _cell(found: Measure | None, tips: Tips) -> MeasureCell | None:
    if found is None:
        return None
    write = {"share": percent, "points": points, "ratio": decimal}[found.unit]
    value = write(found.value)
    interval = "" if found.interval is None else f"{write(found.interval.low)} to {write(found.interval.high)}"
    trials = f"{found.trials} trials" if found.trials else ""
    said = ", ".join(part for part in (interval and f"95 % interval {interval}", trials) if part)
    return MeasureCell(
        value=value, span=interval, tip=tips.measured(f"{found.arm}, {found.condition}: {found.name} {value}, {said}")
    )
