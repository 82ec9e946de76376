"""A process that decodes: `python -m crossroads.data.decode_worker` reads tasks and answers on its pipes, in JSON.

It imports no torch unless pictures are resized, knows nothing of the dataset but the times it is sent (so workers hold
no copies of the index), writes pictures straight to their place in the cache file, and ends when its parent does, for
then the pipe ends. `fill` is the parent's side.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Lock

import numpy as np

from crossroads.data.resize import resize
from crossroads.data.video import decode
from crossroads.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Part:
    """The pictures of one episode, and where they go."""

    unit: int
    times_s: Sequence[float]
    offset: int
    """Of its first byte in the cache file."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """Some episodes of one video file."""

    video: str
    out: str
    image_hw: tuple[int, int]
    tolerance_s: float
    parts: Sequence[Part]


def fill(tasks: Iterator[Task], num_workers: int, done: Callable[[int], None]) -> None:
    """Decode in so many processes; `done` is told each unit when its bytes are written, from several threads.

    Raises `InputError` as `decode` does, and `RuntimeError` when a process ends before its work does.
    """
    shared = _Shared(tasks=tasks)
    with ThreadPoolExecutor(num_workers) as pool:
        serving = [pool.submit(_serve, shared, done) for _ in range(num_workers)]
        wait(serving, return_when=FIRST_EXCEPTION)
        shared.close()  # after a fault, the others end after the task they are at
        for one in serving:
            one.result()


@dataclass
class _Shared:
    """Tasks that are taken from several threads."""

    tasks: Iterator[Task]
    lock: Lock = field(default_factory=Lock)
    ended: bool = False

    def take(self) -> Task | None:
        with self.lock:
            return None if self.ended else next(self.tasks, None)

    def close(self) -> None:
        self.ended = True


def _serve(shared: _Shared, done: Callable[[int], None]) -> None:
    task = shared.take()
    if task is None:
        return
    home = str(Path(__file__).parents[2])
    paths = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "crossroads.data.decode_worker"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": paths}, text=True
    ) as worker:
        assert worker.stdin
        assert worker.stdout
        try:
            while task is not None:
                with suppress(BrokenPipeError):  # what it said before it ended is read below
                    worker.stdin.write(json.dumps(asdict(task)) + "\n")
                    worker.stdin.flush()
                for _ in task.parts:
                    said = json.loads(worker.stdout.readline() or '{"ended": ""}')
                    if "unit" not in said:
                        raise _fault(said, worker)
                    done(said["unit"])
                task = shared.take()
        finally:
            with suppress(BrokenPipeError):
                worker.stdin.close()


def _fault(said: dict[str, str], worker: subprocess.Popen[str]) -> Exception:
    if "ended" not in said:
        return InputError(**said)
    return RuntimeError(f"A process that decodes ended with status {worker.wait()} before its work was done.")


def serve() -> None:
    """Do what the pipe says until it ends."""
    outs: dict[str, int] = {}
    for line in sys.stdin:
        task = json.loads(line)
        out = outs.setdefault(task["out"], -1)
        if out < 0:
            out = outs[task["out"]] = os.open(task["out"], os.O_WRONLY)
        for part in task["parts"]:
            try:
                frames = decode(Path(task["video"]), part["times_s"], tolerance_s=task["tolerance_s"])
            except InputError as error:
                fields = ("where", "expected", "got", "do")
                print(json.dumps({name: getattr(error, name) for name in fields}), flush=True)
                return
            write_at(out, resize(frames, tuple(task["image_hw"])), part["offset"])
            print(json.dumps({"unit": part["unit"]}), flush=True)


def write_at(out: int, frames: np.ndarray, offset: int) -> None:
    """Write all bytes of some pictures from `offset` on."""
    left = memoryview(np.ascontiguousarray(frames).data).cast("B")
    while left:
        written = os.pwrite(out, left, offset)
        left, offset = left[written:], offset + written


if __name__ == "__main__":
    try:
        serve()
    except BrokenPipeError:  # who asked is gone; there is nobody to tell
        os._exit(1)
