"""A dataset as one HTML page: what is in it, in pictures, curves and words, and what the audit found.

Bounded in size whatever the dataset's: a choice of episodes (those with findings first, then evenly spread), a strip of
frames per camera, curves of a few points. Nothing is fetched; no script. Template: ``data_page.html.jinja``.
"""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from PIL import Image

from crossroads.data import audit as auditing
from crossroads.data.check import check
from crossroads.data.findings import IMPACT, stretches
from crossroads.data.indicators import told as told_of
from crossroads.data.lerobot import Episode, LeRobotDataset
from crossroads.data.resize import resize
from crossroads.data.statistics import QUANTILES, describe
from crossroads.errors import InputError
from crossroads.pilot.page import environment
from crossroads.storage import appearing

NUM_EPISODES = 24
MAX_PICTURE_BYTES = 4_000_000
"""Strips are drawn until they take this much; the page says how many episodes it then shows without pictures."""
STRIP_FRAMES, STRIP_WIDTH = 8, 112
CURVE_POINTS, MAX_LANES = 160, 16
LANE_WIDTH, LANE_HEIGHT = 640, 26
MAX_WORDS = 60
"""Instructions that are listed, the most frequent first."""
STATISTICS = ("min", "q01", "mean", "std", "q99", "max")


@dataclass(frozen=True, kw_only=True)
class Strip:
    """Frames of one camera over one episode."""

    camera: str
    times_s: tuple[float, ...]
    pictures: tuple[str, ...]
    """Base64 JPEG."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One episode on the page."""

    episode: Episode
    seconds: float
    strips: tuple[Strip, ...]
    curves: tuple[tuple[str, Markup], ...]
    """Title and drawing, of the actions and of the state; none when the episode has no actions."""
    findings: tuple[str, ...]
    unreadable: tuple[str, ...]
    """Why pictures are missing, per camera whose pictures cannot be read."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """Statistics of one dimension."""

    name: str
    unit: str
    values: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that the check or the audit found."""

    title: str
    text: str
    where: str
    impact: tuple[str, str] | None
    """To a VLA and to a WAM."""


def write_page(
    dataset_path: str | Path, out: Path, *, num_episodes: int = NUM_EPISODES, audit: bool = True, progress: bool = False
) -> Path:
    """Write the page of the dataset at `dataset_path` to the file `out`.

    `audit` decodes every frame once (at 24 pixels); without it the page says that it was left away.

    Raises:
        InputError: the dataset cannot be opened, or `num_episodes` is less than 1.
    """
    if num_episodes < 1:
        raise InputError(
            where="--episodes", expected="1 or more", got=str(num_episodes), do="Give the number of episodes to show."
        )
    page = render(dataset_path, num_episodes=num_episodes, audit=audit, progress=progress)
    with appearing(out) as draft:
        draft.write_text(page, encoding="utf-8")
    return out


def render(dataset_path: str | Path, *, num_episodes: int, audit: bool, progress: bool) -> str:
    """The page as HTML (well-formed XML, so that it can be checked as such)."""
    dataset = LeRobotDataset.open(dataset_path)
    report = check(dataset_path)
    problems = [
        Problem(title="cannot be trained on", text=f"expected {it.expected}, got {it.got}", where=it.where, impact=None)
        for it in report.findings
    ]
    notes: tuple[str, ...] = ("The audit was left away (--no-audit).",)
    blamed: dict[int, list[str]] = {}
    if audit and report.sound:
        found = auditing.audit(dataset_path, progress=progress)
        notes = (*found.notes, *told_of(found.indicators))
        for it in found.findings:
            where = f"episodes {stretches(set(it.episodes))}" + (f", camera {it.camera}" if it.camera else "")
            problems.append(Problem(title=it.kind, text=it.what, where=where, impact=IMPACT[it.kind]))
            for episode in set(it.episodes):
                blamed.setdefault(episode, []).append(f"{it.kind}: {it.what}")
    elif audit:
        notes = ("The audit needs a sound dataset, so it was not made.",)
    chosen = choose(len(dataset.episodes), sorted(blamed), num_episodes)
    shown = _episodes(dataset, chosen, blamed)
    lengths = np.array([episode.length for episode in dataset.episodes]) / dataset.fps
    told = Counter(episode.text for episode in dataset.episodes)
    templates = environment()
    templates.filters["duration"] = duration
    return (
        templates.get_template("data_page.html.jinja")
        .render(
            dataset=dataset,
            seconds=float(lengths.sum()),
            lengths=(float(lengths.min()), float(np.median(lengths)), float(lengths.max())),
            num_free=sum(episode.action_free for episode in dataset.episodes),
            problems=problems,
            notes=notes,
            audited=audit and report.sound,
            shown=shown,
            without_pictures=sum(not one.strips and not one.unreadable for one in shown),
            words=told.most_common(MAX_WORDS),
            num_words=len(told),
            tables=_tables(dataset),
            statistics=STATISTICS,
        )
        .strip()
        + "\n"
    )


def choose(num_episodes: int, blamed: Sequence[int], most: int) -> tuple[int, ...]:
    """At most `most` episodes in order: up to half of them blamed ones, the rest evenly spread over all."""
    if num_episodes <= most:
        return tuple(range(num_episodes))
    worst = set(blamed[: max(most // 2, 1)])
    others = [index for index in range(num_episodes) if index not in worst]
    places = np.linspace(0, len(others) - 1, most - len(worst)).round().astype(int)
    return tuple(sorted(worst | {others[place] for place in places}))


def _episodes(dataset: LeRobotDataset, chosen: Sequence[int], blamed: dict[int, list[str]]) -> list[Shown]:
    shown, spent = [], 0
    for index in chosen:
        episode = dataset.episode(index)
        strips, unreadable = [], []
        for camera in dataset.cameras if spent < MAX_PICTURE_BYTES else ():
            try:
                strips.append(strip(dataset, episode, camera))
            except InputError as error:  # a damaged dataset is the one to look at
                unreadable.append(str(error))
        spent += sum(len(picture) for one in strips for picture in one.pictures)
        curves = []
        if not episode.action_free:
            space, tables = dataset.space, dataset.tables
            for title, names, values, everything in (
                ("actions", space.action_names, dataset.actions(episode), tables.actions),
                ("state", space.state_names, dataset.state(episode), tables.state),
            ):
                if names:
                    curves.append((title, lanes(f"{title} of episode {index}", names, values, everything)))
        shown.append(
            Shown(
                episode=episode,
                seconds=episode.length / dataset.fps,
                strips=tuple(strips),
                unreadable=tuple(unreadable),
                curves=tuple(curves),
                findings=tuple(blamed.get(index, ())),
            )
        )
    return shown


def strip(dataset: LeRobotDataset, episode: Episode, camera: str) -> Strip:
    """Evenly spread frames of one camera, first and last among them, small."""
    places = np.unique(np.linspace(0, episode.length - 1, STRIP_FRAMES).round().astype(int))
    height, width = dataset.image_hw[camera]
    small = (max(1, round(STRIP_WIDTH * height / width)), STRIP_WIDTH) if width > STRIP_WIDTH else (height, width)
    frames = resize(dataset.frames(episode, camera, places), small)
    return Strip(
        camera=camera,
        times_s=tuple(float(place / dataset.fps) for place in places),
        pictures=tuple(_jpeg(frame) for frame in frames),
    )


def _jpeg(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="jpeg", quality=85)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def lanes(label: str, names: Sequence[str], values: np.ndarray, everything: np.ndarray) -> Markup:
    """One curve per dimension, each in a lane of its own that reaches from its least to its greatest value anywhere."""
    shown = min(len(names), MAX_LANES)
    picked = np.unique(np.linspace(0, len(values) - 1, CURVE_POINTS).round().astype(int))
    x = 150 + (LANE_WIDTH - 154) * picked / max(len(values) - 1, 1)
    height = LANE_HEIGHT * shown
    parts = [f'<svg viewBox="0 0 {LANE_WIDTH} {height}" role="img" aria-label="{Markup.escape(label)}">']
    for row in range(shown):
        column = values[picked, row].astype(np.float64)
        low, high = np.nanmin(everything[:, row]), np.nanmax(everything[:, row])
        share = (column - low) / (high - low) if high > low else np.full(len(column), 0.5)
        top = row * LANE_HEIGHT + 4
        y = top + (LANE_HEIGHT - 8) * (1 - share)
        finite = np.isfinite(y)
        points = " ".join(f"{a:.0f},{b:.1f}" for a, b in zip(x[finite], y[finite], strict=True))
        name = Markup.escape(names[row] if len(names[row]) <= 22 else f"{names[row][:21]}…")
        span = f"{names[row]}: {low:.4g} to {high:.4g}"
        parts.append(
            f"<g><title>{Markup.escape(span)}</title>"
            f'<rect x="150" y="{top}" width="{LANE_WIDTH - 154}" height="{LANE_HEIGHT - 8}" fill="#f5f6f7"/>'
            f'<text x="144" y="{top + 13}" text-anchor="end" font-size="11" fill="#55595f">{name}</text>'
            f'<polyline points="{points}" fill="none" stroke="#0072B2" stroke-width="1.4"/></g>'
        )
    parts.append("</svg>")
    if len(names) > shown:
        parts.append(f'<p class="how">{len(names) - shown} more dimensions are in the statistics below.</p>')
    return Markup("".join(parts))


def _tables(dataset: LeRobotDataset) -> list[tuple[str, list[Row]]]:
    """Statistics of each action and state dimension over the frames that have actions."""
    used = ~dataset.tables.action_free
    space, tables = dataset.space, []
    for title, names, units, values in (
        ("Actions", space.action_names, space.action_units, dataset.tables.actions),
        ("State", space.state_names, ("",) * space.num_state, dataset.tables.state),
    ):
        found = describe(values[used])
        assert set(STATISTICS) <= {*found, *QUANTILES}
        rows = [
            Row(name=name, unit=unit, values=tuple(found[key][place] for key in STATISTICS))
            for place, (name, unit) in enumerate(zip(names, units, strict=True))
        ]
        if rows:
            tables.append((title, rows))
    return tables


def duration(seconds: float) -> str:
    """Seconds in the unit that a person would use."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
