"""What the trials of a design say beside success: obedience, habit, the offline probe, video or decoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from crossroads.evaluate.grounding import Rate, grounding, rate_over_runs
from crossroads.evaluate.records import EpisodeRecord
from crossroads.evaluate.statistics import mean_over_runs, success_interval
from crossroads.pilot.design import Design, Route, StudyCell
from crossroads.pilot.study import Measure

Records = Mapping[str, Sequence[EpisodeRecord]]
"""The trials of finished cells, by the name of the cell."""
ACHIEVED = "goal achieved: "
SHIFT = "motion changed by other words"
ANSWERS, BEFORE = "right answers", "right answers before training"
NOTES = {
    "first touch on the named object": "trials whose first object touched is the named one",
    "first touch on another object": "trials whose first object touched is not the named one",
    "instruction advantage": "success in the usual scene told its goal, minus the same goal achieved told another one",
    f"{ACHIEVED}the named one": "trials in which the goal of the spoken instruction is achieved",
    f"{ACHIEVED}the usual one of the scene": "swapped trials in which the goal that was not spoken is achieved (habit)",
    f"{ACHIEVED}another": "trials that achieve some other goal of the scene and not the named one",
    f"{ACHIEVED}none": "trials that achieve no goal of the scene",
    SHIFT: "offline, at the start, the same noise: shift of the planned chunk over the distance between tasks",
    "first motion to the named thing": "swapped scenes in which the planned chunk leads nearer to the named thing than "
    "to the usual one; scenes where both lie the same way are left out",
    "imagined hand to the named thing": "the same of the hand in the imagined clip, as a reader blind to words sees it",
    "video wrong, motion follows": "swapped scenes in which neither imagined hand nor motion goes to the named thing",
    "video right, decoder wrong": "the imagined hand goes to the named thing and the motion does not",
    "video wrong, motion right": "the motion goes to the named thing and the imagined hand does not",
    "reader on real clips": "instrument: real expert clips whose way it reads within 45 degrees",
    ANSWERS: "questions about unseen pictures that the language model under the policy answers rightly, by their form",
    BEFORE: "the same questions, before any robot data",
}


def measures_of(design: Design, results: Sequence[dict[str, Any]], records: Records) -> tuple[Measure, ...]:
    """Every measure of every arm whose seeds are all finished: of swapped trials and of questions, if there are any."""
    swapped = any(condition.swapped for condition in design.conditions)
    found: list[Measure] = []
    for route in design.routes:
        for labels in route.labels:
            mine = [r for r in results if (r["route"], r["labels"]) == (route.name, labels) and not r.get("doubled")]
            if {result["seed"] for result in mine} == set(design.seeds):
                if swapped:
                    found += _of_trials(design, route, [record for r in mine for record in records[cell_name(r)]])
                    found += _of_words(route, [result["words"] for result in mine])
                if "asked" in mine[0]:
                    found += _of_questions(route, [result["asked"] for result in mine])
    order = list(NOTES)
    return tuple(sorted(found, key=lambda measure: order.index(measure.name)))


def cell_name(result: dict[str, Any]) -> str:
    """The cell that wrote this result."""
    return StudyCell(route=result["route"], labels=result["labels"], seed=result["seed"]).name


def _of_trials(design: Design, route: Route, records: Sequence[EpisodeRecord]) -> Iterator[Measure]:
    names = {condition.swapped: condition.name for condition in design.conditions}
    touched, achieved = list(NOTES)[:2], list(NOTES)[3:7]
    for swapped, condition in names.items():
        rows = [record for record in records if record.swapped == swapped]
        outcomes: list[tuple[str, Callable[[EpisodeRecord], bool]]] = [
            (touched[0], lambda r: r.touched[:1] == (r.named_object,)),
            (touched[1], lambda r: bool(r.touched) and r.touched[0] != r.named_object),
            (achieved[0], lambda r: r.success),
            *([(achieved[1], lambda r: r.old_goal_achieved)] if swapped else []),
            (achieved[2], lambda r: bool(r.achieved) and not r.success and not r.old_goal_achieved),
            (achieved[3], lambda r: not r.achieved),
        ]
        for name, outcome in outcomes:
            found = rate_over_runs(rows, outcome)
            if found is not None:
                yield _rate(name, route, condition, found)
    advantage = grounding([replace(record, cell="") for record in records]).instruction_advantage
    if advantage is not None:
        yield Measure(
            name="instruction advantage",
            arm=route.name,
            condition="both",
            value=advantage.difference,
            unit="points",
            interval=advantage.interval,
            trials=advantage.pairs,
            note=NOTES["instruction advantage"],
        )


def _of_words(route: Route, words: Sequence[dict[str, Any]]) -> Iterator[Measure]:
    """From what each training run wrote of its words."""
    for index, shift in enumerate(words[0]["probe"]["shifts"]):
        values = [found["probe"]["shifts"][index]["relative"] for found in words]
        yield _over_runs(SHIFT, route, shift["instruction"], values, "ratio", words[0]["probe"]["num_states"])
    motion = np.array([found["motion"] for found in words], dtype=bool)
    yield _share("first motion to the named thing", route, motion)
    if "video" in words[0]:
        video = np.array([found["video"] for found in words], dtype=bool)
        yield _share("imagined hand to the named thing", route, video)
        yield _share("video wrong, motion follows", route, ~video & ~motion)
        yield _share("video right, decoder wrong", route, video & ~motion)
        yield _share("video wrong, motion right", route, ~video & motion)
    if "reader" in words[0]:
        values = [found["reader"] for found in words]
        yield _over_runs("reader on real clips", route, "real clips", values, "share", 0)


def _of_questions(route: Route, asked: Sequence[dict[str, Any]]) -> Iterator[Measure]:
    """Right answers by kind of question, and before training."""
    kinds = np.array(asked[0]["kinds"])
    for name, key in ((ANSWERS, "after"), (BEFORE, "before")):
        right = np.array([each[key] for each in asked], dtype=float)
        for kind in dict.fromkeys(kinds.tolist()):
            hits = right[:, kinds == kind]
            found = Rate(successes=int(hits.sum()), trials=hits.size, interval=success_interval(hits))
            yield _rate(name, route, kind, found)


def _share(name: str, route: Route, outcomes: np.ndarray) -> Measure:
    hits = outcomes.astype(float)
    found = Rate(successes=int(hits.sum()), trials=hits.size, interval=success_interval(hits))
    return _rate(name, route, "swapped", found)


def _rate(name: str, route: Route, condition: str, found: Rate) -> Measure:
    return Measure(
        name=name,
        arm=route.name,
        condition=condition,
        value=found.share,
        unit="share",
        interval=found.interval,
        trials=found.trials,
        note=NOTES[name],
    )


def _over_runs(name: str, route: Route, condition: str, values: Sequence[float], unit: Any, trials: int) -> Measure:
    return Measure(
        name=name,
        arm=route.name,
        condition=condition,
        value=float(np.mean(values)),
        unit=unit,
        interval=mean_over_runs(values),
        trials=trials * len(values),
        note=NOTES[name],
    )
