"""``crossroads pilot``: data, cells, report. Everything finished is kept; the same call again goes on from there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from crossroads.cores import usable_cores
from crossroads.data.check import require_sound
from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.split import hold_out, nested_subsets
from crossroads.data.writer import LeRobotWriter
from crossroads.errors import InputError
from crossroads.pilot.cell import Task
from crossroads.pilot.grid import Executor, Local, run_jobs
from crossroads.pilot.plan import DATA_SEED, Cell, Profile, cells, fingerprint
from crossroads.recipes.nano import CAMERAS, IMAGE_HW
from crossroads.sim.tabletop.env import TABLETOP_SPACE
from crossroads.sim.tabletop.record import record_dataset
from crossroads.sim.tabletop.vector import Options


@dataclass(frozen=True, kw_only=True)
class Run:
    """A pilot's folder and what is in it."""

    out: Path
    plan: Profile
    data: Path
    closed_loop: bool
    subsets: dict[int, tuple[int, ...]]
    held_out: tuple[int, ...]
    action_free: tuple[int, ...]

    def task(self, cell: Cell) -> Task:
        return Task(
            cell=cell,
            plan=self.plan,
            data=self.data.resolve(),
            out=self.out.resolve(),
            subsets=self.subsets,
            held_out=self.held_out,
            action_free=self.action_free,
            closed_loop=self.closed_loop,
        )


def prepare(out: Path, plan: Profile, data: Path | None) -> Run:
    """Record the tabletop dataset (or open the given one), split it, and refuse a folder that holds another pilot."""
    mark = _own(out, plan, data)
    where = data or out / "data"
    if data is None:
        _claim(out, plan, data, mark)
        if not where.exists():
            _record(where, plan)
    else:
        require_sound(data)
    dataset = LeRobotDataset.open(where)
    labelled = [episode.index for episode in dataset.episodes if not episode.action_free]
    if data is None:
        held_out, train = tuple(labelled[-plan.num_held_out :]), labelled[: -plan.num_held_out]
        sizes: Sequence[int] = plan.labels
    else:
        kept, held_out = hold_out(dataset, 0.2, 0, among=labelled)
        train = list(kept)
        sizes = [size for size in plan.labels if size < len(train)]
        sizes = [*sizes, len(train)]
    subsets = nested_subsets(dataset, sizes, 0, among=train, family=lambda episode: episode.text.split(" ")[0])
    free = tuple(episode.index for episode in dataset.episodes if episode.action_free)
    _claim(out, plan, data, mark)
    return Run(
        out=out,
        plan=plan,
        data=where,
        closed_loop=data is None,
        subsets=subsets,
        held_out=held_out,
        action_free=free,
    )


def _own(out: Path, plan: Profile, data: Path | None) -> str:
    """The mark of this pilot; refuses a folder that holds anything else, and writes nothing."""
    mark = fingerprint(plan, data.resolve() if data else "tabletop")
    path = out / "plan.json"
    if path.exists():
        found = json.loads(path.read_text())
        if found["fingerprint"] != mark:
            raise InputError(
                where=str(out),
                expected=f"an empty folder or one of this pilot (profile {plan.name}, data {data or 'tabletop'})",
                got=f"one of another pilot (profile {found['profile']['name']}, data {found['data']})",
                do="Give another --out, or delete that folder.",
            )
    elif out.exists() and any(out.iterdir()):
        raise InputError(
            where=str(out), expected="an empty folder", got="other files", do="Give another --out; nothing was changed."
        )
    return mark


def _claim(out: Path, plan: Profile, data: Path | None, mark: str) -> None:
    """Say whose folder this is."""
    out.mkdir(parents=True, exist_ok=True)
    value = {"fingerprint": mark, "profile": asdict(plan), "data": str(data or "tabletop")}
    (out / "plan.json").write_text(json.dumps(value, indent=1))


def _record(where: Path, plan: Profile) -> None:
    num = max(plan.labels) + plan.num_held_out
    bar = tqdm(total=num + plan.num_action_free, desc="record demonstrations", unit="episode")
    cameras = dict.fromkeys(CAMERAS, IMAGE_HW)
    with bar, LeRobotWriter(where, fps=TABLETOP_SPACE.control_hz, cameras=cameras, space=TABLETOP_SPACE) as writer:
        record_dataset(
            writer,
            Options(families=plan.families, cameras=CAMERAS, image_hw=IMAGE_HW),
            num_episodes=num,
            num_action_free=plan.num_action_free,
            seed=DATA_SEED,
            num_workers=usable_cores(),
            report=lambda done: bar.update(done - bar.n) and None,  # pyright: ignore[reportArgumentType]
        )


def run_cells(run: Run, *, executor: Executor) -> list[dict[str, Any]]:
    """Run every cell that is not finished."""
    tasks = [run.task(cell) for cell in _cells(run)]
    results = run_jobs(tasks, executor=executor, folder=run.out, title="train and measure arms")
    shutil.rmtree(run.out / "features", ignore_errors=True)  # gigabytes that nothing reads any more
    return results


def _cells(run: Run) -> tuple[Cell, ...]:
    """The plan's cells with the sizes this dataset could give."""
    sizes = sorted(run.subsets)
    found = [cell for cell in cells(run.plan) if cell.labels in sizes]
    largest = [
        Cell(arm=arm, labels=sizes[-1], seed=seed)
        for seed in run.plan.seeds
        for arm in (*run.plan.arms, run.plan.control)
    ]
    return tuple(dict.fromkeys([*found, *largest]))


def choose_executor(
    *, jobs: int | None, ray: str | None, cpus_per_cell: int | None, gpus_per_cell: float | None
) -> Executor:
    """Where cells run: processes of this machine (one per core if ``jobs`` is None), or the Ray cluster at ``ray``.

    Raises:
        InputError: a setting that only the other kind of executor has.
    """
    if ray is None:
        for option, value in (("--cpus-per-cell", cpus_per_cell), ("--gpus-per-cell", gpus_per_cell)):
            if value is not None:
                raise InputError(
                    where=option,
                    expected="--ray beside it",
                    got="cells on this machine, which reserve nothing",
                    do=f"Give --ray ADDRESS, or leave {option} out.",
                )
        return Local(num_workers=usable_cores() if jobs is None else jobs)
    if jobs is not None:
        raise InputError(
            where="--jobs",
            expected="cells on this machine",
            got=f"--ray {ray}, whose free cores and GPUs say how many run at once",
            do="Give one of --jobs and --ray.",
        )
    from crossroads.pilot.cluster import Ray

    return Ray(
        address=ray,
        cpus_per_job=1 if cpus_per_cell is None else cpus_per_cell,
        gpus_per_job=0.0 if gpus_per_cell is None else gpus_per_cell,
    )
