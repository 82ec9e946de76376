"""Jobs of a grid on a Ray cluster (https://docs.ray.io), with cores and GPUs reserved for each.

Workers write where the driver would: every node must see the grid's folder under the same path (NFS, say), and must
have the same crossroads installed. Each job checks the folder before it starts. Ray's own retries are off, so that a
lost worker is counted and told as it is on one machine; a job continues from the checkpoints in its folder.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import secrets
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle, exceptions
from tqdm import tqdm

from crossroads.errors import InputError
from crossroads.pilot.grid import POLL_S, Done, Event, Failed, Job, Lost, Share, attempt, failed

MARK = ".grid"
"""The file by which a node knows that it sees the driver's folder."""


@dataclass(frozen=True, kw_only=True)
class Ray:
    """A running Ray cluster. A job computes with one thread there too, so that its numbers are the same everywhere."""

    address: str
    """HOST:PORT of the head, as `ray start --head` prints it; this machine must be a node of the cluster."""
    cpus_per_job: int = 1
    """More than 1 leaves fewer jobs to a node, and more memory to each."""
    gpus_per_job: float = 0.0
    """Below 1, jobs share a GPU."""

    def __post_init__(self) -> None:
        gpus = self.gpus_per_job
        if self.cpus_per_job < 1 or gpus < 0 or (gpus > 1 and gpus != int(gpus)):
            raise InputError(
                where="reserved for each job",
                expected="1 or more cores, and a share of one GPU or a whole number of them",
                got=f"{self.cpus_per_job} cores and {gpus:g} GPUs",
                do="Give other numbers.",
            )

    def open(self, folder: Path) -> _Cluster:
        _connect(self.address)
        try:
            self._require_room()
            return _Cluster(self, folder.resolve())
        except BaseException:
            ray.shutdown()
            raise

    def _require_room(self) -> None:
        """Ray would wait for ever for what no node has."""
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(
            node.get("CPU", 0) >= self.cpus_per_job and node.get("GPU", 0) >= self.gpus_per_job for node in nodes
        ):
            has = ", ".join(f"{node.get('CPU', 0):g} cores and {node.get('GPU', 0):g} GPUs" for node in nodes)
            raise InputError(
                where=f"Ray cluster {self.address}",
                expected=f"a node with {self.cpus_per_job} cores and {self.gpus_per_job:g} GPUs for a job",
                got=has or "no nodes",
                do="Reserve less for each job, or start a larger node first.",
            )


def _connect(address: str) -> None:
    """Join the cluster, without Ray's own output; a wrong address is told at once, where Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, OverflowError, RuntimeError, ValueError) as problem:
        raise InputError(
            where=f"Ray cluster {address}",
            expected="HOST:PORT of a running cluster that this machine is a node of, with this Ray and this Python",
            got=str(problem),
            do="Start it with `ray start --head`, which prints the address, and join it with `ray start --address`.",
        ) from problem


class _Cluster:
    """A connection to Ray: one task for each job, and one small actor that collects their progress."""

    def __init__(self, options: Ray, folder: Path) -> None:
        self._options = options
        folder.mkdir(parents=True, exist_ok=True)
        self._mark, self._token = folder / MARK, secrets.token_hex(16)
        self._mark.write_text(self._token)
        self._board: Any = ray.remote(_Board).options(num_cpus=0, max_restarts=-1).remote()
        self._running: dict[ray.ObjectRef, Job] = {}

    def submit(self, job: Job) -> None:
        assert job.result.is_absolute(), f"{job.result}: another node has another working folder"
        cpus, gpus = self._options.cpus_per_job, self._options.gpus_per_job
        task = ray.remote(_run).options(name=job.name, num_cpus=cpus, num_gpus=gpus, max_retries=0)
        pickled = cloudpickle.dumps(job)  # pyright: ignore[reportPrivateImportUsage]
        self._running[task.remote(job.name, pickled, self._mark, self._token, self._board)] = job

    def events(self) -> Sequence[Event]:
        ready, _ = ray.wait(list(self._running), num_returns=1, timeout=POLL_S)
        found: list[Event] = [self._heard(task) for task in ready]
        names = {job.name for job in self._running.values()}
        return [*(Share(name=name, share=share) for name, share in self._shares().items() if name in names), *found]

    def close(self) -> None:
        for task in self._running:
            ray.cancel(task, force=True)
        self._running.clear()
        ray.shutdown()
        self._mark.unlink(missing_ok=True)

    def _heard(self, task: ray.ObjectRef) -> Done | Failed | Lost:
        name = self._running.pop(task).name
        try:
            return ray.get(task)
        except _LOST as problem:
            return Lost(name=name, why=type(problem).__name__)
        except exceptions.RayError as problem:  # the worker could not even read the job
            return failed(name, problem)

    def _shares(self) -> dict[str, float]:
        with contextlib.suppress(exceptions.RayActorError, exceptions.GetTimeoutError):  # it starts again, from nothing
            return ray.get(self._board.take.remote(), timeout=10 * POLL_S)
        return {}


_LOST = (
    exceptions.WorkerCrashedError,
    exceptions.OutOfMemoryError,
    exceptions.NodeDiedError,
    exceptions.ObjectLostError,
)


class _Board:
    """The progress that workers have told since the driver last asked."""

    def __init__(self) -> None:
        self._shares: dict[str, float] = {}

    def tell(self, name: str, share: float) -> None:
        self._shares[name] = share

    def take(self) -> dict[str, float]:
        shares, self._shares = self._shares, {}
        return shares


def _run(name: str, job: bytes, mark: Path, token: str, board: Any) -> Done | Failed:
    """The task: one job in a Ray worker."""
    os.environ["OMP_NUM_THREADS"] = "1"  # before reading the job loads what heeds it
    tqdm.set_lock(threading.RLock())  # as in a worker of one machine
    try:
        _require_shared(mark, token)
        ready: Job = pickle.loads(job)
    except Exception as problem:
        return failed(name, problem)
    return attempt(ready, lambda share: board.tell.remote(name, share))


def _require_shared(mark: Path, token: str) -> None:
    """The driver reads what workers write, so a node that does not see the driver's folder must not work."""
    found = mark.read_text() if mark.exists() else ""
    if found != token:
        raise InputError(
            where=f"node {socket.gethostname()}",
            expected=f"the driver's folder {mark.parent}",
            got="another folder of that name" if mark.parent.exists() else "no such folder",
            do="Give --out a folder that every node of the cluster sees under the same path.",
        )
