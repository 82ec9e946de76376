"""The plots of a pilot as inline SVG; ``plots_studies.py`` draws those of the matched designs.

Marks are explained beside a plot by the page, and every plotted number is also in a table there.
"""

from __future__ import annotations

from collections.abc import Sequence

from crossroads.evaluate.grounding import Rate
from crossroads.evaluate.statistics import Interval
from crossroads.pilot.drawing import (
    FAINT,
    INK,
    LINE,
    axes_of,
    house_style,
    level,
    rows,
    share_axis,
    styles,
    svg,
    upright,
)
from crossroads.pilot.report import Arm, ArmGrounding, ArmLatency, ArmVideo, CurvePoint, FamilyRate
from crossroads.pilot.tips import Tips
from crossroads.pilot.verdict import Comparison

DASHED = (0, (4, 3))


def curves(points: Sequence[CurvePoint], arms: Sequence[Arm], tips: Tips, *, floor: float, ceiling: float) -> str:
    """Success against labelled demonstrations, one line per arm, with intervals."""
    with house_style():
        figure, axes = axes_of(6.6, 3.5)
        look, labels = styles(arms), sorted({p.labels for p in points})
        place = {count: index for index, count in enumerate(labels)}
        shown = [arm for arm in arms if any(p.arm == arm.name for p in points)]
        step = min(0.09, 0.8 / max(len(shown), 1))
        for index, arm in enumerate(shown):
            mine = sorted((p for p in points if p.arm == arm.name), key=lambda p: p.labels)
            x = [place[p.labels] + step * (index - (len(shown) - 1) / 2) for p in mine]
            axes.plot(x, [p.share for p in mine], color=look[arm.name].colour, lw=1.6)
            for at, p in zip(x, mine, strict=True):
                tip = f"{arm.name}, {p.labels:,} labels: {tips.share(p.successes, p.trials, p.interval, p.runs)}"
                upright(axes, at, p.share, p.interval, look[arm.name], tip)
        for height, name in ((floor, "floor"), (ceiling, "ceiling")):
            axes.axhline(height, color=FAINT, linewidth=0.8, linestyle=DASHED)
            axes.text(-0.52, height + 0.012, f"{name} {100 * height:.0f} %", color=FAINT)
        axes.set_xticks(range(len(labels)), [f"{count:,}" for count in labels])
        axes.set_xlim(-0.55, len(labels) - 0.45)
        share_axis(axes, "y")
        axes.set_xlabel("labelled demonstrations (steps of the axis are not to scale)")
        axes.set_ylabel("closed-loop success")
        return svg(figure, "curves", "Success against the number of labelled demonstrations, by arm")


def forest(comparisons: Sequence[Comparison], arms: Sequence[Arm], tips: Tips, smallest: float) -> str:
    """Difference of each WAM arm to the VLA arm, with its interval; the band is too small to matter."""
    with house_style():
        figure, axes = axes_of(5.8, 0.85 + 0.42 * len(comparisons))
        look = styles(arms)
        axes.axvspan(-100 * smallest, 100 * smallest, color="#eef0f2", linewidth=0)
        axes.axvline(0, color=INK, linewidth=0.9)
        for row, found in enumerate(comparisons):
            reach = Interval(low=100 * found.interval.low, high=100 * found.interval.high)
            level(axes, 100 * found.difference, row, reach, look[found.wam], tips.comparison(found), 8)
        ends = (100 * max(abs(c.interval.low), abs(c.interval.high)) for c in comparisons)
        side = max(12.0, *ends) * 1.12
        axes.set_xlim(-side, side)
        rows(axes, [c.wam for c in comparisons])
        axes.set_xlabel("success difference, points")
        for x, align, text in (
            (0.0, "left", f"\N{LEFTWARDS ARROW} {comparisons[0].vla} better"),
            (1.0, "right", "WAM better \N{RIGHTWARDS ARROW}"),
        ):
            axes.text(x, 1.02, text, transform=axes.transAxes, ha=align, va="bottom", color=FAINT)
        return svg(figure, "forest", "Difference of each WAM arm to the VLA arm with interval")


def family_dots(found: Sequence[FamilyRate], arms: Sequence[Arm], tips: Tips) -> str:
    """Success by task family, one mark per arm."""
    named = {row.family for row in found}
    groups = [(family, {r.arm: r.rate for r in found if r.family == family}) for family in sorted(named)]
    return _dots(groups, arms, tips, "families", "Success by task family and arm", "success")


GROUNDING_ROWS = (
    ("success", "usual instruction: success"),
    ("swap_score", "swapped instruction: success"),
    ("habit", "swapped: does the old task"),
    ("following", "first touches the named object"),
    ("wrong_object", "first touches another object"),
)


def grounding_dots(found: Sequence[ArmGrounding], arms: Sequence[Arm], tips: Tips) -> str:
    """What each arm does with its words."""
    groups = []
    for name, title in GROUNDING_ROWS:
        rates = {row.arm: getattr(row.grounding, name) for row in found}
        if any(rates.values()):
            groups.append((title, {arm: rate for arm, rate in rates.items() if rate is not None}))
    return _dots(groups, arms, tips, "grounding", "Grounding figures by arm", "share of trials")


def _dots(
    groups: Sequence[tuple[str, dict[str, Rate]]], arms: Sequence[Arm], tips: Tips, name: str, label: str, axis: str
) -> str:
    with house_style():
        shown = [arm for arm in arms if any(arm.name in rates for _, rates in groups)]
        step = 0.8 / max(len(shown), 3)
        figure, axes = axes_of(5.6, 0.9 + len(groups) * (0.2 + 0.13 * max(len(shown), 2)))
        look = styles(arms)
        for index, arm in enumerate(shown):
            for row, (title, rates) in enumerate(groups):
                if (rate := rates.get(arm.name)) is not None:
                    y = row + step * (index - (len(shown) - 1) / 2)
                    tip = f"{arm.name}, {title}: {tips.rate(rate)}"
                    level(axes, rate.share, y, rate.interval, look[arm.name], tip, 6)
        for row in range(1, len(groups)):
            axes.axhline(row - 0.5, color=LINE, linewidth=0.8)
        rows(axes, [title for title, _ in groups], margin=0.5)
        share_axis(axes, "x")
        axes.set_xlabel(axis)
        return svg(figure, name, label)


def horizons(found: Sequence[ArmVideo], arms: Sequence[Arm], tips: Tips) -> str:
    """PSNR where something moves, against time ahead, beside repeating the last frame (dashed)."""
    with house_style():
        figure, axes = axes_of(5.8, 2.9)
        look = styles(arms)
        for row in found:
            kept = [s for s in row.scores if s.moving_psnr_db is not None]
            times, style = [s.time_s for s in kept], look[row.arm]
            axes.plot(times, [s.moving_psnr_db for s in kept], color=style.colour)  # pyright: ignore[reportArgumentType]
            for s in kept:
                tip = tips.measured(
                    f"{row.arm}, {s.time_s:g} s ahead: {s.moving_psnr_db:.1f} dB", f"{s.num_clips} clips"
                )
                axes.plot([s.time_s], [s.moving_psnr_db], style.mark, color=style.colour, gid=f"tip:{tip}")  # pyright: ignore[reportArgumentType]
            if row is found[-1]:
                repeat = [s.moving_psnr_repeat_db for s in kept]
                axes.plot(times, repeat, color=FAINT, linestyle=DASHED)  # pyright: ignore[reportArgumentType]
        axes.set_xlabel("time ahead, s")
        axes.set_ylabel("PSNR where it moves, dB")
        return svg(figure, "horizons", "Video quality against time ahead, by arm")


def duty_bars(found: Sequence[ArmLatency], arms: Sequence[Arm], tips: Tips) -> str:
    """Latency as a share of the time that a chunk lasts: median bar, line to the 95th percentile."""
    with house_style():
        figure, axes = axes_of(5.6, 0.85 + 0.36 * len(found))
        look, reach = styles(arms), 1.15
        for row, timed in enumerate(found):
            median, late = (x / timed.chunk_s for x in (timed.latency.median_s, timed.latency.p95_s))
            axes.plot([0, median], [row, row], color=look[timed.arm].colour, lw=11, solid_capstyle="butt")
            axes.plot([median, late], [row, row], color=INK, lw=1)
            tip = f"{timed.arm}: {tips.latency(timed.latency)}"
            axes.plot([late], [row], "|", color=INK, markersize=8, gid=f"tip:{tip}")
            reach = max(reach, 1.1 * late)
        axes.axvline(1, color=INK, linewidth=1, linestyle=DASHED)
        axes.set_xlim(0, reach)
        rows(axes, [r.arm for r in found])
        axes.set_xlabel("duty: latency / duration of the chunk (at 1 the robot waits)")
        return svg(figure, "duty", "Duty of each arm: latency over the duration of its chunk")
