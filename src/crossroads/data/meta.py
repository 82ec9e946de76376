"""The LeRobotDataset v3.0 folder: where its files lie, what they are called, and how meta files are read and written.

Reader, writer and checker share this one description of the format. Source: LeRobot 0.6.1 and 0.4.4 (Apache-2.0), read,
not copied: `datasets/utils.py` (paths), `datasets/io_utils.py` (tasks, episodes), `datasets/dataset_metadata.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from crossroads.errors import InputError
from crossroads.space import ActionSpace

CODEBASE_VERSION = "v3.0"
CAMERA_PREFIX = "observation.images."
STATE = "observation.state"
ACTION = "action"
ACTION_FREE = "action_free"
SESSION = "session"
INFO_PATH = "meta/info.json"
STATS_PATH = "meta/stats.json"
TASKS_PATH = "meta/tasks.parquet"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
CHUNKS_SIZE = 1000
DATA_FILE_MB = 100
VIDEO_FILE_MB = 200
BOOKKEEPING: dict[str, dict[str, Any]] = {
    "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    "frame_index": {"dtype": "int64", "shape": [1], "names": None},
    "episode_index": {"dtype": "int64", "shape": [1], "names": None},
    "index": {"dtype": "int64", "shape": [1], "names": None},
    "task_index": {"dtype": "int64", "shape": [1], "names": None},
}
"""The columns that every v3.0 data file holds, as LeRobot's DEFAULT_FEATURES states them."""

_REMEDY = "Point to the root of a LeRobotDataset folder (it holds meta/, data/ and videos/), or copy it again."


def camera_name(key: str) -> str:
    """The short name of a camera: its feature key without the common prefix (`observation.images.front` -> `front`)."""
    return key.removeprefix(CAMERA_PREFIX).removeprefix("observation.")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of the meta folder; an `InputError` when it is missing, unreadable or not an object."""
    if not path.is_file():
        raise InputError(where=str(path), expected="a JSON file", got="no such file", do=_REMEDY)
    try:
        value = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(where=str(path), expected="valid JSON", got=str(error), do=_REMEDY) from error
    if not isinstance(value, dict):
        raise InputError(where=str(path), expected="a JSON object", got=type(value).__name__, do=_REMEDY)
    return value


def read_info(root: Path) -> dict[str, Any]:
    """`meta/info.json` of v3.0, v2.1 or v2.0, checked for what reading cannot do without."""
    path = root / INFO_PATH
    info = read_json(path)
    version = str(info.get("codebase_version"))
    if not version.startswith(("v2.", "v3.")):
        raise InputError(
            where=f"{path}: codebase_version",
            expected="'v3.0', 'v2.1' or 'v2.0'",
            got=repr(info.get("codebase_version")),
            do="Convert an older dataset with the LeRobot release that wrote it; a newer one needs a newer crossroads.",
        )
    for name, kind in (("fps", (int, float)), ("features", dict), ("data_path", str)):
        if not isinstance(info.get(name), kind):
            raise InputError(where=f"{path}: {name}", expected="an entry", got=repr(info.get(name)), do=_REMEDY)
    if info["fps"] <= 0:
        raise InputError(
            where=f"{path}: fps", expected="a positive number", got=str(info["fps"]), do="Correct the entry."
        )
    return info


def read_table(path: Path, columns: Sequence[str] | None = None, *, leave_out: str | None = None) -> pa.Table:
    """One parquet file, without the columns whose names begin with `leave_out`; an `InputError` when it is missing,
    truncated, or lacks a column."""
    if not path.is_file():
        raise InputError(where=str(path), expected="a parquet file", got="no such file", do=_REMEDY)
    try:
        with pq.ParquetFile(path) as file:
            known = file.schema_arrow.names
            missing = [name for name in columns or () if name not in known]
            if missing:
                raise InputError(
                    where=str(path),
                    expected=f"column {missing[0]!r}",
                    got=f"columns {', '.join(known)}",
                    do="info.json and the data files disagree; record or download the dataset again.",
                )
            if leave_out is not None:
                columns = [name for name in known if not name.startswith(leave_out)]
            return file.read(columns=None if columns is None else list(columns))
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(where=str(path), expected="a readable parquet file", got=str(error), do=_REMEDY) from error


def numbers(path: Path, name: str, column: pa.ChunkedArray) -> np.ndarray:
    """A column of numbers or of equally long lists of numbers as one array."""
    size = len(column)
    while pa.types.is_nested(column.type):
        column = pa.chunked_array([chunk.flatten() for chunk in column.chunks], column.type.value_type)
    if size and (len(column) % size or column.null_count):
        raise InputError(
            where=f"{path}: {name}",
            expected="the same number of values in each row",
            got=f"{len(column)} values, {column.null_count} of them null, in {size} rows",
            do="Record or download this file again.",
        )
    values = column.to_numpy()
    return values.reshape(size, -1) if size and len(values) != size else values


def read_tasks(root: Path) -> tuple[str, ...]:
    """The instruction of each task index. Pandas stores the text as the index, named or not by version."""
    path = root / TASKS_PATH
    table = read_table(path, None)
    texts = [name for name in table.column_names if name != "task_index"]
    if "task_index" not in table.column_names or not texts:
        raise InputError(
            where=str(path), expected="columns task_index and task", got=", ".join(table.column_names), do=_REMEDY
        )
    name = next((name for name in ("task", "__index_level_0__") if name in texts), texts[0])
    by_index = dict(zip(table["task_index"].to_pylist(), table[name].to_pylist(), strict=True))
    return tuple(str(by_index.get(index) or "") for index in range(max(by_index, default=-1) + 1))


def read_episodes(root: Path) -> pa.Table:
    """The rows of `meta/episodes` of v3.0, without the per-episode statistics."""
    parts = []
    paths = sorted((root / "meta/episodes").glob("*/*.parquet"))
    for path in paths or [root / EPISODES_PATH.format(chunk_index=0, file_index=0)]:
        parts.append(read_table(path, leave_out="stats/"))
    return pa.concat_tables(parts, promote_options="default")


def write_tasks(root: Path, tasks: Sequence[str]) -> None:
    """`meta/tasks.parquet` with the text as the pandas index, which is what LeRobot looks tasks up by."""
    numbers = pa.array(range(len(tasks)), pa.int64())
    table = pa.table({"task_index": numbers, "task": pa.array(list(tasks), pa.string())})

    def column(name: str, kind: str, numpy_kind: str) -> dict[str, Any]:
        return {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy_kind, "metadata": None}

    # The layout of this entry is the pandas section of the Arrow documentation ("pandas metadata").
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [column("", "unicode", "object") | {"name": None, "field_name": None, "metadata": None}],
        "columns": [column("task_index", "int64", "int64"), column("task", "unicode", "object")],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.2.0",
    }
    _write_table(root / TASKS_PATH, table.replace_schema_metadata({"pandas": json.dumps(pandas)}))


def write_episodes(root: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """`meta/episodes`: one row per episode, all in one file (a million rows stay far below the size limit)."""
    path = root / EPISODES_PATH.format(chunk_index=0, file_index=0)
    _write_table(path, pa.Table.from_pylist([dict(row) for row in rows]))


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=4, ensure_ascii=False, allow_nan=False))


def info_of(
    *, space: ActionSpace, fps: float, videos: Mapping[str, tuple[tuple[int, int], str, str]]
) -> dict[str, Any]:
    """`meta/info.json` of a recording, less the totals; `videos` gives size, codec and pixel format per camera."""
    rate = int(fps) if float(fps).is_integer() else fps
    features: dict[str, Any] = {
        STATE: {"dtype": "float32", "shape": [space.num_state], "names": list(space.state_names)},
        ACTION: {
            "dtype": "float32",
            "shape": [space.action_size],
            "names": list(space.action_names),
            "info": {"units": list(space.action_units), "low": list(space.low), "high": list(space.high)},
        },
    }
    for name, ((height, width), codec, pixel_format) in videos.items():
        features[CAMERA_PREFIX + name] = {
            "dtype": "video",
            "shape": [height, width, 3],
            "names": ["height", "width", "channels"],
            "info": {
                "video.fps": rate,
                "video.height": height,
                "video.width": width,
                "video.channels": 3,
                "video.codec": codec,
                "video.pix_fmt": pixel_format,
                "video.is_depth_map": False,
                "has_audio": False,
            },
        }
    features[ACTION_FREE] = {"dtype": "bool", "shape": [1], "names": None}
    features[SESSION] = {"dtype": "int64", "shape": [1], "names": None}
    return {
        "codebase_version": CODEBASE_VERSION,
        "robot_type": space.robot,
        "chunks_size": CHUNKS_SIZE,
        "data_files_size_in_mb": DATA_FILE_MB,
        "video_files_size_in_mb": VIDEO_FILE_MB,
        "fps": rate,
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH,
        "features": features | BOOKKEEPING,
    }


def _write_table(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="snappy")


def dimension_names(feature: Mapping[str, Any], prefix: str) -> tuple[str, ...]:
    """The name of each dimension of a feature; LeRobot writers give a list, a dict of lists, or nothing."""
    size = 1
    for length in feature.get("shape") or (1,):
        size *= int(length)
    names = feature.get("names")
    if isinstance(names, dict):
        lists = [entry for entry in names.values() if isinstance(entry, list)]
        names = [name for entry in lists for name in entry] if lists else list(names)
    if isinstance(names, list) and len(names) == size:
        return tuple(str(name) for name in names)
    return tuple(f"{prefix}_{index}" for index in range(size))


def image_hw(feature: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width of a camera; the shape is stated channels first or last, and `names` says which."""
    shape, names = [int(length) for length in feature["shape"]], feature.get("names") or []
    first = str(names[0]).startswith("channel") if isinstance(names, list) and names else shape[0] == 3
    return (shape[1], shape[2]) if first else (shape[0], shape[1])
