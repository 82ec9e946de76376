"""RLDS episodes as TensorFlow Datasets stores them (Open X-Embodiment, DROID, LIBERO of OpenVLA), without TensorFlow.

A folder with `features.json`, `dataset_info.json` and TFRecord shards; a record is one episode, whose steps are stored
column by column (`steps/observation/image`). Sources: RLDS (Ramos et al. 2021, 2111.02767); TensorFlow Datasets,
`core/features/` and `core/example_serializer.py` (Apache-2.0), read, not copied.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from crossroads.data.formats import tfrecord
from crossroads.data.formats.source import (
    Clip,
    Facts,
    Numbers,
    Wanted,
    blocks,
    chosen_cameras,
    dimension_names,
    vector,
)
from crossroads.errors import InputError, nearest

TEXTS = ("language_instruction", "natural_language_instruction")
SHARD = re.compile(r"(?P<name>.+)\.tfrecord-(?P<number>\d{5})-of-(?P<all>\d{5})$")
_DAMAGED = "The dataset is not complete; copy it again."


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """One column of the steps."""

    kind: str
    """tensor, image or text."""
    shape: tuple[int, ...]
    dtype: str

    @property
    def width(self) -> int:
        return int(np.prod(self.shape, dtype=int))


@dataclass(frozen=True, kw_only=True)
class RldsSource:
    """The episodes of all shards."""

    facts: Facts
    records: tuple[tfrecord.Record, ...] = field(repr=False)
    leaves: Mapping[str, Leaf] = field(repr=False)
    cameras: Mapping[str, str]
    """Short name to column."""
    state: tuple[str, ...]
    action: tuple[str, ...]
    text: str
    text_column: str

    def numbers(self, index: int) -> Numbers:
        where = f"{self.records[index].path}: episode {index}"
        actions = vector(where, [self._table(index, name) for name in self.action])
        parts = [self._table(index, name) for name in self.state]
        state = vector(where, [np.zeros((len(actions), 0)), *parts])
        text = self.text or self._strings(index, self.text_column)[0].decode("utf-8", errors="replace")
        return Numbers(state=state, actions=actions, text=text)

    def frames(self, index: int, camera: str) -> Iterator[np.ndarray]:
        column = self.cameras[camera]
        pictures = self._strings(index, column)
        for part in blocks(len(pictures)):
            where = f"{self.records[index].path}: episode {index}, {column}, frames {part.start} to {part.stop - 1}"
            yield np.stack([_picture(where, data) for data in pictures[part]])

    def clip(self, index: int, camera: str) -> Clip | None:
        return None

    def _table(self, index: int, name: str) -> np.ndarray:
        values = self._column(index, name)
        width = self.leaves[name].width
        if isinstance(values, tuple) or not width or len(values) % width:
            raise InputError(
                where=f"{self.records[index].path}: episode {index}, steps/{name}",
                expected=f"{width} numbers for each step",
                got="byte strings" if isinstance(values, tuple) else f"{len(values)} numbers",
                do="features.json and the records disagree; copy the dataset again.",
            )
        return values.reshape(-1, width)

    def _strings(self, index: int, name: str) -> tuple[bytes, ...]:
        values = self._column(index, name)
        if not isinstance(values, tuple) or not values:
            raise InputError(
                where=f"{self.records[index].path}: episode {index}, steps/{name}",
                expected="byte strings",
                got="numbers" if len(values) else "nothing",
                do="features.json and the records disagree; copy the dataset again.",
            )
        return values

    def _column(self, index: int, name: str) -> np.ndarray | tuple[bytes, ...]:
        found = tfrecord.example(self.records[index])
        if f"steps/{name}" not in found:
            raise InputError(
                where=f"{self.records[index].path}: episode {index}",
                expected=f"a column steps/{name}",
                got=", ".join(sorted(found)),
                do="features.json and the records disagree; copy the dataset again.",
            )
        return found[f"steps/{name}"]


def open_rlds(path: Path, wanted: Wanted) -> RldsSource:
    """The dataset of one version: the folder that holds `features.json`, or one above it."""
    folder = version_folder(path)
    if folder is None:
        raise InputError(where=str(path), expected="one features.json", got="none or several", do="Name one version.")
    leaves = _leaves(folder)
    files = shards(folder)
    records = tuple(record for file in files for record in tfrecord.records(file))
    _check_lengths(folder, files, records)
    if not records:
        raise InputError(where=str(folder), expected="at least one episode", got="none", do=_DAMAGED)
    pictures = {
        name.removeprefix("observation/").replace("/", "."): name
        for name, leaf in leaves.items()
        if leaf.kind == "image" and leaf.dtype == "uint8" and leaf.shape[-1:] == (3,)
    }
    numbers = {name: leaf for name, leaf in leaves.items() if leaf.kind == "tensor" and leaf.dtype != "string"}
    state = _columns(folder, "--state", wanted.state or ("state",), numbers)
    action = _columns(folder, "--action", wanted.action or ("action",), numbers)
    spoken = [name for name, leaf in leaves.items() if leaf.dtype == "string" and name.rsplit("/")[-1] in TEXTS]
    if not spoken and not wanted.text:
        raise InputError(
            where=f"{folder / 'features.json'}: steps",
            expected=f"one of {', '.join(TEXTS)}",
            got=", ".join(leaves),
            do="Give --text with what these demonstrations do.",
        )
    cameras = {name: pictures[name] for name in chosen_cameras(str(folder), wanted, pictures)}
    taken = {*state, *action, *cameras.values(), *spoken[:1], "is_first", "is_last", "is_terminal"}
    facts = Facts(
        path=path,
        format="rlds",
        fps=wanted.rate(path, None),
        robot=wanted.robot or "unknown",
        cameras={name: _size(records[0], leaves[column], column) for name, column in cameras.items()},
        state_names=dimension_names({name.rsplit("/")[-1]: numbers[name].width for name in state}),
        action_names=dimension_names({name.rsplit("/")[-1]: numbers[name].width for name in action}),
        num_episodes=len(records),
        left_behind=tuple(name for name in leaves if name not in taken),
        files=files,
    )
    return RldsSource(
        facts=facts,
        records=records,
        leaves=leaves,
        cameras=cameras,
        state=state,
        action=action,
        text=wanted.text,
        text_column=spoken[0] if spoken else "",
    )


def version_folder(path: Path) -> Path | None:
    """The one folder at or up to two levels below `path` with `features.json`; None when there is none or more."""
    for pattern in ("features.json", "*/features.json", "*/*/features.json"):
        if found := sorted(path.glob(pattern)):
            return found[0].parent if len(found) == 1 else None
    return None


def shards(folder: Path) -> tuple[Path, ...]:
    """All TFRecord files of a folder; an `InputError` when one of a series is missing."""
    series: dict[str, dict[int, Path]] = {}
    totals: dict[str, int] = {}
    for file in sorted(folder.iterdir()):
        if found := SHARD.fullmatch(file.name):
            series.setdefault(found["name"], {})[int(found["number"])] = file
            totals[found["name"]] = int(found["all"])
    for name, files in series.items():
        if missing := sorted(set(range(totals[name])) - set(files)):
            raise InputError(
                where=str(folder),
                expected=f"{totals[name]} shards of {name}",
                got=f"{len(files)}; missing are {missing[:8]}",
                do=_DAMAGED,
            )
    if not series:
        got = ", ".join(sorted(file.name for file in folder.iterdir())[:8])
        raise InputError(
            where=str(folder),
            expected="files named NAME-SPLIT.tfrecord-00000-of-00001",
            got=got,
            do="Other containers of TensorFlow Datasets (array_record) are not read; write it as tfrecord.",
        )
    return tuple(file for name in sorted(series) for _, file in sorted(series[name].items()))


def _check_lengths(folder: Path, files: Sequence[Path], records: Sequence[tfrecord.Record]) -> None:
    """As many records as `dataset_info.json` says, where it says so."""
    path = folder / "dataset_info.json"
    if not path.is_file():
        return
    splits = _json(path).get("splits") or []
    stated = sum(int(length) for split in splits for length in split.get("shardLengths") or ())
    if stated and stated != len(records):
        raise InputError(
            where=str(path),
            expected=f"{len(records)} episodes, as {len(files)} shards hold",
            got=str(stated),
            do=_DAMAGED,
        )


def _leaves(folder: Path) -> dict[str, Leaf]:
    """The columns of the steps, `observation/image` for example."""
    path = folder / "features.json"
    top = (_json(path).get("featuresDict") or {}).get("features") or {}
    steps = (top.get("steps") or {}).get("sequence", {}).get("feature")
    if steps is None:
        raise InputError(
            where=str(path),
            expected="a sequence 'steps', as RLDS has",
            got=", ".join(top) or "no features",
            do="Only datasets of episodes are read.",
        )
    found: dict[str, Leaf] = {}

    def walk(node: Mapping[str, Any], name: str) -> None:
        for key, child in ((node.get("featuresDict") or {}).get("features") or {}).items():
            walk(child, f"{name}/{key}" if name else key)
        for kind in ("tensor", "image", "text"):
            entry = node.get(kind)
            if entry is not None and entry.get("encoding", "none") == "none":
                sizes = (entry.get("shape") or {}).get("dimensions") or ()
                dtype = entry.get("dtype") or ("string" if kind == "text" else "uint8")
                shape = tuple(int(size) if size is not None else -1 for size in sizes)
                found[name] = Leaf(kind=kind, shape=shape, dtype="string" if dtype == "object" else dtype)

    walk(steps, "")
    return found


def _columns(folder: Path, option: str, asked: Sequence[str], known: Mapping[str, Leaf]) -> tuple[str, ...]:
    """Full names of the columns; `state` stands for `observation/state` where only that exists."""
    chosen = []
    for name in asked:
        full = next((known_name for known_name in (name, f"observation/{name}") if known_name in known), None)
        if full is None:
            raise InputError(
                where=f"{folder / 'features.json'}: steps",
                expected=f"numbers under {name!r}",
                got=", ".join(f"{title} ({leaf.width})" for title, leaf in known.items()),
                do=f"Give {option} with the columns to take, in their order. {nearest(name, known)}",
            )
        chosen.append(full)
    return tuple(chosen)


def _size(record: tfrecord.Record, leaf: Leaf, column: str) -> tuple[int, int]:
    """Height and width; features.json may leave them open, then the first picture tells."""
    if len(leaf.shape) == 3 and min(leaf.shape) > 0:
        return leaf.shape[0], leaf.shape[1]
    values = tfrecord.example(record).get(f"steps/{column}")
    if not isinstance(values, tuple) or not values:
        raise InputError(where=f"{record.path}: steps/{column}", expected="encoded pictures", got="none", do=_DAMAGED)
    height, width = _picture(f"{record.path}: steps/{column}", values[0]).shape[:2]
    return height, width


def _picture(where: str, data: bytes) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError) as error:
        raise InputError(where=where, expected="a PNG or JPEG picture", got=str(error), do=_DAMAGED) from error


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(where=str(path), expected="a JSON object", got=str(error), do=_DAMAGED) from error
    return value if isinstance(value, dict) else {}
