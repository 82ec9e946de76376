"""What a run says while it trains: one JSON line per interval in a file, and a progress bar on the terminal."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """Means over the steps since the line before."""

    step: int
    """The number of updates done."""
    losses: Mapping[str, float]
    gradient_norm: float
    """Before clipping."""
    learning_rate: float
    samples: int
    seconds: float
    """Seconds of training so far, over all sittings."""


class MetricsLog:
    """A file of JSON lines that a killed run goes on with: lines after the resumed step, and torn ones, are dropped."""

    def __init__(self, path: Path, *, resume_step: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.lines = [line for line in read_log(path) if line.step <= resume_step] if path.exists() else []
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text("".join(_to_json(line) for line in self.lines))
        partial.replace(path)
        self._file = path.open("a")

    def append(self, line: LogLine) -> None:
        """Add one line; it reaches the system at once, so it outlives this process."""
        self.lines.append(line)
        self._file.write(_to_json(line))
        self._file.flush()

    def to_disk(self) -> None:
        """Force the lines to the disk; called before a checkpoint that relies on them."""
        os.fsync(self._file.fileno())

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()


def read_log(path: Path) -> tuple[LogLine, ...]:
    """All whole lines of a log, in order."""
    lines = []
    for text in path.read_text().split("\n")[:-1]:
        try:
            lines.append(LogLine(**json.loads(text)))
        except ValueError:
            break  # torn by a crash of the machine: nothing after it can be trusted
    return tuple(lines)


def _to_json(line: LogLine) -> str:
    return json.dumps(asdict(line)) + "\n"


def progress_bar(*, total: int, initial: int, title: str, shown: bool) -> tqdm:
    """A progress bar on standard error; where that is not a terminal it writes at most every ten seconds."""
    interval_s = 0.2 if sys.stderr.isatty() else 10.0
    return tqdm(
        total=total, initial=initial, desc=title, disable=not shown, mininterval=interval_s, unit="step", leave=True
    )


def short(losses: Mapping[str, float]) -> str:
    """Losses in a few characters, for the progress bar."""
    total = math.fsum(losses.values())
    parts = " ".join(f"{name} {value:.3g}" for name, value in losses.items())
    return f"loss {total:.4g}" + (f" ({parts})" if len(losses) > 1 else "")
