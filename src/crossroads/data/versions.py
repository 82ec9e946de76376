"""The meta folder of a LeRobotDataset of any version that is read (v2.0, v2.1, v3.0), in the terms of v3.0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from crossroads.data import lerobot_v2, meta
from crossroads.data.modality import read_modality
from crossroads.data.rows import Rows
from crossroads.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Meta:
    """What the meta folder says."""

    root: Path
    info: Mapping[str, Any]
    """`info.json`; path templates as v3.0 has them."""
    tasks: tuple[str, ...]
    tasks_path: Path
    """The file that lists them."""
    camera_keys: Mapping[str, str]
    """The colour cameras: short name to feature key."""
    text_column: str
    """The column of the data files whose number is the index of the frame's instruction."""
    frame_column: tuple[str, ...]
    """`frame_index`, or nothing in a v2 dataset that lacks it (GR00T's do not need it): its rows are in order."""

    @cached_property
    def rows(self) -> Rows:
        """One per episode, numbered 0, 1, 2 ..., with the columns of v3.0's `meta/episodes` less the statistics; read
        when first asked for. Raises `InputError` where they cannot be."""
        old = str(self.info["codebase_version"]).startswith("v2.")
        table = lerobot_v2.episode_rows(self.root, self.info) if old else meta.read_episodes(self.root)
        return Rows(self.root, table)


def read_meta(root: Path) -> Meta:
    """Everything that the meta folder says. Raises `InputError` on what would make reading fail later."""
    info = meta.read_info(root)
    old = str(info["codebase_version"]).startswith("v2.")
    if old:
        info = lerobot_v2.info_as_v3(info)
    modality = read_modality(root, info)
    if modality is not None:
        named = {key: info["features"][key] | {"names": list(names)} for key, names in modality.names.items()}
        info = info | {"features": info["features"] | named}
    return Meta(
        root=root,
        info=info,
        tasks=lerobot_v2.tasks(root) if old else meta.read_tasks(root),
        tasks_path=root / (lerobot_v2.TASKS_PATH if old else meta.TASKS_PATH),
        camera_keys=(modality.cameras if modality else {}) or camera_keys(root, info),
        text_column=modality.text_column if modality else "task_index",
        frame_column=() if old and "frame_index" not in info["features"] else ("frame_index",),
    )


def camera_keys(root: Path, info: Mapping[str, Any]) -> dict[str, str]:
    """The colour cameras: short name to feature key. Depth maps are left out."""
    keys = [key for key, feature in info["features"].items() if feature.get("dtype") in ("video", "image")]
    depth = [key for key in keys if _is_depth(info["features"][key])]
    names: dict[str, str] = {}
    for key in (key for key in keys if key not in depth):
        short = meta.camera_name(key)
        names[key if short in names else short] = key
    if not names:
        raise InputError(
            where=f"{root / meta.INFO_PATH}: features",
            expected="at least one colour camera (dtype video or image)",
            got=", ".join(info["features"]),
            do="crossroads compares policies that see; use a dataset with pictures.",
        )
    return names


def _is_depth(feature: Mapping[str, Any]) -> bool:
    details = {**(feature.get("video_info") or {}), **(feature.get("info") or {})}
    return bool(details.get("is_depth_map") or details.get("video.is_depth_map"))
