"""A job of a grid that only counts; as a program, two slow ones at once: ``python tiny_job.py FOLDER [RAY_ADDRESS]``.

Importable by workers under this name, which test files are not.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossroads.pilot.grid import Executor, Local, run_jobs


@dataclass(frozen=True, kw_only=True)
class Counting:
    """Writes a line for each step and continues after the last line that is there."""

    name: str
    folder: Path
    steps: int = 4
    step_s: float = 0.0
    deaths: int = 0
    """How many of its workers are killed half-way."""
    interrupted: bool = False
    """Its process gets what Ctrl-C sends to all of a terminal's."""
    error: Exception | None = None

    @property
    def result(self) -> Path:
        return self.folder / self.name / "result.json"

    @property
    def log(self) -> Path:
        """One process id a step."""
        return self.folder / self.name / "steps.txt"

    def run(self, report: Callable[[float], None]) -> dict[str, Any]:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.error:
            raise self.error
        if self.interrupted:
            os.kill(os.getpid(), signal.SIGINT)
        for step in range(len(self.pids()), self.steps):
            if step == self.steps // 2:
                self._die()
            with self.log.open("a") as file:
                file.write(f"{os.getpid()}\n")
            time.sleep(self.step_s)
            report((step + 1) / self.steps)
        value = {"name": self.name, "sum": sum(range(self.steps)), "threads": os.environ["OMP_NUM_THREADS"]}
        partial = self.result.with_suffix(".tmp")
        partial.write_text(json.dumps(value))
        partial.replace(self.result)
        return value

    def _die(self) -> None:
        grave = self.log.with_name("deaths.txt")
        dead = grave.read_text() if grave.exists() else ""
        if len(dead) < self.deaths:
            grave.write_text(f"{dead}x")
            os.kill(os.getpid(), signal.SIGKILL)

    def pids(self) -> list[int]:
        """The process of each step so far."""
        return [int(line) for line in self.log.read_text().split()] if self.log.exists() else []


def main(folder: Path, address: str | None = None) -> None:
    jobs = [Counting(name=name, folder=folder, steps=1000, step_s=0.1) for name in ("one", "two")]
    executor: Executor = Local(num_workers=2)
    if address:
        from crossroads.pilot.cluster import Ray

        executor = Ray(address=address)
    try:
        run_jobs(jobs, executor=executor, folder=folder, title="slow")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    # A shell that starts the tests in the background has Ctrl-C ignored, and what is ignored is inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main(Path(sys.argv[1]), *sys.argv[2:])
