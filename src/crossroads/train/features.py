"""Training a fresh head on a frozen backbone from cached features: the CPU profile.

What no trained weight touches (the layout says which groups) is computed once per window and kept in half precision;
a step then runs only the head. Groups that hold noise are cached in several draws, and a step picks one.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from crossroads.codecs.subtask import SubtaskCodec
from crossroads.codecs.text import TextCodec
from crossroads.policy import StreamPolicy
from crossroads.storage import appearing_folder, reserve
from crossroads.towers.joint import GroupState
from crossroads.train.log import progress_bar
from crossroads.types import Batch, Losses, Observation


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
        self.meta = json.loads((folder / "meta.json").read_text())
        self.arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in self.meta["arrays"]}
        plain = {name: np.load(folder / f"plain.{name}.npy") for name in ("state", "actions", "actions_valid")}
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
    """Compute and keep the fixed states of ``rows``; a folder appears complete or not at all, and then is reused."""
    if (folder / "meta.json").exists():
        return FeatureStore(folder)
    with appearing_folder(folder) as draft:
        _fill(draft, policy, windows, rows, num_draws, seed, batch_size, progress)
    return FeatureStore(folder)


def _fill(
    folder: Path,
    policy: StreamPolicy,
    windows: WindowSource,
    rows: np.ndarray,
    num_draws: int,
    seed: int,
    batch_size: int,
    progress: bool,
) -> None:
    noised = _noised(policy)
    arrays: dict[str, np.memmap] = {}
    plain: dict[str, list[Tensor]] = {"state": [], "actions": [], "actions_valid": []}
    text: list[str] = []
    robot: list[str] = []
    bar = progress_bar(total=len(rows), initial=0, title=f"features {policy.recipe.name}", shown=progress)
    longest = _longest_text(policy, windows, rows)
    with bar:
        for start in range(0, len(rows), batch_size):
            chosen = rows[start : start + batch_size]
            batch = windows.batch(chosen)
            text.extend(batch.obs.text)
            robot.extend(batch.obs.robot)
            for name, value in (("state", batch.obs.state), ("actions", batch.actions)):
                plain[name].append(value)
            plain["actions_valid"].append(batch.actions_valid)
            known: dict[str, GroupState] = {}
            for draw in range(num_draws if any(noised.values()) else 1):
                generator = torch.Generator().manual_seed(seed * 1_000_003 + start * 31 + draw)
                found = policy.features(batch, generator=generator, known=known)
                known = {group: state for group, state in found.items() if not noised[group]}
                for group, state in found.items():
                    if draw == 0 or noised[group]:
                        size = (len(rows), num_draws if noised[group] else 1)
                        _keep(arrays, folder, group, _padded(state, longest.get(group, 0)), size, start, draw)
            bar.update(len(chosen))
    for array in arrays.values():
        array.flush()
    for name, parts in plain.items():
        np.save(folder / f"plain.{name}.npy", torch.cat(parts).numpy())
    meta = {
        "arrays": sorted(arrays),
        "groups": {
            group: {"noised": flag, "taps": sorted(found[group].taps), "level": found[group].level is not None}  # pyright: ignore[reportPossiblyUnboundVariable]
            for group, flag in noised.items()
        },
        "num_draws": num_draws,
        "text": text,
        "robot": robot[0],
        "recipe": policy.recipe.name,
    }
    if len(set(robot)) > 1:
        meta["robots"] = robot
    (folder / "meta.json").write_text(json.dumps(meta))


def _noised(policy: StreamPolicy) -> dict[str, bool]:
    """Which fixed groups hold random noise, their own or that of a group they read."""
    layout = policy.net.layout
    fixed = policy.fixed_groups()

    def own(name: str) -> bool:
        view = layout.groups[name].view
        return view.kind == "noised" or view.noised_share > 0

    return {name: any(own(other) for other in layout.needed([name])) for name in sorted(fixed)}


def _longest_text(policy: StreamPolicy, windows: WindowSource, rows: np.ndarray) -> dict[str, int]:
    """How many tokens each fixed group of words needs for its longest: an instruction, a prompt that holds a state, a
    subtask."""
    groups = [name for name in policy.fixed_groups() if isinstance(policy.net.codec(name), TextCodec | SubtaskCodec)]
    longest = dict.fromkeys(groups, 0)
    for start in range(0, len(rows), 512):
        batch = windows.batch(rows[start : start + 512])
        for name in groups:
            seen = policy.net.group(name).view.kind == "now"
            found = policy.net.observe(name, batch.obs) if seen else policy.net.target(name, batch)
            longest[name] = max(longest[name], found.valid.shape[1])
    return longest


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
    )


def _keep(
    arrays: dict[str, np.memmap],
    folder: Path,
    group: str,
    state: GroupState,
    size: tuple[int, int],
    start: int,
    draw: int,
) -> None:
    parts = {
        "keys": torch.stack(state.keys, dim=1).half(),
        "values": torch.stack(state.values, dim=1).half(),
        "hidden": state.hidden.half(),
        "valid": state.valid,
        **{f"tap{at}": tap.half() for at, tap in state.taps.items()},
        **({} if state.level is None else {"level": state.level}),
    }
    for part, value in parts.items():
        name = f"{group}.{part}"
        found = value.numpy()
        if name not in arrays:
            shape = (*size, *found.shape[1:])
            path = folder / f"{name}.npy"
            arrays[name] = np.lib.format.open_memmap(path, "w+", dtype=found.dtype, shape=shape)
            reserve(path, path.stat().st_size, do="Free space there, or choose another --out on another disk.")
        arrays[name][start : start + len(found), draw] = found
