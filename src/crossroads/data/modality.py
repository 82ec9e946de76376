"""GR00T's `meta/modality.json`: what the numbers of state and action are called, camera names, and where the words are.

GR00T keeps a LeRobotDataset v2 and says in this file which slice of the state and of the action is which part of the
robot, under which short name each camera goes, and in which annotation columns (indices into the tasks) a language
label stands. Source: NVIDIA Isaac-GR00T, `getting_started/data_preparation.md` (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossroads.data import meta
from crossroads.errors import InputError

PATH = "meta/modality.json"
_DESCRIPTION = "task_description"
_DO = "Correct meta/modality.json, or take it away to read the dataset as plain LeRobot."


@dataclass(frozen=True, kw_only=True)
class Modality:
    """What the file adds to `info.json`."""

    names: Mapping[str, tuple[str, ...]]
    """Per feature (`observation.state`, `action`) one name per dimension."""
    cameras: Mapping[str, str]
    """Short name to feature key."""
    text_column: str
    """The column whose number is the index of the instruction."""


def read_modality(root: Path, info: Mapping[str, Any]) -> Modality | None:
    """The file of this dataset, checked against its features; None where there is none.

    Raises:
        InputError: a slice, a camera or a column that `info.json` does not have.
    """
    if not (root / PATH).is_file():
        return None
    plain = meta.read_json(root / PATH)
    names = {}
    for group, feature in (("state", meta.STATE), ("action", meta.ACTION)):
        if parts := plain.get(group):
            names[feature] = _dimension_names(root, info, group, feature, parts)
    cameras = {}
    for name, entry in (plain.get("video") or {}).items():
        key = (entry or {}).get("original_key") or meta.CAMERA_PREFIX + name
        _require(root, f"video.{name}", key, info["features"])
        cameras[str(name)] = key
    columns = []
    for name, entry in (plain.get("annotation") or {}).items():
        column = (entry or {}).get("original_key") or f"annotation.{name}"
        if str(name).endswith(_DESCRIPTION):
            _require(root, f"annotation.{name}", column, info["features"])
            columns.append(column)
    return Modality(names=names, cameras=cameras, text_column=columns[0] if columns else "task_index")


def _dimension_names(
    root: Path, info: Mapping[str, Any], group: str, feature: str, parts: Mapping[str, Any]
) -> tuple[str, ...]:
    _require(root, group, feature, info["features"])
    entry = info["features"][feature]
    names = list(meta.dimension_names(entry, group))
    for part, place in parts.items():
        where = f"{root / PATH}: {group}.{part}"
        origin = place.get("original_key") or feature
        if origin != feature:
            raise InputError(
                where=where,
                expected=f"a slice of {feature!r}",
                got=f"original_key {origin!r}",
                do=f"Write that column into {feature!r} and give its slice; other columns are not read. {_DO}",
            )
        start, end = place.get("start"), place.get("end")
        if not (isinstance(start, int) and isinstance(end, int) and 0 <= start < end <= len(names)):
            raise InputError(
                where=where,
                expected=f"start and end with 0 <= start < end <= {len(names)}, the size of {feature!r}",
                got=f"start {start!r}, end {end!r}",
                do=_DO,
            )
        names[start:end] = [part] if end - start == 1 else [f"{part}_{index}" for index in range(end - start)]
    return tuple(names)


def _require(root: Path, entry: str, key: str, features: Mapping[str, Any]) -> None:
    if key not in features:
        raise InputError(
            where=f"{root / PATH}: {entry}",
            expected=f"a feature {key!r} in info.json",
            got=", ".join(features),
            do=_DO,
        )
