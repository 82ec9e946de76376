"""``crossroads pilot``: data, cells, report. Everything finished is kept; the same call again goes on from there."""

from __future__ import annotations

import json
import multiprocessing
import os
import queue
import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from crossroads.data.check import require_sound
from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.split import hold_out, nested_subsets
from crossroads.data.writer import LeRobotWriter
from crossroads.errors import InputError
from crossroads.pilot.cell import Task, run_cell
from crossroads.pilot.plan import DATA_SEED, Cell, Profile, cells, fingerprint
from crossroads.recipes.nano import CAMERAS, IMAGE_HW
from crossroads.sim.tabletop.env import TABLETOP_SPACE
from crossroads.sim.tabletop.record import record_dataset
from crossroads.sim.tabletop.vector import Options

_SENT: Any = None


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
            data=self.data,
            out=self.out,
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
            num_workers=default_workers(),
            report=lambda done: bar.update(done - bar.n) and None,  # pyright: ignore[reportArgumentType]
        )


def run_cells(run: Run, *, workers: int) -> list[dict[str, Any]]:
    """Run every cell that is not finished; one process per core, each with one thread."""
    tasks = [run.task(cell) for cell in _cells(run)]
    results = {task.cell.name: json.loads(task.result.read_text()) for task in tasks if task.result.exists()}
    missing = [task for task in tasks if task.cell.name not in results]
    if missing:
        results |= _run_missing(missing, len(tasks), workers)
    shutil.rmtree(run.out / "features", ignore_errors=True)  # gigabytes that nothing reads any more
    return [results[task.cell.name] for task in tasks]


def _run_missing(tasks: Sequence[Task], num_cells: int, workers: int) -> dict[str, dict[str, Any]]:
    results: dict[str, dict[str, Any]] = {}
    finished = num_cells - len(tasks)
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    with tqdm(total=num_cells, initial=finished, desc="train and measure arms", bar_format=_BAR) as bar:
        stop = threading.Event()
        watcher = threading.Thread(target=_watch, args=(told, bar, stop, finished), daemon=True)
        watcher.start()
        os.environ["OMP_NUM_THREADS"] = "1"
        with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(told,)) as pool:
            waiting = {pool.submit(_run, task): task for task in tasks}
            try:
                for done in as_completed(waiting):
                    results[waiting[done].cell.name] = done.result()
            except BaseException:
                for process in list((pool._processes or {}).values()):
                    process.terminate()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            finally:
                stop.set()
        watcher.join(timeout=2)
    return results


_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.1f}/{total} [{elapsed}<{remaining}] {postfix}"


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


def _begin(told: Any) -> None:
    global _SENT
    import torch

    torch.set_num_threads(1)
    tqdm.set_lock(threading.RLock())  # its own would be a semaphore that a killed worker leaves behind
    _SENT = told
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose pilot was killed must not go on writing into its folder."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(task: Task) -> dict[str, Any]:
    name = task.cell.name
    return run_cell(task, lambda share: _SENT.put((name, share)))


def _watch(told: Any, bar: tqdm, stop: threading.Event, finished: int) -> None:
    shares: dict[str, float] = {}
    while not stop.is_set():
        try:
            name, share = told.get(timeout=0.3)
        except queue.Empty:
            continue
        shares[name] = share
        bar.n = finished + sum(shares.values())
        bar.set_postfix_str(", ".join(sorted(name for name, part in shares.items() if part < 1)), refresh=False)
        bar.refresh()


def default_workers() -> int:
    """One process per core this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
