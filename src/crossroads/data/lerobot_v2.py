"""The meta folder of LeRobotDataset v2.0 and v2.1, told in the terms of v3.0.

Version 2 keeps one parquet file per episode and one mp4 file per episode and camera, and lists episodes and tasks as
JSON lines; v2.0 has one `stats.json`, v2.1 an `episodes_stats.jsonl`. Neither is read: statistics are measured from the
numbers. Once the lines are rows with the columns of v3.0, everything that reads v3.0 reads these too. Source: LeRobot
0.4.4 (Apache-2.0), read, not copied: `datasets/v30/convert_dataset_v21_to_v30.py` (the layout that it starts from).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from crossroads.data import meta
from crossroads.errors import InputError

EPISODES_PATH = "meta/episodes.jsonl"
TASKS_PATH = "meta/tasks.jsonl"
_NAMES = {"{episode_chunk": "{chunk_index", "{episode_index": "{file_index"}
"""The names in the path templates of v2, and those of v3.0 that stand for the same when a file holds one episode."""


def info_as_v3(info: Mapping[str, Any]) -> dict[str, Any]:
    """`meta/info.json` with the path templates of v3.0; `codebase_version` stays what it was."""
    told = dict(info)
    for name in ("data_path", "video_path"):
        if told.get(name):
            for old, new in _NAMES.items():
                told[name] = told[name].replace(old, new)
    return told


def episode_rows(root: Path, info: Mapping[str, Any]) -> pa.Table:
    """One row per line of `episodes.jsonl`, with the columns that `meta/episodes` has in v3.0."""
    chunk_size = int(info.get("chunks_size") or meta.CHUNKS_SIZE)
    indices, lengths, texts = [], [], []
    for number, line in enumerate(read_lines(root / EPISODES_PATH)):
        index, length = line.get("episode_index"), line.get("length")
        if not isinstance(index, int) or not isinstance(length, int):
            raise InputError(
                where=f"{root / EPISODES_PATH}: line {number + 1}",
                expected="episode_index and length as whole numbers",
                got=f"{index!r} and {length!r}",
                do="Copy the dataset again.",
            )
        indices.append(index)
        lengths.append(length)
        texts.append([str(text) for text in line.get("tasks") or ()])
    index, length = np.array(indices, np.int64), np.array(lengths, np.int64)
    place = {"chunk_index": index // chunk_size, "file_index": index}
    column: dict[str, Any] = {"episode_index": index, "tasks": pa.array(texts, pa.list_(pa.string())), "length": length}
    column |= {f"data/{name}": value for name, value in place.items()}
    for key in (key for key, feature in info["features"].items() if feature.get("dtype") == "video"):
        column |= {f"videos/{key}/{name}": value for name, value in place.items()}
        column |= {f"videos/{key}/from_timestamp": np.zeros(len(index))}
        column |= {f"videos/{key}/to_timestamp": length / float(info["fps"])}
    return pa.table(column)


def tasks(root: Path) -> tuple[str, ...]:
    """The instruction of each task index; an index without a line is an empty text."""
    by_index: dict[int, str] = {}
    for number, line in enumerate(read_lines(root / TASKS_PATH)):
        if not isinstance(line.get("task_index"), int):
            raise InputError(
                where=f"{root / TASKS_PATH}: line {number + 1}",
                expected="task_index as a whole number",
                got=repr(line.get("task_index")),
                do="Copy the dataset again.",
            )
        by_index[line["task_index"]] = str(line.get("task") or "")
    return tuple(by_index.get(index, "") for index in range(max(by_index, default=-1) + 1))


def read_lines(path: Path) -> Sequence[dict[str, Any]]:
    """A file of JSON objects, one per line; empty lines are passed over."""
    if not path.is_file():
        raise InputError(
            where=str(path), expected="a file of JSON lines", got="no such file", do="Copy the dataset again."
        )
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines()):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            got = str(error)
        else:
            if isinstance(value, dict):
                found.append(value)
                continue
            got = type(value).__name__
        raise InputError(
            where=f"{path}: line {number + 1}", expected="a JSON object", got=got, do="Copy the dataset again."
        )
    return found
