"""Everything a design compares, tested and corrected together: differences, 2x2 interactions, label multipliers.

An effect that would be settled is asked again of its arms trained with twice the steps (the plateau check): where its
sign turns, it is not settled.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossroads.evaluate.convergence import Plateau, plateaus_of, steps_ratio
from crossroads.evaluate.interaction import interaction
from crossroads.evaluate.label_curves import ratio_interval
from crossroads.evaluate.statistics import (
    Interval,
    difference_over_runs,
    holm,
    mcnemar_exact,
    paired_counts,
    paired_difference,
)
from crossroads.pilot.design import Contrast, Crossing, Design, StudyCell
from crossroads.pilot.study import ALPHA, Effect, Longer, Multiplier

Table = dict[tuple[str, int, str], np.ndarray]
"""Successes, training runs x scenes, by arm, labels and condition."""
Compared = Effect | Multiplier


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One comparison of a design: which arms on how many labels it needs, and how it is computed."""

    needs: tuple[tuple[str, int], ...]
    condition: str
    compute: Callable[[Table], Compared]

    def answerable(self, table: Table) -> bool:
        return all((arm, labels, self.condition) in table for arm, labels in self.needs)


def table_of(results: Sequence[dict[str, Any]], design: Design, *, doubled: bool = False) -> Table:
    """The successes of finished cells; an arm whose seeds are not all finished is left out."""
    rows: dict[tuple[str, int, str], dict[int, list[int]]] = {}
    for result in results:
        if result.get("doubled", False) == doubled:
            for condition, successes in result["conditions"].items():
                rows.setdefault((result["route"], result["labels"], condition), {})[result["seed"]] = successes
    return {
        key: np.array([found[seed] for seed in design.seeds])
        for key, found in rows.items()
        if set(found) == set(design.seeds)
    }


def compared(design: Design, results: Sequence[dict[str, Any]]) -> tuple[Compared, ...]:
    """Every comparison whose arms have all their runs, in the order of the design."""
    return tuple(found for _, found in _answers(design, results))


def convergences(design: Design, results: Sequence[dict[str, Any]]) -> tuple[Effect, ...]:
    """Per contrast and number of labels, how many times the steps the first arm needs to 90 % of its plateau.

    Described, not tested: seeds are paired, and runs whose loss still falls at the end are told as such. Only of arms
    whose policies train for as many steps: a shorter schedule ends sooner whatever it learns.
    """
    found = []
    for contrast in design.contrasts:
        if design.route(contrast.first).num_networks != design.route(contrast.second).num_networks:
            continue
        for labels in sorted({size for route in design.routes for size in route.labels}):
            both = [_plateaus(design, results, arm, labels) for arm in (contrast.first, contrast.second)]
            first, second = both
            if first is None or second is None or len(first) < 2:
                continue
            ratio = steps_ratio(first, second, same_seeds=True)
            moving = any(plateau.still_moving for plateau in (*first, *second))
            found.append(
                Effect(
                    name=f"steps to 90 % of the plateau: {contrast.name}",
                    first=contrast.first,
                    second=contrast.second,
                    condition=f"{labels} labels{', still learning at the end' if moving else ''}",
                    value=ratio.value,
                    unit="times",
                    interval=ratio.interval,
                    p_value=None,
                    runs=ratio.runs,
                    trials=0,
                )
            )
    return tuple(found)


def _plateaus(design: Design, results: Sequence[dict[str, Any]], arm: str, labels: int) -> list[Plateau] | None:
    """Of every seed, in their order; None where a seed is missing or an arm has no loss of actions."""
    own = {r["seed"]: r for r in results if (r["route"], r["labels"]) == (arm, labels) and not r.get("doubled")}
    if set(own) != set(design.seeds):
        return None
    losses = [[line for line in own[seed].get("losses") or [] if "action" in line] for seed in design.seeds]
    return plateaus_of([[(line["step"], line["action"]) for line in one] for one in losses])


def to_double(design: Design, results: Sequence[dict[str, Any]]) -> tuple[StudyCell, ...]:
    """The cells of the plateau check: the arms of every effect that would be settled, with twice the steps."""
    needed = {need for asked, found in _answers(design, results) if significant(found) for need in asked.needs}
    return tuple(
        StudyCell(route=route.name, labels=labels, seed=seed, doubled=True)
        for seed in design.seeds
        for route in design.routes
        for labels in route.labels
        if (route.name, labels) in needed
    )


def significant(found: Compared) -> bool:
    """Whether the corrected test tells it from nothing at this length of training."""
    return found.p_value is not None and found.p_value <= ALPHA


def columns(design: Design) -> list[tuple[int, str]]:
    """Numbers of labels and kinds of trial, in the order of a study's conditions."""
    sizes = sorted({size for route in design.routes for size in route.labels})
    return [(size, condition.name) for size in sizes for condition in design.conditions]


def column_name(design: Design, labels: int, condition: str) -> str:
    """How a study names them."""
    if len(design.conditions) == 1:
        return str(labels) if design.key == "labels" else f"{labels} labels"
    sizes = {size for route in design.routes for size in route.labels}
    return condition if len(sizes) == 1 else f"{labels} labels, {condition}"


def sign(found: Compared) -> int:
    """+1 where the first is ahead, -1 where it is behind, 0 where that cannot be said."""
    if isinstance(found, Multiplier):
        return 1 if found.low > 1 else -1 if found.high is not None and found.high < 1 else 0
    return int(np.sign(found.value))


def _answers(design: Design, results: Sequence[dict[str, Any]]) -> list[tuple[Asked, Compared]]:
    table, doubled = table_of(results, design), table_of(results, design, doubled=True)
    asked = [one for one in _questions(design) if one.answerable(table)]
    found = _corrected([one.compute(table) for one in asked])
    return [
        (one, dataclasses.replace(answer, plateau=_turned(one, answer, doubled)))
        for one, answer in zip(asked, found, strict=True)
    ]


def _turned(asked: Asked, found: Compared, doubled: Table) -> Longer:
    if not asked.answerable(doubled):
        return "not checked"
    return "turns" if sign(asked.compute(doubled)) * sign(found) < 0 else "keeps its sign"


def _corrected(found: Sequence[Compared]) -> list[Compared]:
    """Holm over everything that the design compares."""
    p_values = {str(index): one.p_value for index, one in enumerate(found) if one.p_value is not None}
    adjusted = holm(p_values)
    return [
        dataclasses.replace(one, p_value=adjusted[str(index)]) if str(index) in adjusted else one
        for index, one in enumerate(found)
    ]


def _questions(design: Design) -> Iterator[Asked]:
    for contrast in design.contrasts:
        for labels, condition in columns(design):
            yield _difference(design, contrast, labels, condition)
    for crossing in design.crossings:
        for labels, condition in columns(design):
            if len(design.seeds) > 1:
                yield _interaction(design, crossing, labels, condition)
    if design.level:
        for contrast in design.contrasts:
            yield from _multipliers(design, contrast)


def _difference(design: Design, contrast: Contrast, labels: int, condition: str) -> Asked:
    places = [(contrast.first, labels), (contrast.second, labels)]

    def compute(table: Table) -> Effect:
        a, b = (table[arm, num, condition] for arm, num in places)
        interval, p_value = _tested(a, b)
        return Effect(
            name=contrast.name,
            first=contrast.first,
            second=contrast.second,
            condition=column_name(design, labels, condition),
            value=float(a.mean() - b.mean()),
            unit="points",
            interval=interval,
            p_value=p_value,
            runs=len(a),
            trials=a.size,
        )

    return Asked(needs=tuple(places), condition=condition, compute=compute)


def _tested(a: np.ndarray, b: np.ndarray) -> tuple[Interval, float]:
    """Over training runs and scenes where there are several runs; over scenes alone for one."""
    if len(a) > 1:
        found = difference_over_runs(a, b, 1 - ALPHA)
        return found.interval, found.p_value
    counts = paired_counts(a, b)
    return paired_difference(counts, 1 - ALPHA), mcnemar_exact(
        counts.both, counts.only_a, counts.only_b, counts.neither
    )


def _interaction(design: Design, crossing: Crossing, labels: int, condition: str) -> Asked:
    arms = (crossing.both, crossing.only_first, crossing.only_second, crossing.neither)

    def compute(table: Table) -> Effect:
        cells = [table[arm, labels, condition] for arm in arms]
        found = interaction(*cells, shared_runs="none")
        return Effect(
            name=crossing.name,
            first=f"{crossing.both} minus {crossing.only_first}",
            second=f"{crossing.only_second} minus {crossing.neither}",
            condition=column_name(design, labels, condition),
            value=found.difference,
            unit="points",
            interval=found.interval,
            p_value=found.p_value,
            runs=len(cells[0]),
            trials=cells[0].size,
        )

    return Asked(needs=tuple((arm, labels) for arm in arms), condition=condition, compute=compute)


def _multipliers(design: Design, contrast: Contrast) -> Iterator[Asked]:
    shared = tuple(sorted(set(design.route(contrast.first).labels) & set(design.route(contrast.second).labels)))
    if len(shared) < 2:
        return
    for condition in design.conditions:

        def compute(table: Table, at: str = condition.name) -> Multiplier:
            second, first = (
                np.stack([table[arm, num, at] for num in shared], axis=1) for arm in (contrast.second, contrast.first)
            )
            found = ratio_interval(
                second, first, labels=np.array(shared), level=design.level, generator=np.random.default_rng(0)
            )
            return Multiplier(
                name=contrast.name,
                first=contrast.first,
                second=contrast.second,
                condition=at,
                level=design.level,
                labels=shared,
                low=found.ratio.low,
                high=_finite(found.ratio.high),
                interval_low=found.interval.low,
                interval_high=_finite(found.interval.high),
                said=str(found),
                p_value=found.p_value,
                runs=found.runs,
                trials=found.runs * found.scenes * len(shared),
            )

        needs = tuple((arm, num) for arm in (contrast.second, contrast.first) for num in shared)
        yield Asked(needs=needs, condition=condition.name, compute=compute)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
