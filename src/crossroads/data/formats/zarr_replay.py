"""Replay buffers in Zarr as Diffusion Policy and UMI keep them: `data/<name>` over all steps, `meta/episode_ends`.

A folder or a zip store. Neither a frame rate nor words are stored, so both must be given. A UMI buffer has no actions:
there the action of a step is the pose of the gripper at that step. Sources: diffusion_policy,
`common/replay_buffer.py` (MIT); universal_manipulation_interface, `dataset/umi_dataset.py` (MIT).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zarr
import zarr.errors
import zarr.storage

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

POSE = ("eef_pos", "eef_rot_axis_angle", "gripper_width")
"""What UMI stores of each gripper: position, axis-angle, opening."""
_DAMAGED = "The store is damaged or not complete; copy or record it again."


@dataclass(frozen=True, kw_only=True)
class ZarrSource:
    """The episodes of one replay buffer."""

    facts: Facts
    arrays: Any = field(repr=False)
    """The group `data`."""
    ends: tuple[int, ...] = field(repr=False)
    state: tuple[str, ...]
    action: tuple[str, ...]
    text: str

    def numbers(self, index: int) -> Numbers:
        rows = self._rows(index)
        where = f"{self.facts.path}: data, steps {rows.start} to {rows.stop - 1}"
        actions = vector(where, [self._read(name, rows) for name in self.action])
        parts = [self._read(name, rows) for name in self.state]
        state = vector(where, parts) if parts else np.zeros((len(actions), 0), np.float32)
        return Numbers(state=state, actions=actions, text=self.text)

    def frames(self, index: int, camera: str) -> Iterator[np.ndarray]:
        rows = self._rows(index)
        for part in blocks(rows.stop - rows.start):
            pictures = self._read(camera, slice(rows.start + part.start, rows.start + part.stop))
            yield _bytes(f"{self.facts.path}: data/{camera}", pictures)

    def clip(self, index: int, camera: str) -> Clip | None:
        return None

    def _rows(self, index: int) -> slice:
        return slice(self.ends[index - 1] if index else 0, self.ends[index])

    def _read(self, name: str, rows: slice) -> np.ndarray:
        try:
            return np.asarray(self.arrays[name][rows])
        except Exception as error:  # a codec may raise anything
            raise InputError(
                where=f"{self.facts.path}: data/{name}, steps {rows.start} to {rows.stop - 1}",
                expected="chunks that can be decoded",
                got=f"{type(error).__name__}: {error}",
                do=_remedy(error),
            ) from error


def open_zarr(path: Path, wanted: Wanted) -> ZarrSource:
    """The replay buffer in a folder or zip store."""
    arrays, shapes, ends = _opened(path)
    _check_ends(path, ends, shapes)
    pictures = {name: (s[1], s[2]) for name, s in shapes.items() if len(s) == 4 and s[3] == 3}
    numbers = {name: shape for name, shape in shapes.items() if len(shape) <= 2 and name not in pictures}
    grippers = sorted({found.group() for name in numbers if (found := re.match(r"robot\d+", name))})
    poses = tuple(f"{robot}_{part}" for robot in grippers for part in POSE if f"{robot}_{part}" in numbers)
    state = wanted.state or (("state",) if "state" in numbers else poses)
    action = wanted.action or (("action",) if "action" in numbers else poses)
    for option, names in (("--state", state), ("--action", action)):
        if not names:
            raise InputError(
                where=f"{path}: data",
                expected=f"an array {option[2:]!r}, poses of grippers, or {option}",
                got=", ".join(shapes),
                do=f"Give {option} with the arrays to take, in their order.",
            )
        for name in names:
            if name not in numbers:
                raise InputError(
                    where=f"{path}: data", expected="an array of numbers", got=repr(name), do=nearest(name, numbers)
                )
    if not wanted.text:
        raise InputError(
            where=f"{path}: instruction",
            expected="--text, for a replay buffer holds no words",
            got="none",
            do="Give --text with what these demonstrations do.",
        )
    cameras = chosen_cameras(str(path), wanted, pictures)
    facts = Facts(
        path=path,
        format="zarr",
        fps=wanted.rate(path, None),
        robot=wanted.robot or "unknown",
        cameras={name: pictures[name] for name in cameras},
        state_names=dimension_names({name: _width(numbers[name]) for name in state}),
        action_names=dimension_names({name: _width(numbers[name]) for name in action}),
        num_episodes=len(ends),
        left_behind=tuple(name for name in shapes if name not in (*state, *action, *cameras)),
        files=(path,) if path.is_file() else tuple(sorted(file for file in path.rglob("*") if file.is_file())),
    )
    return ZarrSource(facts=facts, arrays=arrays, ends=ends, state=state, action=action, text=wanted.text)


def _opened(path: Path) -> tuple[Any, dict[str, tuple[int, ...]], tuple[int, ...]]:
    """The group `data`, the shape of each array in it, and where the episodes end."""
    shapes: dict[str, tuple[int, ...]] = {}
    ends: tuple[int, ...] = ()
    try:
        store = zarr.storage.ZipStore(path, mode="r") if path.is_file() else path
        group = zarr.open_group(store, mode="r")
        missing = [name for name in ("data", "meta/episode_ends") if name not in group]
        if not missing:
            shapes = {name: item.shape for name, item in sorted(group["data"].arrays())}  # pyright: ignore[reportAttributeAccessIssue]
            ends = tuple(int(end) for end in np.asarray(group["meta/episode_ends"]))
    except Exception as error:  # a damaged store may raise anything
        raise InputError(
            where=str(path),
            expected="a readable Zarr store",
            got=f"{type(error).__name__}: {error}",
            do=_remedy(error),
        ) from error
    if missing:
        raise InputError(
            where=str(path),
            expected="groups data and meta/episode_ends, as a replay buffer has",
            got=f"no {missing[0]}; there are {', '.join(sorted(group.keys()))}",
            do="Only replay buffers of Diffusion Policy and UMI are read.",
        )
    return group["data"], shapes, ends


def _remedy(error: Exception) -> str:
    """UMI's pictures are JPEG-XL, by a codec that a package of its own registers with numcodecs."""
    return "Run: pip install imagecodecs-numcodecs" if "imagecodecs" in str(error) else _DAMAGED


def _check_ends(path: Path, ends: tuple[int, ...], shapes: dict[str, tuple[int, ...]]) -> None:
    steps = {name: shape[0] if shape else 0 for name, shape in shapes.items()}
    rising = all(earlier < later for earlier, later in zip((0, *ends), ends, strict=False))
    if not ends or not rising or set(steps.values()) != {ends[-1]}:
        raise InputError(
            where=f"{path}: meta/episode_ends",
            expected="rising step numbers that end with the length of every array",
            got=f"{list(ends[-3:])} at the end; lengths {steps}",
            do=_DAMAGED,
        )


def _bytes(where: str, pictures: np.ndarray) -> np.ndarray:
    """Pictures as uint8; Diffusion Policy's PushT keeps them as float32 in 0..255."""
    if pictures.dtype == np.uint8:
        return pictures
    rounded = np.rint(pictures)
    if not (np.abs(pictures - rounded).max() <= 1e-3 and rounded.min() >= 0 and rounded.max() <= 255):
        raise InputError(
            where=where,
            expected="uint8, or whole numbers from 0 to 255",
            got=f"{pictures.dtype} from {pictures.min():g} to {pictures.max():g}",
            do="Store the pictures as uint8.",
        )
    return rounded.astype(np.uint8)


def _width(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape[1:], dtype=int))
