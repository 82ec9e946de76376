"""The plots of the report as inline SVG, in one set of colours and marks that the tables share.

Colours are mostly those of Okabe and Ito (2008, "Color universal design"), told apart with the common colour-vision
deficiencies; every arm also has its own mark. Same report, same bytes: the salt of the identifiers is fixed and no date
is written.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle

from crossroads.evaluate.grounding import Rate
from crossroads.pilot.report import Arm, ArmGrounding, ArmLatency, ArmVideo, CurvePoint, FamilyRate
from crossroads.pilot.verdict import Comparison

INK, FAINT, LINE = "#1c1e21", "#5c6066", "#d9dce0"
_COLOURS = {
    "VLA": ("#0072B2", "#56B4E9"),
    "WAM": ("#D55E00", "#009E73", "#CC79A7", "#E69F00", "#8C510A", "#44AA99"),
    "control": ("#6b6f75", "#9a9ea4", "#3f4246"),
}
_MARKS = {"VLA": ("o", "8"), "WAM": ("s", "^", "D", "v", "P", "h"), "control": ("X", "d", "p")}
_RC = {
    "svg.hashsalt": "crossroads",
    "svg.fonttype": "none",
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#9a9ea4",
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.facecolor": "white",
}


@dataclass(frozen=True, kw_only=True)
class Style:
    """Colour and mark of one arm."""

    colour: str
    mark: str


def styles(arms: Sequence[Arm]) -> dict[str, Style]:
    """One style per arm: blues for VLA, warm and green for WAM, greys for controls; repeats after the last."""
    found, seen = {}, {"VLA": 0, "WAM": 0, "control": 0}
    for arm in arms:
        index, colours, marks = seen[arm.kind], _COLOURS[arm.kind], _MARKS[arm.kind]
        found[arm.name] = Style(colour=colours[index % len(colours)], mark=marks[index % len(marks)])
        seen[arm.kind] += 1
    return found


def swatch(style: Style) -> str:
    """The arm's mark as a tiny inline SVG, for table rows."""
    mark = MarkerStyle(style.mark)
    outline = mark.get_path().transformed(mark.get_transform())
    points = [" L ".join(f"{x:.3f} {-y:.3f}" for x, y in polygon) for polygon in outline.to_polygons()]  # pyright: ignore[reportGeneralTypeIssues]
    path = " ".join(f"M {polygon} Z" for polygon in points)
    box = 'viewBox="-0.7 -0.7 1.4 1.4" width="12" height="12"'
    return f'<svg class="swatch" {box} aria-hidden="true"><path d="{path}" fill="{style.colour}"/></svg>'


def curves(points: Sequence[CurvePoint], arms: Sequence[Arm], *, floor: float, ceiling: float) -> str:
    """Success against labelled demonstrations, one line per arm, with intervals."""
    with matplotlib.rc_context(_RC):  # pyright: ignore[reportArgumentType]
        figure, axes = _axes(7.6, 3.7)
        look, labels = styles(arms), sorted({p.labels for p in points})
        place = {count: index for index, count in enumerate(labels)}
        shown = [arm for arm in arms if any(p.arm == arm.name for p in points)]
        for index, arm in enumerate(shown):
            mine = sorted((p for p in points if p.arm == arm.name), key=lambda p: p.labels)
            x = [place[p.labels] + 0.09 * (index - (len(shown) - 1) / 2) for p in mine]
            _bars(axes, x, [p.share for p in mine], [p.interval for p in mine], look[arm.name], arm.name, line="-")
        for level, name in ((floor, "floor"), (ceiling, "ceiling")):
            axes.axhline(level, color=FAINT, linewidth=0.8, linestyle=(0, (4, 3)))
            axes.text(-0.52, level + 0.012, f"{name} {100 * level:.0f} %", color=FAINT)
        axes.set_xticks(range(len(labels)), [f"{count:,}" for count in labels])
        axes.set_xlim(-0.55, len(labels) - 0.45)
        _share_axis(axes.yaxis, axes.set_ylim, axes.set_yticks)
        axes.set_xlabel("labelled demonstrations (steps of the axis are not to scale)")
        axes.set_ylabel("closed-loop success")
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
        return _svg(figure, "curves", "Success against the number of labelled demonstrations, by arm", 900)


def forest(comparisons: Sequence[Comparison], arms: Sequence[Arm], smallest: float) -> str:
    """Difference of each WAM arm to the VLA arm, with its interval; the band is too small to matter."""
    with matplotlib.rc_context(_RC):  # pyright: ignore[reportArgumentType]
        figure, axes = _axes(7.0, 0.85 + 0.42 * len(comparisons))
        look = styles(arms)
        axes.axvspan(-100 * smallest, 100 * smallest, color="#eef0f2", linewidth=0)
        axes.axvline(0, color=INK, linewidth=0.9)
        for row, found in enumerate(comparisons):
            style, middle = look[found.wam], 100 * found.difference
            axes.plot([100 * found.interval.low, 100 * found.interval.high], [row, row], color=style.colour, lw=2)
            axes.plot([middle], [row], marker=style.mark, color=style.colour, markersize=8)
        reach = max(12.0, *(100 * max(abs(c.interval.low), abs(c.interval.high)) for c in comparisons)) * 1.12
        axes.set_xlim(-reach, reach)
        axes.set_ylim(len(comparisons) - 0.4, -0.6)
        axes.set_yticks(range(len(comparisons)), [c.wam for c in comparisons])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("success difference, points")
        for x, side, text in (
            (0.0, "left", f"\N{LEFTWARDS ARROW} {comparisons[0].vla} better"),
            (1.0, "right", "WAM better \N{RIGHTWARDS ARROW}"),
        ):
            axes.text(x, 1.02, text, transform=axes.transAxes, ha=side, va="bottom", color=FAINT)
        return _svg(figure, "forest", "Difference of each WAM arm to the VLA arm with interval", 760)


def family_dots(rows: Sequence[FamilyRate], arms: Sequence[Arm]) -> str:
    """Success by task family, one mark per arm."""
    named = {row.family for row in rows}
    groups = [(family, {r.arm: r.rate for r in rows if r.family == family}) for family in sorted(named)]
    return _dots(groups, arms, "families", "Success by task family and arm", "success")


GROUNDING_ROWS = (
    ("success", "usual instruction: success"),
    ("swap_score", "swapped instruction: success"),
    ("habit", "swapped: does the old task"),
    ("following", "first touches the named object"),
    ("wrong_object", "first touches another object"),
)


def grounding_dots(rows: Sequence[ArmGrounding], arms: Sequence[Arm]) -> str:
    """What each arm does with its words."""
    groups = []
    for name, title in GROUNDING_ROWS:
        rates = {row.arm: getattr(row.grounding, name) for row in rows}
        if any(rates.values()):
            groups.append((title, {arm: rate for arm, rate in rates.items() if rate is not None}))
    return _dots(groups, arms, "grounding", "Grounding figures by arm", "share of trials")


def _dots(groups: Sequence[tuple[str, dict[str, Rate]]], arms: Sequence[Arm], name: str, label: str, axis: str) -> str:
    with matplotlib.rc_context(_RC):  # pyright: ignore[reportArgumentType]
        shown = [arm for arm in arms if any(arm.name in rates for _, rates in groups)]
        step = 0.8 / max(len(shown), 3)
        figure, axes = _axes(7.6, 0.9 + len(groups) * (0.2 + 0.13 * max(len(shown), 2)))
        look = styles(arms)
        for index, arm in enumerate(shown):
            rows = [(row, rates[arm.name]) for row, (_, rates) in enumerate(groups) if arm.name in rates]
            y = [row + step * (index - (len(shown) - 1) / 2) for row, _ in rows]
            style = look[arm.name]
            for at, (_, rate) in zip(y, rows, strict=True):
                axes.plot([rate.interval.low, rate.interval.high], [at, at], color=style.colour, lw=1.6, alpha=0.75)
            axes.plot([r.share for _, r in rows], y, style.mark, color=style.colour, markersize=6, label=arm.name)
        for row in range(1, len(groups)):
            axes.axhline(row - 0.5, color=LINE, linewidth=0.8)
        axes.set_ylim(len(groups) - 0.5, -0.5)
        axes.set_yticks(range(len(groups)), [title for title, _ in groups])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.grid(axis="y", visible=False)
        _share_axis(axes.xaxis, axes.set_xlim, axes.set_xticks)
        axes.set_xlabel(axis)
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
        return _svg(figure, name, label, 900)


def horizons(rows: Sequence[ArmVideo], arms: Sequence[Arm]) -> str:
    """PSNR where something moves, against time ahead, beside repeating the last frame."""
    with matplotlib.rc_context(_RC):  # pyright: ignore[reportArgumentType]
        figure, axes = _axes(7.0, 2.9)
        look = styles(arms)
        for row in rows:
            kept = [s for s in row.scores if s.moving_psnr_db is not None]
            times = [s.time_s for s in kept]
            style = look[row.arm]
            axes.plot(times, [s.moving_psnr_db for s in kept], marker=style.mark, color=style.colour, label=row.arm)  # pyright: ignore[reportArgumentType]
            if row is rows[-1]:
                repeat = [s.moving_psnr_repeat_db for s in kept]
                axes.plot(times, repeat, color=FAINT, linestyle=(0, (4, 3)), label="repeat last frame")  # pyright: ignore[reportArgumentType]
        axes.set_xlabel("time ahead, s")
        axes.set_ylabel("PSNR where it moves, dB")
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
        return _svg(figure, "horizons", "Video quality against time ahead", 860)


def duty_bars(rows: Sequence[ArmLatency], arms: Sequence[Arm]) -> str:
    """Latency as a share of the time that a chunk lasts: median bar, line to the 95th percentile."""
    with matplotlib.rc_context(_RC):  # pyright: ignore[reportArgumentType]
        figure, axes = _axes(7.0, 0.85 + 0.36 * len(rows))
        look, reach = styles(arms), 1.15
        for row, found in enumerate(rows):
            median, late = (x / found.chunk_s for x in (found.latency.median_s, found.latency.p95_s))
            axes.barh(row, median, height=0.5, color=look[found.arm].colour)
            axes.plot([median, late], [row, row], color=INK, lw=1)
            axes.plot([late], [row], "|", color=INK, markersize=8)
            reach = max(reach, 1.1 * late)
        axes.axvline(1, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.set_xlim(0, reach)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_yticks(range(len(rows)), [r.arm for r in rows])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("duty: latency / duration of the chunk (at 1 the robot waits)")
        return _svg(figure, "duty", "Duty of each arm", 760)


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height))
    FigureCanvasSVG(figure)
    return figure, figure.add_subplot()


def _bars(axes: Axes, x, shares, intervals, style: Style, label: str, *, line: str) -> None:
    for at, interval in zip(x, intervals, strict=True):
        axes.plot([at, at], [interval.low, interval.high], color=style.colour, lw=1.3, alpha=0.75)
    axes.plot(x, shares, line, marker=style.mark, color=style.colour, markersize=6.5, lw=1.6, label=label)


def _share_axis(axis, set_limits, set_ticks) -> None:
    set_limits(-0.02, 1.02)
    ticks = [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    set_ticks(ticks, [f"{100 * tick:.0f} %" for tick in ticks])


def _svg(figure: Figure, name: str, label: str, width_px: int) -> str:
    """The figure as an SVG element that can stand in a page beside others: own identifiers, the page's font."""
    buffer = io.StringIO()
    FigureCanvasSVG(figure).print_figure(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'(xlink:href="#|url\(#)', rf"\1{name}-", text)
    text = re.sub(r"font: ([\d.]+)px [^;\"]+", r"font: \1px system-ui, sans-serif", text)
    shown = f'role="img" aria-label="{label}" style="width: 100%; max-width: {width_px}px; height: auto"'
    head = re.sub(r' (width|height|version)="[^"]*"', "", text[: text.index(">")])
    return f"{head} {shown}{text[text.index('>') :]}".strip()
