"""The matched designs as the page shows them: swatches, a table of points, rows of effects, plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from crossroads.pilot import plots_studies
from crossroads.pilot.drawing import study_styles, swatch
from crossroads.pilot.page_budget import amounts
from crossroads.pilot.report import Arm, ArmLetters, CurvePoint
from crossroads.pilot.study import Effect, Study, StudyArm, StudyPoint
from crossroads.pilot.tips import Tips, size, span
from crossroads.pilot.verdict import Guard
from crossroads.pilot.words import p_value, plural


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
class StudyView:
    """One design, ready for the template."""

    study: Study
    swatch: dict[str, Markup]
    rows: tuple[ArmRow, ...]
    effects: tuple[EffectRow, ...]
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
        points_plot=Markup(plots_studies.study_points(study, look, tips)),
        effect_plots=tuple(Markup(plots_studies.effect_forest(study, unit, tips)) for unit in units),
        common=common(study.points),
        doubts=tuple(guard for guard in study.guards if guard.status != "pass"),
    )
