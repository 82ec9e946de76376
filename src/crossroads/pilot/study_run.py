"""``crossroads study``: plan, data, cells, findings of a matched experiment; the same call again goes on from there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

from tqdm import tqdm

from crossroads.backbones.clips import clip_of
from crossroads.backbones.questions import words
from crossroads.cost.price import Device
from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.split import nested_subsets
from crossroads.data.writer import LeRobotWriter
from crossroads.errors import InputError
from crossroads.evaluate.records import read_records
from crossroads.pilot.budget import Budget, compare, spend
from crossroads.pilot.design import Design, Part, Role, study_cells
from crossroads.pilot.grid import Executor, run_jobs
from crossroads.pilot.plain import to_plain
from crossroads.pilot.plan import fingerprint
from crossroads.pilot.study import BudgetTable, Study
from crossroads.pilot.study_cell import StudyTask, trainings_of
from crossroads.pilot.study_effects import to_double
from crossroads.pilot.study_found import as_text, study_of
from crossroads.recipes.nano import CAMERAS, IMAGE_HW
from crossroads.sim.tabletop.env import TABLETOP_GEOMETRY, TABLETOP_SPACE
from crossroads.sim.tabletop.record import Episode, record_episodes
from crossroads.sim.tabletop.vector import Options


@dataclass(frozen=True, kw_only=True)
class StudyRun:
    """A study's folder and what is in it."""

    out: Path
    design: Design
    data: Path
    tasks: tuple[StudyTask, ...]


def prepare_study(out: Path, design: Design, *, num_workers: int) -> StudyRun:
    """Record the study's episodes and list its cells; refuses a folder that holds another study."""
    mark = fingerprint(design)
    path = out / "study-plan.json"
    if path.exists():
        if json.loads(path.read_text())["fingerprint"] != mark:
            raise InputError(
                where=str(out),
                expected="an empty folder or one of this study",
                got="one of another study, or of another version of it",
                do="Give another --out, or delete that folder.",
            )
    elif out.exists() and any(out.iterdir()):
        raise InputError(
            where=str(out), expected="an empty folder", got="other files", do="Give another --out; nothing was changed."
        )
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"fingerprint": mark, "design": asdict(design)}, indent=1))
    data = out / "data"
    if not data.exists():
        _record(data, design, num_workers)
    dataset = LeRobotDataset.open(data)
    roles = _roles(design)
    sizes = sorted({size for route in design.routes for size in route.labels})
    subsets = nested_subsets(dataset, sizes, 0, among=roles["labels"], family=lambda ep: ep.text.split(" ")[0])
    task = StudyTask(
        cell=study_cells(design)[0],
        design=design,
        data=data.resolve(),
        out=out.resolve(),
        subsets=subsets,
        video=roles["video"],
        answers=roles["answers"],
        questions=roles["questions"],
    )
    return StudyRun(out=out, design=design, data=data, tasks=tuple(replace(task, cell=c) for c in study_cells(design)))


def run_study(run: StudyRun, *, executor: Executor, device: Device) -> Study:
    """Run every cell that is not finished, then the plateau check of every effect that would be settled.

    What was found is written after each of the two, so that a study cut off in its plateau check says what it knows.
    """
    title = run.design.title
    results = run_jobs(run.tasks, executor=executor, folder=run.out, title=title)
    found = write_study(run, results, device)
    longer = replace(run.design, steps=2 * run.design.steps)
    doubled = [replace(run.tasks[0], cell=cell, design=longer) for cell in to_double(run.design, results)]
    if doubled:
        further = run_jobs(doubled, executor=executor, folder=run.out, title=f"{title}: plateau check")
        found = write_study(run, [*results, *further], device)
    shutil.rmtree(run.out / "features", ignore_errors=True)  # gigabytes that nothing reads any more
    return found


def _roles(design: Design) -> dict[Role, tuple[int, ...]]:
    """Episode indices by role; parts lie one behind the other."""
    found: dict[Role, tuple[int, ...]] = dict.fromkeys(get_args(Role), ())
    start = 0
    for part in design.parts:
        found[part.role] = (*found[part.role], *range(start, start + part.num))
        start += part.num
    return found


def _record(where: Path, design: Design, num_workers: int) -> None:
    cameras = dict.fromkeys(CAMERAS, IMAGE_HW)
    bar = tqdm(total=sum(part.num for part in design.parts), desc="record demonstrations", unit="episode")
    fps = TABLETOP_SPACE.control_hz
    robot = {"fps": fps, "space": TABLETOP_SPACE, "geometry": TABLETOP_GEOMETRY}
    with bar, LeRobotWriter(where, cameras=cameras, words=design.asks, **robot) as writer:
        for part in design.parts:
            for episode in _played(design, part, num_workers):
                writer.add_episode(
                    images=episode.images,
                    state=episode.state,
                    actions=episode.actions,
                    text=episode.text,
                    session=episode.session,
                    action_free=part.role == "video",
                    **({"words": words(clip_of(episode), fps=fps, seed=episode.seed)} if design.asks else {}),
                )
                bar.update()
        writer.finalise()


def _played(design: Design, part: Part, num_workers: int) -> Iterator[Episode]:
    tables = Options(families=design.families, cameras=CAMERAS, image_hw=IMAGE_HW, pairing=part.pairing)
    return record_episodes(tables, num_episodes=part.num, seed=part.first_seed, num_workers=num_workers)


def plan_of(design: Design, device: Device) -> BudgetTable:
    """What one cell of each arm will spend, before anything is spent; refuses arms that are not equal."""
    space, cameras = TABLETOP_SPACE, CAMERAS
    planned = {route.name: spend(trainings_of(design, route, space, cameras), device) for route in design.routes}
    return compare(planned, Budget(match=design.match), device)


def write_study(run: StudyRun, results: Sequence[dict[str, Any]], device: Device) -> Study:
    """``study.json`` and ``study.txt`` in the study's folder, from the cells that have run."""
    names = [task.name for task in run.tasks if task.result.is_file()]
    records = {name: read_records(run.out / "cells" / name / "episodes.jsonl") for name in names}
    found = study_of(run.design, results, records, space=TABLETOP_SPACE, cameras=CAMERAS, device=device)
    for name, text in (
        ("study.json", json.dumps(to_plain(found), indent=1, ensure_ascii=False, allow_nan=False) + "\n"),
        ("study.txt", as_text(found) + "\n"),
    ):
        partial = run.out / f".{name}.partial"
        partial.write_text(text, encoding="utf-8")
        partial.replace(run.out / name)
    return found
