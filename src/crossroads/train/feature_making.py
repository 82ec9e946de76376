"""Making the features that a head is trained on: in a file that is filled as the caches of frames and latents are
(``storage.Filling``), so that a process that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crossroads.codecs.subtask import SubtaskCodec
from crossroads.codecs.text import TextCodec
from crossroads.errors import InputError
from crossroads.policy import StreamPolicy
from crossroads.storage import WRITTEN, Filling, appearing, filling_lock, is_whole
from crossroads.towers.group import GroupState
from crossroads.train.features import META, PLAIN, STATES, Arrays, FeatureStore, WindowSource, blind
from crossroads.train.log import progress_bar

ANOTHER_OUT = "Free space there, or choose another --out on another disk."
_SAVE_EVERY_BATCHES, _ALIGNED = 32, 64


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
        unseeing = blind(batch.obs.state, batch.obs.text, batch.obs.robot)
        kept = self.policy.features(batch, generator=torch.Generator().manual_seed(0))
        for name in sorted(self.policy.groups() - self.policy.fixed_groups()):
            if self.policy.net.group(name).view.kind != "now":
                continue
            try:
                self.policy.net.observe(name, unseeing, kept)
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


def _places(first: Mapping[str, np.ndarray], num_rows: int) -> Arrays:
    arrays: dict[str, dict[str, Any]] = {}
    offset = 0
    for name, value in sorted(first.items()):
        shape = (num_rows, *value.shape[1:])
        arrays[name] = {"offset": offset, "dtype": value.dtype.str, "shape": shape}
        offset += -(-value.dtype.itemsize * math.prod(shape) // _ALIGNED) * _ALIGNED
    return Arrays(arrays=arrays, num_bytes=offset)


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
