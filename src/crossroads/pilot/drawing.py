"""How every plot of the report is drawn: one set of colours and marks that the tables share, and inline SVG.

Colours are near those of Okabe and Ito (2008, "Color universal design"), told apart with the common colour-vision
deficiencies and darkened to a contrast of 3 to 1 on white (WCAG 2.2, 1.4.11); every arm also has its own mark. Same
report, same bytes: the salt of the identifiers is fixed and no date is written.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import cycle

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle

from crossroads.evaluate.statistics import Interval
from crossroads.pilot.report import Arm
from crossroads.pilot.study import Study

INK, FAINT, LINE = "#1c1e21", "#5c6066", "#d9dce0"
_COLOURS = {
    "VLA": ("#0072B2", "#2b8cc4"),
    "WAM": ("#D55E00", "#008a64", "#b8588f", "#a87400", "#8C510A", "#2b8577"),
    "control": ("#6b6f75", "#85898f", "#3f4246"),
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
    "figure.facecolor": "white",
}


@dataclass(frozen=True, kw_only=True)
class Style:
    """Colour and mark of one arm."""

    colour: str
    mark: str


def styles(arms: Sequence[Arm]) -> dict[str, Style]:
    """One style per arm: blues for VLA, warm and green for WAM, greys for controls; a colour comes back with another
    mark."""
    found, seen = {}, {"VLA": 0, "WAM": 0, "control": 0}
    for arm in arms:
        index, colours, marks = seen[arm.kind], _COLOURS[arm.kind], _MARKS[arm.kind]
        turned = index + index // len(colours)
        found[arm.name] = Style(colour=colours[index % len(colours)], mark=marks[turned % len(marks)])
        seen[arm.kind] += 1
    return found


def study_styles(study: Study, arms: Sequence[Arm]) -> dict[str, Style]:
    """One style per arm of a design: that of the report where it is the same arm, else the next unused one."""
    found = {name: style for name, style in styles(arms).items() if name in {arm.name for arm in study.arms}}
    used = {(style.colour, style.mark) for style in found.values()}
    colours = cycle(_COLOURS["VLA"][:1] + _COLOURS["WAM"] + _COLOURS["control"][2:])
    marks = cycle(_MARKS["VLA"][:1] + _MARKS["WAM"] + _MARKS["control"])
    free = (pair for pair in zip(colours, marks, strict=False) if pair not in used)
    for arm in study.arms:
        if arm.name not in found:
            colour, mark = next(free)
            found[arm.name] = Style(colour=colour, mark=mark)
    return found


def swatch(style: Style) -> str:
    """The arm's mark as a tiny inline SVG, for table rows and legends."""
    mark = MarkerStyle(style.mark)
    outline = mark.get_path().transformed(mark.get_transform())
    points = [" L ".join(f"{x:.3f} {-y:.3f}" for x, y in polygon) for polygon in outline.to_polygons()]  # pyright: ignore[reportGeneralTypeIssues]
    path = " ".join(f"M {polygon} Z" for polygon in points)
    box = 'viewBox="-0.7 -0.7 1.4 1.4" width="12" height="12"'
    return f'<svg class="swatch" {box} aria-hidden="true"><path d="{path}" fill="{style.colour}"/></svg>'


def house_style() -> AbstractContextManager[None]:
    """Fonts, grid and identifiers of every plot."""
    return matplotlib.rc_context(_RC)  # pyright: ignore[reportArgumentType]


def axes_of(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty plot, in inches."""
    figure = Figure(figsize=(width, height))
    FigureCanvasSVG(figure)
    return figure, figure.add_subplot()


def upright(axes: Axes, x: float, value: float, interval: Interval, style: Style, tip: str) -> None:
    """A marked value with its interval as a vertical bar."""
    axes.plot([x, x], [interval.low, interval.high], color=style.colour, lw=1.3, alpha=0.75)
    axes.plot([x], [value], style.mark, color=style.colour, markersize=6.5, gid=f"tip:{tip}")


def level(axes: Axes, value: float, y: float, interval: Interval, style: Style, tip: str, size: float = 6.5) -> None:
    """A marked value with its interval as a horizontal bar."""
    axes.plot([interval.low, interval.high], [y, y], color=style.colour, lw=1.6, alpha=0.75)
    axes.plot([value], [y], style.mark, color=style.colour, markersize=size, gid=f"tip:{tip}")


def rows(axes: Axes, names: Sequence[str], margin: float = 0.6) -> None:
    """Named rows from top to bottom."""
    axes.set_ylim(len(names) - 1 + margin, -margin)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.grid(axis="y", visible=False)


def share_axis(axes: Axes, which: str) -> None:
    """0 to 100 % along x or y."""
    set_limits, set_ticks = (axes.set_xlim, axes.set_xticks) if which == "x" else (axes.set_ylim, axes.set_yticks)
    ticks = [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    set_limits(-0.02, 1.02)
    set_ticks(ticks, [f"{100 * tick:.0f} %" for tick in ticks])


def svg(figure: Figure, name: str, label: str) -> str:
    """The figure as an SVG element that can stand in a page beside others: own identifiers, the page's font.

    An artist with the identifier ``tip:`` and a text gets that text as its title, which a pointer shows.
    """
    buffer = io.StringIO()
    FigureCanvasSVG(figure).print_figure(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="tip:([^"]*)">', r"<g><title>\1</title>", text)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'(xlink:href="#|url\(#)', rf"\1{name}-", text)
    text = re.sub(r"font: ([\d.]+)px [^;\"]+", r"font: \1px system-ui, sans-serif", text)
    width = round(float(re.search(r'viewBox="0 0 ([\d.]+)', text)[1]) * PIXELS_PER_POINT)  # pyright: ignore[reportOptionalSubscript]
    shown = f'role="img" aria-label="{html.escape(label)}" style="max-width: {width}px"'
    head = re.sub(r' (width|height|version)="[^"]*"', "", text[: text.index(">")])
    return f"{head} {shown}{text[text.index('>') :]}".strip()


PIXELS_PER_POINT = 1.45
"""Largest scale of a plot: its 9.5 point letters are then as large as those of the tables."""
