"""The pilot's report as data.

``pilot/run.py`` fills these values from what was measured; ``page.py`` turns them into the page and writes the files.
A part that was not measured is None and the page says so: nothing is ever filled in.
"""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8

from crossroads.errors import InputError
from crossroads.evaluate.grounding import Grounding, GroundingMatrix, Rate
from crossroads.evaluate.latency import Latency
from crossroads.evaluate.statistics import Interval
from crossroads.evaluate.swap_probe import SwapProbe
from crossroads.evaluate.video import VideoScore
from crossroads.pilot.plain import from_plain, to_plain
from crossroads.pilot.study import BudgetTable, Convergence, Executability, Study
from crossroads.pilot.verdict import Verdict


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One competitor; its place in ``Report.arms`` gives its colour and mark."""

    name: str
    kind: Literal["VLA", "WAM", "control"]
    summary: str
    """What it does, in one line: 'imagines the future, then acts'."""
    imagines: bool
    """True when it produces future frames while acting."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What one arm was given; the page compares the arms row by row."""

    arm: str
    labelled_episodes: int
    action_free_episodes: int
    trainable_parameters: int
    total_parameters: int
    optimiser_steps: int
    samples: int
    training_flops: float
    control_hz: float


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """Success of one arm at one number of labelled demonstrations."""

    arm: str
    labels: int
    successes: int
    trials: int
    runs: int
    interval: Interval

    @property
    def share(self) -> float:
        return self.successes / self.trials


@dataclass(frozen=True, kw_only=True)
class FamilyRate:
    """Success of one arm in one task family."""

    arm: str
    family: str
    rate: Rate


@dataclass(frozen=True, kw_only=True)
class ArmGrounding:
    """What one arm does with its words, in closed loop."""

    arm: str
    grounding: Grounding
    matrix: GroundingMatrix | None


@dataclass(frozen=True, kw_only=True)
class ClosedLoop:
    """Everything that was executed in a simulator."""

    environment: str
    at: str
    """The label budget of the family and grounding tables, in words."""
    scenes: int
    curves: tuple[CurvePoint, ...]
    families: tuple[FamilyRate, ...]
    grounding: tuple[ArmGrounding, ...]


@dataclass(frozen=True, kw_only=True)
class OfflineError:
    """Held-out action error of one arm or trivial baseline."""

    name: str
    kind: Literal["arm", "baseline"]
    error: float
    """Root mean square error over held-out chunks, in standard deviations of the actions."""
    interval: Interval | None
    chunks: int


@dataclass(frozen=True, kw_only=True)
class Predictability:
    """How much better the action is known with the true future than from the present alone."""

    labels: int
    r2_present: float
    r2_future: float
    chunks: int

    @property
    def gap(self) -> float:
        return self.r2_future - self.r2_present


@dataclass(frozen=True, kw_only=True)
class ArmProbe:
    """The offline swap probe of one arm."""

    arm: str
    probe: SwapProbe


@dataclass(frozen=True, kw_only=True)
class Offline:
    """What can be measured on any dataset, without a robot."""

    errors: tuple[OfflineError, ...]
    predictability: tuple[Predictability, ...]
    probes: tuple[ArmProbe, ...]


@dataclass(frozen=True, kw_only=True)
class Strip:
    """Real and imagined frames at the same times, as base64 PNG (see ``picture``)."""

    arm: str
    instruction: str
    caption: str
    times_s: tuple[float, ...]
    real: tuple[str, ...]
    imagined: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ArmVideo:
    """Video scores of an arm that imagines, per horizon, on held-out clips."""

    arm: str
    scores: tuple[VideoScore, ...]


@dataclass(frozen=True, kw_only=True)
class ArmLatency:
    """How long one arm takes per chunk of actions."""

    arm: str
    latency: Latency
    denoising_steps: int
    chunk_s: float
    """How long the executed part of a chunk lasts on the robot."""


@dataclass(frozen=True, kw_only=True)
class ArmCost:
    """What training one arm took, all its cells together."""

    arm: str
    seconds: float
    flops: float
    device: str


@dataclass(frozen=True, kw_only=True)
class Price:
    """What an hour of the training device costs; an input of the reader, never measured."""

    per_hour: float
    currency: str


@dataclass(frozen=True, kw_only=True)
class ArmLetters:
    """One arm among many: arms that share a letter were not told apart (compact letter display, Piepho 2004)."""

    arm: str
    successes: int
    trials: int
    runs: int
    interval: Interval
    letters: str
    """As ``evaluate.sequential.compact_letters`` gives them: 'a', 'ab'."""

    @property
    def share(self) -> float:
        return self.successes / self.trials


@dataclass(frozen=True, kw_only=True)
class RecipeDiff:
    """The structural difference of two recipes, as ``crossroads diff`` prints it."""

    first: str
    second: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where the numbers come from and how to get them again."""

    run_id: str
    """Identifies the plan and the data; a folder holds one run only."""
    command: str
    date: str
    machine: str
    device: str
    training_seeds: tuple[int, ...]
    scene_seeds: str
    data: str
    data_hash: str
    versions: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Report:
    """The whole report. ``closed_loop`` or ``offline`` may be absent; the page then says why.

    The parts with a default were added after the first reports were written; without them the page says in one line
    that they were not measured.
    """

    title: str
    question: str
    verdict: Verdict
    arms: tuple[Arm, ...]
    budgets: tuple[Budget, ...]
    recipe_diffs: tuple[RecipeDiff, ...]
    closed_loop: ClosedLoop | None
    closed_loop_absent: str
    offline: Offline | None
    offline_absent: str
    strips: tuple[Strip, ...]
    video: tuple[ArmVideo, ...]
    latency: tuple[ArmLatency, ...]
    costs: tuple[ArmCost, ...]
    price: Price | None
    limits: tuple[str, ...]
    provenance: Provenance
    budget: BudgetTable | None = None
    studies: tuple[Study, ...] = ()
    convergence: tuple[Convergence, ...] = ()
    executability: tuple[Executability, ...] = ()
    letters: tuple[ArmLetters, ...] = ()

    def to_json(self) -> str:
        """The report as JSON text, fields in their order, always the same text for the same report."""
        return json.dumps(to_plain(self), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    @staticmethod
    def from_json(text: str) -> Report:
        """The report that ``to_json`` wrote, or one from before the parts in ``_ADDED``, which it then lacks.

        A file with some of these parts and without others was edited, and is refused like any other missing field.
        """
        try:
            plain: Any = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(
                where="report.json", expected="one JSON object", got=str(error), do="Make the report again."
            ) from error
        if isinstance(plain, dict) and not plain.keys() & _ADDED.keys():
            plain = {**plain, **_ADDED}
        return from_plain(Report, plain)


_ADDED: dict[str, Any] = {"budget": None, "studies": [], "convergence": [], "executability": [], "letters": []}


def picture(pixels: UInt8[np.ndarray, "h w 3"]) -> str:
    """Base64 PNG of one frame, for ``Strip``."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def check_arms(report: Report) -> None:
    """Refuse a report in which a table mentions an arm that is not among its arms."""
    known = {arm.name for arm in report.arms}
    closed = report.closed_loop
    loop = (*closed.curves, *closed.families, *closed.grounding) if closed else ()
    probes = report.offline.probes if report.offline else ()
    rows = (*report.budgets, *report.strips, *report.video, *report.latency, *report.costs, *loop, *probes)
    unknown = sorted({row.arm for row in rows} - known)
    if unknown or not known or len(known) != len(report.arms):
        raise InputError(
            where="write_report",
            expected="at least one arm, each named once in Report.arms",
            got=f"arms {[arm.name for arm in report.arms]}, rows of unknown arms {unknown}",
            do="List every arm that a table mentions in Report.arms.",
        )
    _check_studies(report, known)
    for strip in report.strips:
        if not len(strip.real) == len(strip.imagined) == len(strip.times_s):
            raise InputError(
                where=f"strip of {strip.arm}",
                expected="one real and one imagined frame per time",
                got=f"{len(strip.real)} real, {len(strip.imagined)} imagined, {len(strip.times_s)} times",
                do="Cut both rows at the same future_s.",
            )


def _check_studies(report: Report, known: set[str]) -> None:
    designed = known | {arm.name for study in report.studies for arm in study.arms}
    planned = report.budget.rows if report.budget else ()
    rows = (*planned, *report.convergence, *report.executability, *report.letters)
    if unknown := sorted({row.arm for row in rows} - designed):
        raise InputError(
            where="write_report",
            expected="arms of Report.arms or of a study",
            got=f"rows of unknown arms {unknown}",
            do="Name each arm as the plan does.",
        )
    if len({study.key for study in report.studies}) != len(report.studies):
        raise InputError(
            where="write_report",
            expected="each design once",
            got=f"the designs {[study.key for study in report.studies]}",
            do="Give one Study per design.",
        )
    for study in report.studies:
        places = [(point.arm, point.condition) for point in study.points]
        allowed = {(arm.name, condition) for arm in study.arms for condition in study.conditions}
        if strangers := sorted({place for place in places if place not in allowed or places.count(place) > 1}):
            raise InputError(
                where=f"study {study.key}",
                expected="at most one point per listed arm and condition",
                got=f"points at {strangers}",
                do="List the arm and the condition in the study, and pool its points.",
            )
