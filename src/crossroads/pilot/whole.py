"""The whole of a pilot after its data: every cell, then the plateau check and the imagined clips of the arms."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Any

from crossroads.axes import imagines
from crossroads.pilot.assemble import to_double, verdict_labels
from crossroads.pilot.cell import Task
from crossroads.pilot.executability import ExecutabilityTask
from crossroads.pilot.grid import Executor, Job, run_jobs
from crossroads.pilot.plan import Cell
from crossroads.pilot.run import Run, main_cells
from crossroads.recipes.catalogue import recipe


def run_pilot(run: Run, *, executor: Executor) -> list[dict[str, Any]]:
    """Run every job that is not finished; the results of all cells, those of the plateau check among them."""
    tasks = [run.task(cell) for cell in main_cells(run)]
    results = run_jobs(tasks, executor=executor, folder=run.out, title="train and measure arms")
    doubled = [run.task(cell) for cell in to_double(run, results)]
    further: Sequence[Job] = [*doubled, *_clips(run, tasks)]
    found = run_jobs(further, executor=executor, folder=run.out, title="plateau check, imagined clips")
    shutil.rmtree(run.out / "features", ignore_errors=True)  # gigabytes that nothing reads any more
    return [*results, *found[: len(doubled)]]


def _clips(run: Run, tasks: Sequence[Task]) -> list[ExecutabilityTask]:
    """One job per arm that imagines while acting, on its first run with all labels; needs a simulator."""
    if not run.closed_loop:
        return []
    imagining = [arm for arm in run.plan.arms if imagines(recipe(arm))]
    wanted = {Cell(arm=arm, labels=max(run.subsets), seed=run.plan.seeds[0]) for arm in imagining}
    return [ExecutabilityTask(cell=task, inverse_labels=verdict_labels(run)) for task in tasks if task.cell in wanted]
