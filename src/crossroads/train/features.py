"""Training a fresh head on a frozen backbone from cached features: the CPU profile.

What no trained weight touches (the layout says which groups) is computed once per window and kept in half precision, in
a file that is filled as the caches of frames and latents are (``storage.Filling``); a step then runs only the head.
Groups that hold noise are cached in several draws, and a step picks one.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from crossroads.policy import StreamPolicy
from crossroads.towers.group import GroupState
from crossroads.types import Batch, Losses, Observation

META, STATES, PLAIN = "meta.json", "states.f16", ("state", "actions", "actions_valid")


class WindowSource(Protocol):
    """Random access to training windows (``crossroads.data.window.Windows``)."""

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int] | np.ndarray) -> Batch: ...


@dataclass(frozen=True, kw_only=True)
class FeatureBatch:
    """A batch without pictures, and the cached states that stand for them."""

    batch: Batch
    states: Mapping[str, GroupState]

    @property
    def weight(self) -> Tensor:
        return self.batch.weight

    def to(self, device: torch.device | str) -> FeatureBatch:
        states = {
            name: GroupState(
                keys=tuple(key.to(device) for key in state.keys),
                values=tuple(value.to(device) for value in state.values),
                hidden=state.hidden.to(device),
                valid=state.valid.to(device),
                taps={at: tap.to(device) for at, tap in state.taps.items()},
                level=None if state.level is None else state.level.to(device),
                index=None if state.index is None else state.index.to(device),
            )
            for name, state in self.states.items()
        }
        return FeatureBatch(batch=self.batch.to(device), states=states)


class HeadTraining(nn.Module):
    """A policy as the training loop sees it when its frozen part comes from the cache."""

    def __init__(self, policy: StreamPolicy) -> None:
        super().__init__()
        self.policy = policy

    def loss(self, batch: FeatureBatch, *, generator: torch.Generator) -> Losses:
        return self.policy.loss(batch.batch, generator=generator, cached=batch.states)


class FeatureStore:
    """Cached states of every window, as memory-mapped half-precision arrays ``window, draw, layer, token, channel``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.meta = json.loads((folder / META).read_text())
        places = Arrays(arrays=self.meta["arrays"], num_bytes=0)
        states = np.memmap(folder / STATES, np.uint8, "r")
        self.arrays = {name: places.array(states, name) for name in places.arrays}
        plain = {name: np.load(folder / f"plain.{name}.npy") for name in PLAIN}
        self.state, self.actions, self.actions_valid = (torch.from_numpy(plain[name]) for name in plain)
        self.text: tuple[str, ...] = tuple(self.meta["text"])
        self.robot: tuple[str, ...] = tuple(self.meta.get("robots") or (self.meta["robot"],) * len(self.text))

    def __len__(self) -> int:
        return len(self.text)

    @property
    def num_draws(self) -> int:
        return self.meta["num_draws"]

    def labelled(self, rows: np.ndarray, *, state: Tensor, actions: Tensor) -> FeatureStore:
        """The same features with states and actions of some windows replaced (labels that a model wrote)."""
        found, index = copy.copy(self), torch.from_numpy(rows)
        found.state, found.actions = self.state.clone(), self.actions.clone()
        found.actions_valid = self.actions_valid.clone()
        found.state[index], found.actions[index], found.actions_valid[index] = state, actions, True
        return found

    def states(self, rows: np.ndarray, draws: np.ndarray) -> dict[str, GroupState]:
        """The states of some windows, each in one of its draws."""
        found: dict[str, GroupState] = {}
        for group, parts in self.meta["groups"].items():
            column = draws if parts["noised"] else np.zeros_like(draws)
            read = {
                part: torch.from_numpy(self.arrays[f"{group}.{part}"][rows, column])
                for part in ("keys", "values", "hidden", "valid")
            }
            found[group] = GroupState(
                keys=read["keys"].float().unbind(dim=1),
                values=read["values"].float().unbind(dim=1),
                hidden=read["hidden"].float(),
                valid=read["valid"],
                taps={at: self._part(f"{group}.tap{at}", rows, column).float() for at in parts.get("taps", ())},
                level=self._part(f"{group}.level", rows, column) if parts.get("level") else None,
                index=self._part(f"{group}.index", rows, column) if parts.get("index") else None,
            )
        return found

    def _part(self, name: str, rows: np.ndarray, column: np.ndarray) -> Tensor:
        return torch.from_numpy(self.arrays[name][rows, column])

    def batch(self, rows: np.ndarray, draws: np.ndarray) -> FeatureBatch:
        """Some windows as a training batch."""
        index = torch.from_numpy(rows)
        num = len(rows)
        empty = torch.zeros(num, 0, dtype=torch.bool)
        obs = blind(self.state[index], *(tuple(of[row] for row in rows) for of in (self.text, self.robot)))
        batch = Batch(
            obs=obs,
            actions=self.actions[index],
            actions_valid=self.actions_valid[index],
            future={},
            future_valid=empty,
            answer=("",) * num,
            weight=torch.ones(num),
            **Batch.unforeseen(num),
        )
        return FeatureBatch(batch=batch, states=self.states(rows, draws))


def blind(state: Tensor, text: tuple[str, ...], robot: tuple[str, ...]) -> Observation:
    """What is observed of windows whose pictures are not there."""
    return Observation(images={}, state=state, text=text, robot=robot, time_s=torch.zeros(len(text)))


@dataclass(frozen=True, kw_only=True)
class FeatureSource:
    """Batches of cached windows as a function of the step; ``rows`` are the windows this run may see."""

    store: FeatureStore
    rows: np.ndarray
    batch_size: int
    seed: int
    chosen: Callable[[int], np.ndarray] | None = None
    """Which of ``rows`` a step takes; drawn at random when not given."""

    def batch(self, step: int) -> FeatureBatch:
        rng = np.random.default_rng((self.seed, step, 3))
        drawn = self.chosen(step) if self.chosen else rng.integers(len(self.rows), size=self.batch_size)
        rows = self.rows[drawn]
        return self.store.batch(np.sort(rows), rng.integers(self.store.num_draws, size=self.batch_size))


@dataclass(frozen=True, kw_only=True)
class Arrays:
    """Where each array lies in the file of all states."""

    arrays: dict[str, dict[str, Any]]
    num_bytes: int

    def array(self, file: np.ndarray, name: str) -> np.ndarray:
        told = self.arrays[name]
        kind, shape = np.dtype(told["dtype"]), tuple(told["shape"])
        num_bytes = kind.itemsize * math.prod(shape)
        return file[told["offset"] : told["offset"] + num_bytes].view(kind).reshape(shape)
