"""What happened in one closed-loop episode, and files of such records: the only input of every success table.

One line of JSON per episode, so that a cell can be read back, paired and re-analysed without running anything again. A
file is written whole or not at all (temporary file in the same folder, then rename).
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossroads.errors import InputError, nearest


@dataclass(frozen=True, kw_only=True)
class EpisodeRecord:
    """One episode of one trained policy in one scene under one instruction."""

    arm: str
    cell: str
    """Which trained policy of the arm, for instance ``25 labels``."""
    training_seed: int
    seed: int
    """The scene; the same number gives the same scene to every arm, and to the swapped trial beside the first."""
    family: str
    text: str
    """The instruction as it was spoken."""
    goal: str
    """The goal that the instruction names, in one fixed spelling (paraphrases share it)."""
    named_object: str
    """The object that the instruction names; empty when it names none."""
    num_objects: int
    """Objects that could have been touched, the named one included: the chance level of the following rate."""
    swapped: bool
    """True when this is a usual scene told another of its valid instructions."""
    success: bool
    """The named goal is achieved."""
    touched: tuple[str, ...]
    """Objects in the order in which they were first touched."""
    achieved: tuple[str, ...]
    """All goals of the scene that hold at the end and did not at the start."""
    old_goal_achieved: bool
    """In a swapped trial: the goal of the instruction that was *not* spoken is achieved."""
    num_steps: int
    latencies_s: tuple[float, ...]
    """Seconds that each chunk of actions took to compute."""


_FIELDS = {field.name: str(field.type) for field in dataclasses.fields(EpisodeRecord)}
_KINDS: dict[str, type] = {"str": str, "int": int, "bool": bool}


def write_records(path: Path, records: Iterable[EpisodeRecord]) -> None:
    """Write one JSON line per record; the file appears complete or not at all."""
    lines = "".join(json.dumps(dataclasses.asdict(record), allow_nan=False) + "\n" for record in records)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_records(path: Path) -> tuple[EpisodeRecord, ...]:
    """Read the records of one file; the line of the first fault is named."""
    if not path.is_file():
        raise InputError(
            where=str(path),
            expected="a file of episode records (one JSON object per line)",
            got="no such file",
            do="Evaluate this cell again, or check the run folder.",
        )
    lines = path.read_text(encoding="utf-8").splitlines()
    return tuple(_parse(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1))


def _parse(line: str, where: str) -> EpisodeRecord:
    try:
        raw = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(
            where=where, expected="one JSON object", got=f"text that ends in {line[-30:]!r}", do=_AGAIN
        ) from error
    if not isinstance(raw, dict):
        raise InputError(where=where, expected="one JSON object", got=type(raw).__name__, do=_AGAIN)
    unknown, missing = sorted(raw.keys() - _FIELDS.keys()), sorted(_FIELDS.keys() - raw.keys())
    if unknown or missing:
        hint = nearest(unknown[0], _FIELDS) if unknown else _AGAIN
        raise InputError(
            where=where,
            expected="exactly the fields of EpisodeRecord",
            got=f"unknown {unknown}, missing {missing}",
            do=hint,
        )
    return EpisodeRecord(**{name: _value(raw[name], kind, f"{where}, {name}") for name, kind in _FIELDS.items()})


_AGAIN = "The file was cut off or edited; evaluate this cell again."


def _value(value: Any, kind: str, where: str) -> Any:
    if kind in _KINDS:
        if type(value) is not _KINDS[kind]:  # bool is an int in Python, not here
            raise InputError(where=where, expected=kind, got=repr(value), do=_AGAIN)
        return value
    item = str if kind == "tuple[str, ...]" else float
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(x, item) for x in value):
        raise InputError(where=where, expected=f"a list of {item.__name__}", got=repr(value), do=_AGAIN)
    return tuple(value)
