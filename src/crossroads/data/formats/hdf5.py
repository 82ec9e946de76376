"""Demonstrations in HDF5 as robomimic and LIBERO keep them: groups `data/demo_N` with `actions` and `obs/...`.

One file, or a folder of files (LIBERO: one per task). The instruction stands in LIBERO's `problem_info`; robomimic has
none. Sources: robomimic, `docs/datasets/overview.md` (MIT); LIBERO, `scripts/create_dataset.py` (MIT).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from crossroads.data.formats.hdf5_files import hdf5_files
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

STATES = (("ee_states", "gripper_states"), ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos"))
"""What LIBERO's policies are given as state (8 numbers), and robomimic's (9)."""
_DAMAGED = "The file is damaged or was not closed; copy or record it again."


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Where one demonstration lies."""

    file: Path
    name: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Hdf5Source:
    """The demonstrations of one or several files; a file is open only while it is read."""

    facts: Facts
    demos: tuple[Demo, ...] = field(repr=False)
    state: tuple[str, ...]
    action: tuple[str, ...]

    def numbers(self, index: int) -> Numbers:
        demo = self.demos[index]
        where = f"{demo.file}: data/{demo.name}"
        with _opened(demo.file) as file:
            group = _member(file["data"], demo.name, where, h5py.Group)
            actions = vector(where, [np.asarray(_member(group, name, where)) for name in self.action])
            seen = [np.asarray(_member(group, f"obs/{name}", where)) for name in self.state]
            state = vector(where, seen) if seen else np.zeros((len(actions), 0), np.float32)
        return Numbers(state=state, actions=actions, text=demo.text)

    def frames(self, index: int, camera: str) -> Iterator[np.ndarray]:
        demo = self.demos[index]
        where = f"{demo.file}: data/{demo.name}"
        with _opened(demo.file) as file:
            group = _member(file["data"], demo.name, where, h5py.Group)
            pictures = _member(group, f"obs/{camera}", where)
            for part in blocks(len(pictures)):
                try:
                    yield pictures[part]
                except OSError as error:
                    raise InputError(
                        where=f"{where}/obs/{camera}", expected="readable pictures", got=str(error), do=_DAMAGED
                    ) from error

    def clip(self, index: int, camera: str) -> Clip | None:
        return None


def open_hdf5(path: Path, wanted: Wanted) -> Hdf5Source:
    """The demonstrations of a file, or of all HDF5 files below a folder, in the order of their names."""
    files = hdf5_files(path)
    if not files:
        raise InputError(where=str(path), expected="an HDF5 file", got="none below this folder", do="Check the path.")
    demos: list[Demo] = []
    rates: dict[float, Path] = {}
    robots: list[str] = []
    for name in files:
        with _opened(name) as file:
            data = _member(file, "data", str(name), h5py.Group)
            arguments = _attribute(data, "env_args")
            if rate := (arguments.get("env_kwargs") or {}).get("control_freq"):
                rates.setdefault(float(rate), name)
            robots += _robots(arguments)
            text = wanted.text or _instruction(name, data)
            demos += [Demo(file=name, name=key, text=text) for key in sorted(data, key=_number) if "demo" in key]
    if not demos:
        raise InputError(where=f"{files[0]}: data", expected="groups demo_0, demo_1 ...", got="none", do=_DAMAGED)
    if len(rates) > 1 and wanted.fps is None:
        told = ", ".join(f"{rate:g} Hz in {name.name}" for rate, name in rates.items())
        raise InputError(where=str(path), expected="one control rate", got=told, do="Convert these files separately.")
    fps = wanted.rate(path, next(iter(rates), None))
    return _source(path, files, demos, wanted, fps, wanted.robot or (robots[0] if robots else "unknown"))


def _source(
    path: Path, files: tuple[Path, ...], demos: Sequence[Demo], wanted: Wanted, fps: float, robot: str
) -> Hdf5Source:
    """The source with what the first demonstration holds; a later one that differs is refused when it is read."""
    first = demos[0]
    where = f"{first.file}: data/{first.name}"
    with _opened(first.file) as file:
        group = _member(file, f"data/{first.name}", where, h5py.Group)
        obs = _member(group, "obs", where, h5py.Group)
        shapes = {name: item.shape for name, item in obs.items() if isinstance(item, h5py.Dataset)}
        pictures = {
            name: (shape[1], shape[2])
            for name, shape in shapes.items()
            if len(shape) == 4 and shape[3] == 3 and obs[name].dtype == np.uint8
        }
        numbers = {name: shape for name, shape in shapes.items() if len(shape) <= 2}
        state = wanted.state or next((names for names in STATES if set(names) <= set(numbers)), ())
        if not state:
            raise InputError(
                where=f"{where}/obs",
                expected=f"a state that is known ({' or '.join('+'.join(names) for names in STATES)}) or --state",
                got=", ".join(numbers),
                do="Give --state with the arrays to take, in their order.",
            )
        for name in state:
            if name not in numbers:
                raise InputError(
                    where=f"{where}/obs", expected="an array of numbers", got=repr(name), do=nearest(name, numbers)
                )
        action = wanted.action or ("actions",)
        cameras = chosen_cameras(where, wanted, pictures)
        stored = [name for name in group if isinstance(group[name], h5py.Dataset)]
        left_behind = tuple(name for name in stored if name not in action)
        left_behind += tuple(f"obs/{name}" for name in obs if name not in (*state, *cameras))
        widths = {name: _width(_member(group, name, where).shape) for name in action}
    facts = Facts(
        path=path,
        format="hdf5",
        fps=fps,
        robot=robot,
        cameras={name: pictures[name] for name in cameras},
        state_names=dimension_names({name: _width(numbers[name]) for name in state}),
        action_names=dimension_names({"action" if name == "actions" else name: size for name, size in widths.items()}),
        num_episodes=len(demos),
        left_behind=left_behind,
        files=files,
    )
    return Hdf5Source(facts=facts, demos=tuple(demos), state=state, action=action)


def _opened(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise InputError(where=str(path), expected="a readable HDF5 file", got=str(error), do=_DAMAGED) from error


def _member(group: Any, name: str, where: str, kind: type = h5py.Dataset) -> Any:
    found = group.get(name)
    if not isinstance(found, kind):
        got = ", ".join(group) if found is None else type(found).__name__
        word = "a group" if kind is h5py.Group else "an array"
        raise InputError(where=where, expected=f"{word} {name!r}", got=got, do="See --from, --state and --action.")
    return found


def _attribute(group: h5py.Group, name: str) -> Mapping[str, Any]:
    """A JSON object that is stored as an attribute; empty where there is none."""
    try:
        value = json.loads(group.attrs.get(name, "{}"))
    except (json.JSONDecodeError, TypeError) as error:
        raise InputError(
            where=f"{group.file.filename}: data, attribute {name}", expected="JSON", got=str(error), do=_DAMAGED
        ) from error
    return value if isinstance(value, dict) else {}


def _instruction(path: Path, data: h5py.Group) -> str:
    """LIBERO writes the sentence, or its words as a list, or quotes it."""
    words = _attribute(data, "problem_info").get("language_instruction", "")
    text = " ".join(words) if isinstance(words, list) else str(words)
    text = text.strip().strip('"').strip()
    if not text:
        raise InputError(
            where=f"{path}: data, attribute problem_info",
            expected="a language_instruction",
            got="none",
            do="Give --text with what these demonstrations do.",
        )
    return text


def _robots(arguments: Mapping[str, Any]) -> list[str]:
    named = (arguments.get("env_kwargs") or {}).get("robots") or []
    return [named] if isinstance(named, str) else [str(name) for name in named]


def _number(name: str) -> tuple[int, str]:
    """demo_10 comes behind demo_9."""
    found = re.search(r"\d+", name)
    return (int(found.group()) if found else -1, name)


def _width(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape[1:], dtype=int))
