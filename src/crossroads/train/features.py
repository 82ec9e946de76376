"""Training a fresh head on a frozen backbone from cached features: the CPU profile.

What no trained weight touches (the layout says which groups) is computed once per window and kept in half precision, in
a file that is filled as the caches of frames and latents are (``storage.Filling``); a step then runs only the head.
Groups that hold noise are cached in several draws, and a step picks one.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from crossroads.codecs.subtask import SubtaskCodec
from crossroads.codecs.text import TextCodec
from crossroads.errors import InputError
from crossroads.policy import StreamPolicy
from crossroads.storage import WRITTEN, Filling, appearing, filling_lock, is_whole
from crossroads.towers.group import GroupState
from crossroads.train.log import progress_bar
from crossroads.types import Batch, Losses, Observation

META, STATES, PLAIN = "meta.json", "states.f16", ("state", "actions", "actions_valid")
ANOTHER_OUT = "Free space there, or choose another --out on another disk."
_SAVE_EVERY_BATCHES, _ALIGNED = 32, 64


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
        places = _Places(arrays=self.meta["arrays"], num_bytes=0)
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
        obs = _blind(self.state[index], *(tuple(of[row] for row in rows) for of in (self.text, self.robot)))
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


def _blind(state: Tensor, text: tuple[str, ...], robot: tuple[str, ...]) -> Observation:
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


@torch.no_grad()
def build_store(
    policy: StreamPolicy,
    windows: WindowSource,
    rows: np.ndarray,
    folder: Path,
    *,
    num_draws: int,
    seed: int,
    batch_size: int = 32,
    progress: bool = True,
) -> FeatureStore:
    """Compute and keep the fixed states of ``rows``, batch by batch; what is complete is reused.

    A process that was stopped goes on where it was, if it asks for the same; a second one waits for the first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with filling_lock(folder / STATES, wait=True):
        if not ((folder / META).is_file() and is_whole(folder / STATES)):
            making = _Making(
                policy=policy, windows=windows, rows=rows, num_draws=num_draws, seed=seed, batch_size=batch_size
            )
            making.fill(folder, progress)
    return FeatureStore(folder)


@dataclass(frozen=True, kw_only=True)
class _Making:
    """Features on their way."""

    policy: StreamPolicy
    windows: WindowSource
    rows: np.ndarray
    num_draws: int
    seed: int
    batch_size: int

    def fill(self, folder: Path, progress: bool) -> None:
        """Compute what is not there; the numbers and words of all windows, and the meta file, come last."""
        self._refuse_pictures_beside()
        plain, told, longest = self._survey()
        noised = _noised(self.policy)
        first = self._states(0, noised, longest)
        places = _places(first, len(self.rows))
        starts = range(0, len(self.rows), self.batch_size)
        file = Filling(path=folder / STATES, num_bytes=places.num_bytes, num_units=len(starts), do=ANOTHER_OUT)
        self._begin_anew_unless_the_same(folder, file, longest)
        marks = file.begin()
        kept = np.memmap(file.part, np.uint8, "r+")
        left = np.flatnonzero(marks == 0).tolist()
        done = min(self.batch_size * (len(starts) - len(left)), len(self.rows))
        title = f"features {self.policy.recipe.name}"
        with progress_bar(total=len(self.rows), initial=done, title=title, shown=progress) as bar:
            for number, unit in enumerate(left, start=1):
                found = first if unit == 0 else self._states(starts[unit], noised, longest)
                for name, value in found.items():
                    places.array(kept, name)[starts[unit] : starts[unit] + len(value)] = value
                marks[unit] = WRITTEN
                bar.update(len(next(iter(found.values()))))
                if number % _SAVE_EVERY_BATCHES == 0:
                    file.settle(marks)
        del kept
        file.end()
        for name, value in plain.items():
            np.save(folder / f"plain.{name}.npy", value)
        parts = {group: [name[len(group) + 1 :] for name in first if name.startswith(f"{group}.")] for group in noised}
        groups = {
            group: {
                "noised": flag,
                "taps": sorted(int(part[3:]) for part in parts[group] if part.startswith("tap")),
                "level": "level" in parts[group],
                "index": "index" in parts[group],
            }
            for group, flag in noised.items()
        }
        meta = {"arrays": places.arrays, "groups": groups, "num_draws": self.num_draws, **told}
        with appearing(folder / META) as draft:
            draft.write_text(json.dumps({**meta, "recipe": self.policy.recipe.name}))

    def _refuse_pictures_beside(self) -> None:
        """Raises ``InputError`` where what is trained looks at pictures itself: they are not kept."""
        batch = self.windows.batch(self.rows[:1])
        blind = _blind(batch.obs.state, batch.obs.text, batch.obs.robot)
        kept = self.policy.features(batch, generator=torch.Generator().manual_seed(0))
        for name in sorted(self.policy.groups() - self.policy.fixed_groups()):
            if self.policy.net.group(name).view.kind != "now":
                continue
            try:
                self.policy.net.observe(name, blind, kept)
            except KeyError as error:
                raise InputError(
                    where=f"features of {self.policy.recipe.name}, phase {self.policy.phase.name}",
                    expected="pictures that only frozen networks look at, whose states are kept",
                    got=f"group {name!r}, which is trained and looks at {error}",
                    do="Train a phase that is given pictures (`full`).",
                ) from error

    def _begin_anew_unless_the_same(self, folder: Path, file: Filling, longest: Mapping[str, int]) -> None:
        """What was begun for other windows, draws or weights is no beginning of this."""
        rows = hashlib.sha256(np.asarray(self.rows, np.int64).tobytes()).hexdigest()
        asked = [rows, self.num_draws, self.seed, self.batch_size, dict(longest), _weights(self.policy)]
        note, told = folder / "asked.json", json.dumps(asked)
        if not note.is_file() or note.read_text() != told:
            file.marks.unlink(missing_ok=True)
            with appearing(note) as draft:
                draft.write_text(told)

    def _survey(self) -> tuple[dict[str, np.ndarray], dict[str, Any], dict[str, int]]:
        """The numbers and the words of all windows; and how many tokens each fixed group of words needs for its
        longest: an instruction, a prompt that holds a state, a subtask."""
        policy = self.policy
        worded = [
            name for name in policy.fixed_groups() if isinstance(policy.net.codec(name), TextCodec | SubtaskCodec)
        ]
        longest = dict.fromkeys(worded, 0)
        plain: dict[str, list[np.ndarray]] = {name: [] for name in PLAIN}
        text: list[str] = []
        robot: list[str] = []
        for start in range(0, len(self.rows), 512):
            batch = self.windows.batch(self.rows[start : start + 512])
            text += batch.obs.text
            robot += batch.obs.robot
            for name, value in zip(PLAIN, (batch.obs.state, batch.actions, batch.actions_valid), strict=True):
                plain[name].append(value.numpy())
            for name in worded:
                seen = policy.net.group(name).view.kind == "now"
                found = policy.net.observe(name, batch.obs) if seen else policy.net.target(name, batch)
                longest[name] = max(longest[name], found.valid.shape[1])
        told: dict[str, Any] = {"text": text, "robot": robot[0]}
        if len(set(robot)) > 1:
            told["robots"] = robot
        return {name: np.concatenate(values) for name, values in plain.items()}, told, longest

    def _states(self, start: int, noised: Mapping[str, bool], longest: Mapping[str, int]) -> dict[str, np.ndarray]:
        """The arrays of one batch of windows: ``[window, draw, ...]``."""
        batch = self.windows.batch(self.rows[start : start + self.batch_size])
        kept: dict[str, list[np.ndarray]] = {}
        known: dict[str, GroupState] = {}
        for draw in range(self.num_draws if any(noised.values()) else 1):
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + start * 31 + draw)
            found = self.policy.features(batch, generator=generator, known=known)
            known = {group: state for group, state in found.items() if not noised[group]}
            for group, state in found.items():
                if draw == 0 or noised[group]:
                    for part, value in _parts(_padded(state, longest.get(group, 0))).items():
                        kept.setdefault(f"{group}.{part}", []).append(value)
        return {name: np.stack(values, axis=1) for name, values in kept.items()}


@dataclass(frozen=True, kw_only=True)
class _Places:
    """Where each array lies in the file of all states."""

    arrays: dict[str, dict[str, Any]]
    num_bytes: int

    def array(self, file: np.ndarray, name: str) -> np.ndarray:
        told = self.arrays[name]
        kind, shape = np.dtype(told["dtype"]), tuple(told["shape"])
        num_bytes = kind.itemsize * math.prod(shape)
        return file[told["offset"] : told["offset"] + num_bytes].view(kind).reshape(shape)


def _places(first: Mapping[str, np.ndarray], num_rows: int) -> _Places:
    arrays: dict[str, dict[str, Any]] = {}
    offset = 0
    for name, value in sorted(first.items()):
        shape = (num_rows, *value.shape[1:])
        arrays[name] = {"offset": offset, "dtype": value.dtype.str, "shape": shape}
        offset += -(-value.dtype.itemsize * math.prod(shape) // _ALIGNED) * _ALIGNED
    return _Places(arrays=arrays, num_bytes=offset)


def _weights(policy: StreamPolicy) -> str:
    """Of all that features may hang on: weights that the present phase does not train, and normalisers."""
    total = hashlib.sha256()
    trained = {name for name, value in policy.named_parameters() if value.requires_grad}
    for name, value in policy.state_dict().items():
        if name not in trained:
            total.update(name.encode())
            total.update(value.cpu().reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()


def _noised(policy: StreamPolicy) -> dict[str, bool]:
    """Which fixed groups hold random noise, their own or that of a group they read."""
    layout = policy.net.layout
    fixed = policy.fixed_groups()

    def own(name: str) -> bool:
        view = layout.groups[name].view
        return view.kind == "noised" or view.noised_share > 0

    return {name: any(own(other) for other in layout.needed([name])) for name in sorted(fixed)}


def _padded(state: GroupState, num_tokens: int) -> GroupState:
    """A state with its tokens padded (and marked not valid) so that all windows have the same number."""
    missing = num_tokens - state.valid.shape[1]
    if missing <= 0:
        return state

    def pad(x: Tensor) -> Tensor:
        return torch.cat([x, x.new_zeros(x.shape[0], missing, *x.shape[2:])], dim=1)

    return replace(
        state,
        keys=tuple(pad(key) for key in state.keys),
        values=tuple(pad(value) for value in state.values),
        hidden=pad(state.hidden),
        valid=pad(state.valid),
        taps={at: pad(tap) for at, tap in state.taps.items()},
        index=None if state.index is None else pad(state.index),
    )


def _parts(state: GroupState) -> dict[str, np.ndarray]:
    """What is kept of a state, in half precision."""
    parts = {
        "keys": torch.stack(state.keys, dim=1).half(),
        "values": torch.stack(state.values, dim=1).half(),
        "hidden": state.hidden.half(),
        "valid": state.valid,
        **{f"tap{at}": tap.half() for at, tap in state.taps.items()},
        **({} if state.level is None else {"level": state.level}),
        **({} if state.index is None else {"index": state.index}),
    }
    return {name: value.numpy() for name, value in parts.items()}
