"""The common places that robots of different cameras, rates and numbers fill in one batch.

A mixture has slots: cameras by name, a number of the state and of the action for each name of a dimension, one rate.
Each dataset says which of them it fills and from what; without a word its own names are the slots. A camera that a
robot lacks is black. A number that it lacks is 0, also to the normaliser, and is trained to be 0, as pi0 pads its
smaller robots (arXiv 2410.24164, section IV). Actions are read at the common rate, each the one in force at its time:
right for commands that hold until the next one, such as positions and velocities, not for displacements per step.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from crossroads.data.lerobot import LeRobotDataset
from crossroads.errors import InputError, nearest
from crossroads.space import ActionSpace, Statistics
from crossroads.types import Batch, Observation, Window


@dataclass(frozen=True, kw_only=True)
class Slots:
    """What one robot fills."""

    robot: str
    cameras: Mapping[str, str]
    """Slot to the robot's own camera."""
    state: tuple[int, ...]
    """The slot of each of its own numbers."""
    action: tuple[int, ...]
    space: ActionSpace = field(repr=False)
    """Its own."""

    def own_window(self, window: Window) -> Window:
        """What must be asked of this robot's dataset so that the mixture's window can be filled."""
        return replace(
            window,
            cameras=tuple(self.cameras[slot] for slot in window.cameras if slot in self.cameras),
            num_state=len(self.state) if window.num_state else 0,
            action_size=len(self.action),
        )

    def seen(self, obs: Observation, window: Window) -> Observation:
        """An observation of this robot as the mixture sees it."""
        size = (obs.batch_size, *window.image_hw, 3)
        black = torch.zeros(size, dtype=torch.uint8, device=obs.state.device)
        state = obs.state[:, : len(self.state)] if window.num_state else obs.state
        return replace(
            obs,
            images={slot: self._shown(obs.images, slot, black) for slot in window.cameras},
            state=spread(state, self.state, window.num_state) if window.num_state else state,
            robot=(self.robot,) * obs.batch_size,
            passed={slot: obs.passed[own] for slot, own in self.cameras.items() if own in obs.passed},
            before=tuple(self.seen(earlier, window) for earlier in obs.before),
        )

    def fill(self, batch: Batch, window: Window) -> Batch:
        """A batch of this robot as one of the mixture."""
        num_future = len(window.future_s)
        black = torch.zeros(batch.batch_size, num_future, *window.image_hw, 3, dtype=torch.uint8)
        later = batch.later_state
        return replace(
            batch,
            obs=self.seen(batch.obs, window),
            actions=spread(batch.actions, self.action, window.action_size),
            future={slot: self._shown(batch.future, slot, black) for slot in window.cameras if num_future},
            later_state=spread(later, self.state, window.num_state) if window.num_state else later,
        )

    def own_actions(self, values: Float[Tensor, "b n a"]) -> Float[Tensor, "b n a2"]:
        """Actions of the mixture as this robot's, within its limits."""
        return self.space.clamp(values[..., list(self.action)])

    def _shown(self, images: Mapping[str, UInt8[Tensor, " ..."]], slot: str, black: Tensor) -> Tensor:
        own = self.cameras.get(slot)
        return black if own is None else images[own]


def spread(values: Tensor, places: Sequence[int], size: int) -> Tensor:
    """Numbers along the last axis at their slots, zeros elsewhere."""
    out = values.new_zeros(*values.shape[:-1], size)
    out[..., list(places)] = values
    return out


def spread_statistics(statistics: Statistics, places: Sequence[int], size: int) -> Statistics:
    """Statistics by slot; of a slot that is not filled such that a normaliser leaves a 0 there."""
    neutral = {"mean": 0.0, "std": 1.0, "min": -1.0, "max": 1.0, "q01": -1.0, "q99": 1.0}
    found: dict[str, Any] = {}
    for name, empty in neutral.items():
        values = np.full(size, empty)
        values[list(places)] = getattr(statistics, name)
        found[name] = tuple(values.tolist())
    return Statistics(count=statistics.count, **found)


@dataclass(frozen=True, kw_only=True)
class Declared:
    """The slots of a mixture, and what each dataset fills."""

    space: ActionSpace
    """Names, units and the widest limits of all slots, at the common rate."""
    cameras: tuple[str, ...]
    datasets: tuple[Slots, ...]


def declare(datasets: Sequence[LeRobotDataset], file: Path | None) -> Declared:
    """The slots of these datasets, from a TOML file (`[[dataset]]` in their order) or, without one, from their names.

    A file may hold `control_hz`, and for each dataset `robot`, `cameras` (slot = own camera) and `state` and `action`
    (the slot of each of its numbers).

    Raises:
        InputError: rates differ and none is declared, units differ within a slot, or a declaration does not fit.
    """
    told: dict[str, Any] = _read(file, len(datasets)) if file else {"dataset": [{} for _ in datasets]}
    rates = {dataset.fps for dataset in datasets}
    if len(rates) > 1 and "control_hz" not in told:
        raise InputError(
            where="mixture of datasets",
            expected="one rate",
            got=", ".join(f"{dataset.path.name} {dataset.fps:g} Hz" for dataset in datasets),
            do="Declare the common one as control_hz in a file and give it by --slots.",
        )
    entries = list(zip(datasets, told["dataset"], strict=True))
    names = {kind: [_names(dataset, entry, kind, file) for dataset, entry in entries] for kind in ("state", "action")}
    slots = {kind: tuple(dict.fromkeys(name for own in of for name in own)) for kind, of in names.items()}
    found = []
    for place, (dataset, entry) in enumerate(entries):
        found.append(
            Slots(
                robot=str(entry.get("robot") or dataset.space.robot),
                cameras=_cameras(dataset, entry, file),
                state=tuple(slots["state"].index(name) for name in names["state"][place]),
                action=tuple(slots["action"].index(name) for name in names["action"][place]),
                space=dataset.space,
            )
        )
    _require_robots(found)
    return Declared(
        space=_union(found, slots, float(told.get("control_hz") or rates.pop())),
        cameras=tuple(dict.fromkeys(slot for one in found for slot in one.cameras)),
        datasets=tuple(found),
    )


def _read(file: Path, num: int) -> dict[str, Any]:
    try:
        told = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise InputError(
            where=str(file), expected="a readable TOML file", got=str(error), do="Correct it or its name."
        ) from error
    entries = told.get("dataset")
    known = {"robot", "cameras", "state", "action"}
    odd = sorted(set(told) - {"control_hz", "dataset"})
    odd += sorted({name for entry in entries or () for name in entry} - known)
    if not isinstance(entries, list) or len(entries) != num or odd:
        raise InputError(
            where=str(file),
            expected=f"control_hz, and {num} [[dataset]] in the order of --data with {', '.join(sorted(known))}",
            got=f"{len(entries or ())} [[dataset]]" + (f", and {odd[0]!r}" if odd else ""),
            do="Correct the file.",
        )
    return told


def _names(dataset: LeRobotDataset, entry: Mapping[str, Any], kind: str, file: Path | None) -> tuple[str, ...]:
    own = dataset.space.action_names if kind == "action" else dataset.space.state_names
    names = tuple(str(name) for name in entry.get(kind, own))
    if len(names) != len(own) or len(set(names)) < len(names):
        raise InputError(
            where=f"{file or dataset.path}: {kind} of {dataset.path.name}",
            expected=f"a slot of its own for each of {', '.join(own)}",
            got=", ".join(names),
            do="Name one slot per number.",
        )
    return names


def _cameras(dataset: LeRobotDataset, entry: Mapping[str, Any], file: Path | None) -> dict[str, str]:
    cameras = entry.get("cameras", {name: name for name in dataset.cameras})
    for own in cameras.values():
        if own not in dataset.cameras:
            raise InputError(
                where=f"{file}: cameras of {dataset.path.name}",
                expected=f"some of {', '.join(dataset.cameras)}",
                got=repr(own),
                do=nearest(str(own), dataset.cameras),
            )
    return {str(slot): str(own) for slot, own in cameras.items()}


def _require_robots(found: Sequence[Slots]) -> None:
    """Datasets of one robot share its normaliser, so they must fill the same slots."""
    first: dict[str, Slots] = {}
    for one in found:
        known = first.setdefault(one.robot, one)
        if (known.state, known.action) != (one.state, one.action):
            raise InputError(
                where="mixture of datasets",
                expected=f"datasets of robot {one.robot!r} with the same numbers",
                got=f"{len(known.state)} and {len(one.state)} of the state, {len(known.action)} and {len(one.action)} "
                "of the action, or of other names",
                do="Declare a `robot` of its own for each of them in a file and give it by --slots.",
            )


def _union(found: Sequence[Slots], slots: Mapping[str, tuple[str, ...]], control_hz: float) -> ActionSpace:
    units: list[set[str]] = [set() for _ in slots["action"]]
    low, high = np.full(len(units), np.inf), np.full(len(units), -np.inf)
    for one in found:
        for own, place in enumerate(one.action):
            units[place].add(one.space.action_units[own])
            low[place], high[place] = min(low[place], one.space.low[own]), max(high[place], one.space.high[own])
    for name, said in zip(slots["action"], units, strict=True):
        if len(said - {""}) > 1:
            raise InputError(
                where=f"mixture of datasets: action {name!r}",
                expected="one unit",
                got=" and ".join(sorted(said)),
                do="Declare slots of different names for them in a file and give it by --slots.",
            )
    return ActionSpace(
        robot="+".join(dict.fromkeys(one.robot for one in found)),
        action_names=slots["action"],
        action_units=tuple(max(said) for said in units),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        state_names=slots["state"],
        control_hz=control_hz,
    )
