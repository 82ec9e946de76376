"""The plots of one matched design: measured shares by condition and arm, and its effects with intervals."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from crossroads.evaluate.statistics import Interval
from crossroads.pilot.drawing import INK, LINE, Style, axes_of, house_style, level, rows, share_axis, svg, upright
from crossroads.pilot.study import Effect, Study, StudyPoint
from crossroads.pilot.tips import Tips

DECIDED, OPEN = Style(colour=INK, mark="o"), Style(colour="#85898f", mark="o")
LINE_LETTERS = 38
LONGEST = 5
"""Conditions that fit side by side; more of them become rows."""


def study_points(study: Study, look: Mapping[str, Style], tips: Tips) -> str:
    """Every measured share with its interval; joined by lines where the conditions are numbers of labels."""
    with house_style():
        lying = len(study.conditions) * len(study.arms) > 8 * LONGEST
        height = 0.9 + len(study.conditions) * (0.2 + 0.13 * len(study.arms)) if lying else 3.4
        figure, axes = axes_of(5.4 if lying else 6.6, height)
        for index, arm in enumerate(study.arms):
            mine = [p for p in study.points if p.arm == arm.name]
            mine.sort(key=lambda p: study.conditions.index(p.condition))
            _one_arm(axes, study, mine, index, look[arm.name], tips, lying)
        names = [textwrap.fill(name, 26 if lying else max(8, 60 // len(study.conditions))) for name in study.conditions]
        if lying:
            rows(axes, names, margin=0.5)
        else:
            axes.set_xticks(range(len(names)), names)
            axes.tick_params(axis="x", length=0, labelcolor=INK)
            axes.set_xlim(-0.5, len(names) - 0.5)
            axes.grid(axis="x", visible=False)
        for edge in range(1, len(names)):
            (axes.axhline if lying else axes.axvline)(edge - 0.5, color=LINE, linewidth=0.8)
        share_axis(axes, "x" if lying else "y")
        (axes.set_xlabel if lying else axes.set_ylabel)("closed-loop success")
        if study.key == "labels":
            axes.set_xlabel("labelled demonstrations (steps of the axis are not to scale)")
        return svg(figure, f"study-{study.key}-points", f"{study.title}: success by condition and arm")


def _one_arm(
    axes: Axes, study: Study, mine: Sequence[StudyPoint], index: int, style: Style, tips: Tips, lying: bool
) -> None:
    shift = 0.72 / max(len(study.arms), 3) * (index - (len(study.arms) - 1) / 2)
    places = [study.conditions.index(p.condition) + shift for p in mine]
    if study.key == "labels" and not lying:
        axes.plot(places, [p.share for p in mine], color=style.colour, lw=1.2, alpha=0.6)
    for at, p in zip(places, mine, strict=True):
        tip = f"{p.arm}, {p.condition}: {tips.share(p.successes, p.trials, p.interval, p.runs)}"
        if lying:
            level(axes, p.share, at, p.interval, style, tip)
        else:
            upright(axes, at, p.share, p.interval, style, tip)


def effect_forest(study: Study, unit: str, tips: Tips) -> str:
    """The effects of one unit with their intervals; black where the interval leaves out 'no effect'."""
    with house_style():
        shown = [effect for effect in study.effects if effect.unit == unit]
        names = [_named(study, effect, shown) for effect in shown]
        lines = 1 + max(name.count("\n") for name in names)
        figure, axes = axes_of(4.4, 0.75 + (0.19 + 0.16 * lines) * len(names))
        scale, nothing = (100.0, 0.0) if unit == "points" else (1.0, 1.0)
        axes.axvline(nothing, color=INK, linewidth=0.9)
        for row, effect in enumerate(shown):
            reach = Interval(low=scale * effect.interval.low, high=scale * effect.interval.high)
            style = DECIDED if effect.decided else OPEN
            level(axes, scale * effect.value, row, reach, style, tips.effect(effect), 7)
        rows(axes, names)
        axes.set_xlabel("difference, points (first minus second)" if unit == "points" else "ratio (first over second)")
        return svg(figure, f"study-{study.key}-effects-{unit}", f"{study.title}: effects with intervals, {unit}")


def _named(study: Study, effect: Effect, shown: Sequence[Effect]) -> str:
    """The name, and the condition where the effects have several: behind it if that fits, else below."""
    if len({other.condition for other in shown}) == 1:
        return textwrap.fill(effect.name, LINE_LETTERS)
    unit = " labels" if study.key == "labels" and effect.condition.isdigit() else ""
    name, condition = textwrap.fill(effect.name, LINE_LETTERS), f"({effect.condition}{unit})"
    return f"{name}{' ' if len(name) + len(condition) < LINE_LETTERS else chr(10)}{condition}"
