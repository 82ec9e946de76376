"""``crossroads pilot``: data, cells, report. Everything finished is kept; the same call again goes on from there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from crossroads.cores import usable_cores
from crossroads.data.check import require_sound
from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.split import hold_out, nested_subsets
from crossroads.data.writer import LeRobotWriter
from crossroads.errors import InputError
from crossroads.pilot.budget import Budget, this_device
from crossroads.pilot.cell import Task
from crossroads.pilot.grid import Executor, Local
from crossroads.pilot.plain import from_plain, to_plain
from crossroads.pilot.plan import DATA_SEED, Cell, Profile, cells, fingerprint
from crossroads.pilot.spending import with_budget
from crossroads.pilot.study import BudgetTable
from crossroads.recipes.nano import CAMERAS, IMAGE_HW
from crossroads.sim.tabletop.env import TABLETOP_GEOMETRY, TABLETOP_SPACE
from crossroads.sim.tabletop.record import record_dataset
from crossroads.sim.tabletop.vector import Options
from crossroads.space import ActionSpace

UNSTATED = Budget()
"""The profile's own steps, equal for all arms."""


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
    spending: BudgetTable
    """What was planned before anything was trained."""
    left_out: tuple[int, ...] = ()
    """Faulty episodes that nothing is read of."""

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
            left_out=self.left_out,
        )


def prepare(
    out: Path, plan: Profile, data: Path | None, budget: Budget = UNSTATED, *, skip_faulty: bool = False
) -> Run:
    """Record the tabletop dataset (or open the given one), split it, lay the budget over it, and refuse a folder that
    holds another pilot."""
    left_out = require_sound(data, skip_faulty=skip_faulty) if data else ()
    told = (plan, budget, data.resolve() if data else "tabletop", *((left_out,) if left_out else ()))
    asked = {"fingerprint": fingerprint(*told), "profile": asdict(plan)}
    asked["data"] = str(data or "tabletop")
    known = _own(out, plan, asked)
    where = data or out / "data"
    if data is None:
        if not known:
            plan_without_data(plan, budget)  # arms that are not equal are refused before anything is recorded
        _claim(out, {**asked, **known})
        if not where.exists():
            _record(where, plan)
    dataset = LeRobotDataset.open(where, without=left_out)
    train, held_out, sizes = _split(dataset, plan, embedded=data is None)
    subsets = nested_subsets(dataset, sizes, 0, among=train, family=lambda episode: episode.text.split(" ")[0])
    if "spending" in known:
        spending = from_plain(BudgetTable, known["spending"])
        plan = replace(plan, arm_steps=tuple((arm, size, steps) for arm, size, steps in known["arm_steps"]))
    else:
        plan, spending = _planned(plan, budget, sizes, dataset.space, dataset.cameras)
    _claim(out, {**asked, "arm_steps": plan.arm_steps, "spending": to_plain(spending)})
    return Run(
        out=out,
        plan=plan,
        data=where,
        closed_loop=data is None,
        subsets=subsets,
        held_out=held_out,
        action_free=tuple(dataset.episodes.where(action_free=True).tolist()),
        spending=spending,
        left_out=left_out,
    )


def plan_without_data(plan: Profile, budget: Budget) -> BudgetTable:
    """What a pilot on the embedded tabletop would spend; nothing is recorded or written."""
    return _planned(plan, budget, plan.labels, TABLETOP_SPACE, CAMERAS)[1]


def plan_on(data: Path, plan: Profile, budget: Budget, *, skip_faulty: bool = False) -> BudgetTable:
    """What a pilot on a dataset would spend; nothing is written."""
    dataset = LeRobotDataset.open(data, without=require_sound(data, skip_faulty=skip_faulty))
    _, _, sizes = _split(dataset, plan, embedded=False)
    return _planned(plan, budget, sizes, dataset.space, dataset.cameras)[1]


def _planned(
    plan: Profile, budget: Budget, sizes: Sequence[int], space: ActionSpace, cameras: tuple[str, ...]
) -> tuple[Profile, BudgetTable]:
    device = this_device(price_per_hour=budget.price_per_hour)
    return with_budget(plan, budget, sizes=sizes, space=space, cameras=cameras, device=device)


def _split(
    dataset: LeRobotDataset, plan: Profile, *, embedded: bool
) -> tuple[list[int], tuple[int, ...], Sequence[int]]:
    """Episodes to train on, episodes held out, and the numbers of labels that there are enough of."""
    labelled = dataset.episodes.where(action_free=False).tolist()
    if embedded:
        return labelled[: -plan.num_held_out], tuple(labelled[-plan.num_held_out :]), plan.labels
    kept, held_out = hold_out(dataset, 0.2, 0, among=labelled)
    sizes = [size for size in plan.labels if size < len(kept)]
    return list(kept), held_out, [*sizes, len(kept)]


def _own(out: Path, plan: Profile, asked: dict[str, Any]) -> dict[str, Any]:
    """What the folder says of this pilot, empty for a new one; refuses one that holds anything else."""
    path = out / "plan.json"
    if path.exists():
        found = json.loads(path.read_text())
        if found["fingerprint"] != asked["fingerprint"]:
            raise InputError(
                where=str(out),
                expected=f"an empty folder or one of this pilot (profile {plan.name}, data {asked['data']})",
                got=f"one of another pilot (profile {found['profile']['name']}, data {found['data']}, or its budget)",
                do="Give another --out, or delete that folder.",
            )
        return found
    if out.exists() and any(out.iterdir()):
        raise InputError(
            where=str(out), expected="an empty folder", got="other files", do="Give another --out; nothing was changed."
        )
    return {}


def _claim(out: Path, value: dict[str, Any]) -> None:
    """Say whose folder this is."""
    out.mkdir(parents=True, exist_ok=True)
    partial = out / ".plan.json.partial"
    partial.write_text(json.dumps(value, indent=1))
    partial.replace(out / "plan.json")


def _record(where: Path, plan: Profile) -> None:
    num = max(plan.labels) + plan.num_held_out
    bar = tqdm(total=num + plan.num_action_free, desc="record demonstrations", unit="episode")
    cameras = dict.fromkeys(CAMERAS, IMAGE_HW)
    robot = {"fps": TABLETOP_SPACE.control_hz, "space": TABLETOP_SPACE, "geometry": TABLETOP_GEOMETRY}
    with bar, LeRobotWriter(where, cameras=cameras, **robot) as writer:
        record_dataset(
            writer,
            Options(families=plan.families, cameras=CAMERAS, image_hw=IMAGE_HW),
            num_episodes=num,
            num_action_free=plan.num_action_free,
            seed=DATA_SEED,
            num_workers=usable_cores(),
            report=lambda done: bar.update(done - bar.n) and None,  # pyright: ignore[reportArgumentType]
        )


def main_cells(run: Run) -> tuple[Cell, ...]:
    """The plan's cells with the sizes this dataset could give, one seed after the other."""
    sizes = sorted(run.subsets)
    found = [cell for cell in cells(run.plan) if cell.labels in sizes]
    largest = [
        Cell(arm=arm, labels=sizes[-1], seed=seed)
        for seed in run.plan.seeds
        for arm in (*run.plan.arms, run.plan.control)
    ]
    # Longest first: several at once then end together.
    return tuple(sorted(dict.fromkeys([*largest, *found]), key=lambda cell: (cell.seed, -cell.labels)))


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
