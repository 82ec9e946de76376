"""What a matched experiment is made of: which arms, on which labels, told and shown what, under which budget.

A cell is one arm on one number of labels with one seed. The three designs themselves are in ``designs``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from crossroads.errors import InputError, nearest
from crossroads.pilot.inverse import Sees
from crossroads.pilot.plan import FAMILIES
from crossroads.pilot.study import Currency, Key
from crossroads.sim.tabletop.perturb import NONE, Perturbation
from crossroads.sim.tabletop.tasks import Pairing

Role = Literal["labels", "video", "answers", "questions"]


@dataclass(frozen=True, kw_only=True)
class Route:
    """One arm: how it gets from data to actions."""

    name: str
    summary: str
    recipe: str | None
    """None: the shipped video model imagines and the inverse model acts on it."""
    labels: tuple[int, ...]
    phase: str = "head"
    losses: tuple[str, ...] = ()
    """Streams that are learned; empty: those of the recipe's phase."""
    changes: tuple[tuple[str, object], ...] = ()
    """Values of the recipe that are varied."""
    inverse: Sees | None = None
    """The inverse model that labels the action-free episodes, or that acts on what was imagined."""
    ceiling: bool = False
    """Trained on the true labels of the episodes that the others see as video only."""
    questions: float = 0.0
    """The part of each batch that is questions about the labelled episodes' pictures, instead of actions."""

    @property
    def num_networks(self) -> int:
        return 1 + (self.recipe is not None and self.inverse is not None)


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some recorded episodes: which instruction of a scene they follow, and what may be seen of them."""

    role: Role
    num: int
    first_seed: int
    pairing: Pairing = "any"


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One kind of closed-loop trial, or an examination."""

    name: str
    pairing: Pairing = "any"
    swapped: bool = False
    perturbation: Perturbation = NONE
    questions: int = 0
    """So many questions about pictures never trained on, in place of trials; a right answer is a success."""


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A comparison that the design was made for: success of the first arm minus that of the second."""

    name: str
    first: str
    second: str


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """A 2x2: does one change help more where the other is made too?"""

    name: str
    both: str
    only_first: str
    only_second: str
    neither: str


@dataclass(frozen=True, kw_only=True)
class Design:
    """One experiment."""

    key: Key
    title: str
    question: str
    routes: tuple[Route, ...]
    contrasts: tuple[Contrast, ...]
    """Fixed beforehand; p-values are corrected over all of them, at every number of labels and condition."""
    crossings: tuple[Crossing, ...] = ()
    level: float = 0.0
    """The success at which labels needed are compared, for every contrast; 0: not compared."""
    parts: tuple[Part, ...]
    conditions: tuple[Condition, ...]
    seeds: tuple[int, ...]
    steps: int
    """Optimiser steps of a cell, summed over its networks."""
    batch_size: int
    learning_rate: float
    trained_parameters: int
    """Summed over a cell's networks; every arm's expert is widened until its sum is nearest. 0: as the recipes are."""
    match: tuple[Currency, ...]
    """In which sums the arms must be equal."""
    num_trials: int
    execute_steps: int = 6
    window_stride: int = 2
    families: tuple[str, ...] = FAMILIES

    @property
    def all_labels(self) -> int:
        return sum(part.num for part in self.parts if part.role == "labels")

    @property
    def asks(self) -> bool:
        """Whether anything is asked, of the policies or while they train."""
        return any(c.questions for c in self.conditions) or any(route.questions for route in self.routes)

    @property
    def num_video(self) -> int:
        return sum(part.num for part in self.parts if part.role == "video")

    def route(self, name: str) -> Route:
        for route in self.routes:
            if route.name == name:
                return route
        raise InputError(
            where=f"design {self.key}",
            expected="the name of an arm",
            got=repr(name),
            do=nearest(name, [route.name for route in self.routes]),
        )


@dataclass(frozen=True, kw_only=True)
class StudyCell:
    """One trained arm of a design."""

    route: str
    labels: int
    seed: int
    doubled: bool = False
    """Trained with twice the steps, for the plateau check."""

    @property
    def name(self) -> str:
        plain = "".join(c if c.isalnum() else "-" for c in self.route).strip("-")
        return f"{plain}-{self.labels}-{self.seed}{'-twice' if self.doubled else ''}"


def study_cells(design: Design) -> tuple[StudyCell, ...]:
    """Every cell, seeds outermost, so that a study that was cut off has whole replications."""
    return tuple(
        StudyCell(route=route.name, labels=labels, seed=seed)
        for seed in design.seeds
        for route in design.routes
        for labels in route.labels
    )
