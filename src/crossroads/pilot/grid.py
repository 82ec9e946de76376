"""A grid of jobs: run those that are not finished, some at once, and give back the results of all.

A job is a picklable value that writes a result file last, so a job that has it is finished and is not run again. A
worker that dies costs one try of its job; a job that raises ends the grid and leaves every finished job's files. Where
jobs run is an executor: worker processes of this machine (``Local``) or a Ray cluster (``cluster.Ray``).
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from tqdm import tqdm

from crossroads.errors import InputError

TRIES = 3
"""How often a job may be started when its workers keep dying."""
POLL_S = 0.3


@runtime_checkable
class Job(Protocol):
    """One cell of a grid; pickled to its worker."""

    @property
    def name(self) -> str:
        """Unique in its grid."""
        ...

    @property
    def result(self) -> Path:
        """What ``run`` returns, as JSON; written last and in one step."""
        ...

    def run(self, report: Callable[[float], None]) -> dict[str, Any]:
        """Do the work, or continue it; ``report`` takes the share that is done, 0 to 1."""
        ...


@dataclass(frozen=True, kw_only=True)
class Share:
    """How much of a running job is done."""

    name: str
    share: float


@dataclass(frozen=True, kw_only=True)
class Done:
    """A job has written its result."""

    name: str
    value: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A job raised; as text, because not every exception can travel between processes."""

    name: str
    message: str
    traceback: str
    wrong: InputError | None
    """The exception itself where a person's input was at fault."""


@dataclass(frozen=True, kw_only=True)
class Lost:
    """The worker of a job died."""

    name: str
    why: str


Event = Share | Done | Failed | Lost


@runtime_checkable
class Workers(Protocol):
    """Workers that are up."""

    def submit(self, job: Job) -> None:
        """Run this job when a worker is free; also a second time, after its worker was lost."""
        ...

    def events(self) -> Sequence[Event]:
        """What happened, after waiting a moment for it."""
        ...

    def close(self) -> None:
        """End every worker at once, busy or not."""
        ...


@runtime_checkable
class Executor(Protocol):
    """Where jobs run."""

    def open(self, folder: Path) -> Workers:
        """Bring workers up; every file of the jobs lies below ``folder``."""
        ...


class JobError(RuntimeError):
    """A job raised something that no person's input explains; the worker's traceback is a note."""


def attempt(job: Job, report: Callable[[float], None]) -> Done | Failed:
    """Run a job inside a worker."""
    try:
        return Done(name=job.name, value=job.run(report))
    except Exception as problem:
        return failed(job.name, problem)


def failed(name: str, problem: Exception) -> Failed:
    """What is told of an exception; to be called while it is handled."""
    return Failed(
        name=name,
        message=f"{type(problem).__name__}: {problem}",
        traceback=traceback.format_exc(),
        wrong=problem if isinstance(problem, InputError) else None,
    )


def run_jobs(
    jobs: Sequence[Job], *, executor: Executor, folder: Path, title: str, tries: int = TRIES
) -> list[dict[str, Any]]:
    """The results of all jobs in their order; runs those without a result file and shows a bar called ``title``.

    Workers come up only when a job is missing. Ctrl-C, like every exception, ends all workers.

    Raises:
        InputError: a job says that its input is wrong, or has lost its worker ``tries`` times.
        JobError: a job raised anything else.
    """
    assert len({job.name for job in jobs}) == len(jobs), "two jobs of one name"
    results = {job.name: _read(job) for job in jobs if job.result.exists()}
    missing = {job.name: job for job in jobs if job.name not in results}
    if missing:
        with _Bar(title, total=len(jobs), finished=len(results)) as bar:
            results |= _run_missing(missing, executor, folder, bar, tries)
    return [results[job.name] for job in jobs]


def _read(job: Job) -> dict[str, Any]:
    return json.loads(job.result.read_text())


def _run_missing(
    missing: Mapping[str, Job], executor: Executor, folder: Path, bar: _Bar, tries: int
) -> dict[str, dict[str, Any]]:
    results: dict[str, dict[str, Any]] = {}
    lost: Counter[str] = Counter()
    with contextlib.closing(executor.open(folder)) as workers:
        for job in missing.values():
            workers.submit(job)
        while len(results) < len(missing):
            for event in workers.events():
                match event:
                    case Share(name=name, share=share):
                        bar.show(name, share)
                    case Failed():
                        raise _error(event)
                    case Done(name=name, value=value):
                        results[name] = value
                        bar.show(name, 1.0)
                    case Lost(name=name) if missing[name].result.exists():  # it died after its last step
                        results[name] = _read(missing[name])
                        bar.show(name, 1.0)
                    case Lost(name=name, why=why):
                        lost[name] += 1
                        if lost[name] == tries:
                            raise _given_up(name, why, tries)
                        bar.say(f"{name}: lost its worker ({why}); try {lost[name] + 1} of {tries}")
                        bar.show(name, 0.0)
                        workers.submit(missing[name])
    return results


def _error(event: Failed) -> Exception:
    if event.wrong is not None:
        wrong = event.wrong
        return InputError(where=f"{event.name}: {wrong.where}", expected=wrong.expected, got=wrong.got, do=wrong.do)
    error = JobError(f"{event.name}: {event.message}")
    error.add_note(f"In the worker:\n{event.traceback}")
    return error


def _given_up(name: str, why: str, tries: int) -> InputError:
    return InputError(
        where=name,
        expected="a worker that lives as long as its job",
        got=f"{tries} lost ones, the last {why}",
        do="Most often memory ran out: run fewer jobs at once. The same command goes on where it stopped.",
    )


class _Bar:
    """The progress of the whole grid, in jobs and parts of jobs; the names are of those that are running."""

    def __init__(self, title: str, *, total: int, finished: int) -> None:
        form = "{desc}: {percentage:3.0f}%|{bar}| {n:.1f}/{total} [{elapsed}<{remaining}] {postfix}"
        self._bar = tqdm(total=total, initial=finished, desc=title, bar_format=form)
        self._finished = finished
        self._shares: dict[str, float] = {}

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, name: str, share: float) -> None:
        self._shares[name] = share
        self._bar.n = self._finished + sum(self._shares.values())
        running = sorted(name for name, part in self._shares.items() if part < 1)
        self._bar.set_postfix_str(", ".join(running), refresh=False)
        self._bar.refresh()

    def say(self, line: str) -> None:
        self._bar.write(line, file=sys.stderr)


@dataclass(frozen=True, kw_only=True)
class Local:
    """Worker processes of this machine, at most ``num_workers``, each computing with one thread."""

    num_workers: int

    def __post_init__(self) -> None:
        if self.num_workers < 1:
            raise InputError(
                where="jobs at once",
                expected="1 or more",
                got=str(self.num_workers),
                do="Leave it out for one per core.",
            )

    def open(self, folder: Path) -> _Processes:
        return _Processes(self.num_workers)


@dataclass(kw_only=True)
class _Worker:
    process: SpawnProcess
    pipe: Connection
    job: Job | None = None


class _Processes:
    """Spawned processes that take one job after another, each over a pipe of its own.

    A pipe breaks when its process dies, which is how a loss is seen; a queue shared by all could be left locked.
    """

    def __init__(self, num_workers: int) -> None:
        self._num_workers = num_workers
        self._waiting: deque[Job] = deque()
        self._workers: list[_Worker] = []

    def submit(self, job: Job) -> None:
        self._waiting.append(job)

    def events(self) -> Sequence[Event]:
        while self._waiting and (worker := self._free()):
            job = self._waiting.popleft()
            worker.job = job
            with contextlib.suppress(BrokenPipeError):  # it has died since; reading will tell
                worker.pipe.send(job)
        busy = [worker for worker in self._workers if worker.job]
        ready = wait([end for worker in busy for end in (worker.pipe, worker.process.sentinel)], timeout=POLL_S)
        return [self._heard(worker) for worker in busy if worker.pipe in ready or worker.process.sentinel in ready]

    def close(self) -> None:
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(timeout=5)
            if worker.process.exitcode is None:
                worker.process.kill()
                worker.process.join()
            worker.pipe.close()
        self._workers.clear()

    def _free(self) -> _Worker | None:
        idle = next((worker for worker in self._workers if worker.job is None), None)
        if idle is None and len(self._workers) < self._num_workers:
            idle = _start()
            self._workers.append(idle)
        return idle

    def _heard(self, worker: _Worker) -> Event:
        assert worker.job is not None
        name = worker.job.name
        try:
            if not worker.pipe.poll():  # a child of the dead worker may still hold the other end open
                raise EOFError
            event: Event = worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join()
            self._workers.remove(worker)
            worker.pipe.close()
            return Lost(name=name, why=_ended(worker.process.exitcode))
        if isinstance(event, Done | Failed):
            worker.job = None
        return event


def _start() -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,))
    with _one_thread():
        process.start()
    theirs.close()
    return _Worker(process=process, pipe=ours)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Processes started inside compute with one thread: OpenMP and BLAS read this when they are loaded."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def _ended(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return f"killed by {signal.Signals(-exitcode).name}"
    return f"ended with status {exitcode}"


def _work(pipe: Connection) -> None:
    """A worker process: job after job until its pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the grid ends its workers itself
    threading.Thread(target=_end_with_parent, daemon=True).start()
    tqdm.set_lock(threading.RLock())  # its own would be a semaphore that a killed worker leaves behind
    while True:
        try:
            job: Job = pipe.recv()
        except EOFError:
            return
        pipe.send(attempt(job, lambda share, name=job.name: pipe.send(Share(name=name, share=share))))


def _end_with_parent() -> None:
    """A worker whose grid was killed must not go on writing into its folder."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
