"""Copies a LeRobotDataset v3.0 and plants named faults in the copy, to see which of them `crossroads audit` finds.

    python examples/plant_faults.py data/metaworld data/faulty --fault stuck-camera --fault gripper-polarity:mild
    crossroads audit --data data/faulty --json found.json
    diff <(jq .planted data/faulty.planted.json) <(jq .findings found.json)          # or read the two side by side

What was planted is written beside the copy (not into it): `data/faulty.planted.json` names fault, kind of finding,
dose, episodes and frames. Episodes, frames and cameras are drawn from `--seed`; no episode gets two faults. Pictures
are decoded and encoded again, because that is what every tool that edits such a dataset does.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from crossroads.data.faults_in_numbers import GRIPPERS
from crossroads.data.findings import Kind
from crossroads.data.lerobot import Episode, LeRobotDataset
from crossroads.data.writer import LeRobotWriter
from crossroads.errors import InputError, nearest
from crossroads.space import ActionSpace

DOSES = ("mild", "strong")


@dataclass(frozen=True, kw_only=True)
class Take:
    """One episode: pictures ``(t, h, w, 3)`` per camera, state ``(t, s)``, actions ``(t, a)``."""

    images: Mapping[str, np.ndarray]
    state: np.ndarray
    actions: np.ndarray

    @property
    def length(self) -> int:
        return len(self.actions)

    def at(self, frames: np.ndarray) -> Take:
        """The take with these frames, in this order."""
        images = {name: part[frames] for name, part in self.images.items()}
        return Take(images=images, state=self.state[frames], actions=self.actions[frames])


Edit = Callable[[Take], Take]


@dataclass(frozen=True, kw_only=True)
class Planted:
    """One fault: what a reader needs to look for it, and how it is done."""

    fault: str
    kind: Kind
    episodes: tuple[int, ...]
    frames: tuple[tuple[int, int], ...]
    """First and last frame in each episode; empty when whole episodes are concerned."""
    what: str
    dose: str = ""
    edits: Mapping[int, Edit] = field(repr=False, default_factory=dict)
    copies: tuple[tuple[int, Edit], ...] = field(repr=False, default=())
    """Episodes to append: of which one, and how changed."""

    def plain(self) -> dict[str, object]:
        shown = ("fault", "kind", "dose", "episodes", "frames", "what")
        return {name: getattr(self, name) for name in shown}


class Planter:
    """Chooses places that no fault has yet and knows what is usual in the recording."""

    def __init__(self, dataset: LeRobotDataset, seed: int) -> None:
        self.dataset, self.generator = dataset, np.random.default_rng(seed)
        self.free = [e.index for e in dataset.episodes if not e.action_free]
        self.next_index = len(dataset.episodes)
        labelled = [e for e in dataset.episodes if not e.action_free]
        actions = np.concatenate([dataset.actions(e) for e in labelled]).astype(np.float64)
        states = np.concatenate([dataset.state(e) for e in labelled]).astype(np.float64)
        self.low, self.high = np.quantile(actions, [0.01, 0.99], axis=0)
        self.std = actions.std(axis=0)
        self.state_range = np.quantile(states, 0.99, axis=0) - np.quantile(states, 0.01, axis=0)
        names = [name.lower() for name in dataset.space.action_names]
        self.gripper = next(
            (i for i, name in enumerate(names) if any(part in name for part in GRIPPERS)), len(names) - 1
        )
        self.axis = int(np.argmax(np.where(np.arange(len(names)) == self.gripper, -1.0, self.std)))

    def episodes(self, num: int, *, together: bool) -> list[int]:
        """Episodes without a fault, at random or one after the other."""
        if together:
            starts = [i for i in self.free if all(i + k in self.free for k in range(num))]
        else:
            starts = self.free if len(self.free) >= num else []
        if not starts:
            raise InputError(
                where=f"{self.dataset.path}: faults",
                expected=f"{num} episodes{' in a row' if together else ''} without a fault",
                got=f"{len(self.free)} free episodes",
                do="Plant fewer faults, or mild ones.",
            )
        start = int(self.generator.choice(starts))
        chosen = list(range(start, start + num)) if together else []
        chosen = chosen or sorted(self.generator.choice(starts, num, replace=False).tolist())
        self.free = [index for index in self.free if index not in chosen]
        return chosen

    def camera(self) -> str:
        return str(self.generator.choice(self.dataset.cameras))

    def moment(self, index: int, num: int) -> int:
        """The first of ``num`` frames inside an episode, not at its border, where the state moves most of 8 draws."""
        state = self.dataset.state(index).astype(np.float64) / np.maximum(self.state_range, 1e-6)
        firsts = self.generator.integers(1, max(len(state) - num, 2), 8)
        return int(max(firsts, key=lambda at: float(np.abs(state[min(at + num, len(state)) - 1] - state[at]).max())))

    def length(self, index: int) -> int:
        return self.dataset.episodes[index].length


def _stuck_camera(to: Planter, strong: bool) -> Planted:
    camera, edits, frames = to.camera(), {}, []
    chosen = to.episodes(3 if strong else 1, together=False)
    for index in chosen:
        num = max(5, round((0.5 if strong else 0.15) * to.length(index)))
        first = to.moment(index, num)
        last = min(first + num, to.length(index)) - 1
        frames.append((first, last))
        edits[index] = lambda take, first=first, last=last: _one_picture(take, camera, first, last)
    what = f"camera {camera} shows one picture"
    return _planted("stuck-camera", "stuck camera", chosen, what, edits, frames)


def _one_picture(take: Take, camera: str, first: int, last: int) -> Take:
    pictures = take.images[camera].copy()
    pictures[first : last + 1] = pictures[first]
    return replace(take, images={**take.images, camera: pictures})


def _desync_camera(to: Planter, strong: bool) -> Planted:
    camera = to.camera()
    chosen = to.episodes(8 if strong else 3, together=True)
    lag = max(2 if strong else 1, round((0.2 if strong else 0.1) * to.dataset.fps))

    def edit(take: Take) -> Take:
        early = take.images[camera][: take.length - lag]
        rest = take.at(np.arange(lag, take.length))
        return replace(rest, images={**rest.images, camera: early})

    what = f"camera {camera} runs {lag} frames behind"
    return _planted("desync-camera", "desynchronised", chosen, what, edit)


def _planted(
    fault: str,
    kind: Kind,
    chosen: Sequence[int],
    what: str,
    edit: Edit | Mapping[int, Edit],
    frames: Sequence[tuple[int, int]] = (),
) -> Planted:
    edits = edit if isinstance(edit, Mapping) else dict.fromkeys(chosen, edit)
    return Planted(fault=fault, kind=kind, episodes=tuple(chosen), frames=tuple(frames), what=what, edits=edits)


def _mirrored(to: Planter, dim: int) -> Edit:
    middle = to.low[dim] + to.high[dim]

    def edit(take: Take) -> Take:
        actions = take.actions.copy()
        actions[:, dim] = middle - actions[:, dim]
        return replace(take, actions=actions)

    return edit


def _gripper_polarity(to: Planter, strong: bool) -> Planted:
    chosen = to.episodes(10 if strong else 3, together=True)
    what = f"action {to.dataset.space.action_names[to.gripper]} is mirrored"
    return _planted("gripper-polarity", "gripper polarity", chosen, what, _mirrored(to, to.gripper))


def _sign_flip(to: Planter, strong: bool) -> Planted:
    chosen = to.episodes(10 if strong else 3, together=True)
    what = f"action {to.dataset.space.action_names[to.axis]} is mirrored"
    return _planted("sign-flip", "sign flip", chosen, what, _mirrored(to, to.axis))


def _change_point(to: Planter, strong: bool) -> Planted:
    chosen = to.episodes(10 if strong else 6, together=True)
    shift = (1.0 if strong else 0.3) * to.std[to.axis]

    def edit(take: Take) -> Take:
        actions = take.actions.copy()
        actions[:, to.axis] += shift
        return replace(take, actions=actions)

    what = (
        f"action {to.dataset.space.action_names[to.axis]} is {shift:.3g} larger ({1.0 if strong else 0.3} deviations)"
    )
    return _planted("change-point", "change point", chosen, what, edit)


def _out_of_range(to: Planter, strong: bool) -> Planted:
    chosen = to.episodes(3 if strong else 1, together=False)
    beyond = (10.0 if strong else 0.75) * (to.high[to.axis] - to.low[to.axis])
    at = {index: to.moment(index, 1) for index in chosen}

    def edit(take: Take, frame: int) -> Take:
        actions = take.actions.copy()
        actions[frame, to.axis] = to.high[to.axis] + beyond
        return replace(take, actions=actions)

    what = f"action {to.dataset.space.action_names[to.axis]} is {to.high[to.axis] + beyond:.3g} in one frame"
    edits = {index: (lambda take, frame=frame: edit(take, frame)) for index, frame in at.items()}
    return _planted("out-of-range", "out of range", chosen, what, edits, [(frame, frame) for frame in at.values()])


def _teleport(to: Planter, strong: bool) -> Planted:
    chosen = to.episodes(3 if strong else 1, together=False)
    dim = int(np.argmax(to.state_range[:3]))
    size = (0.5 if strong else 0.15) * to.state_range[dim]
    at = {index: int(to.generator.integers(3, max(to.length(index) - 3, 4))) for index in chosen}

    def edit(take: Take, frame: int) -> Take:
        state = take.state.copy()
        state[frame:, dim] += size
        return replace(take, state=state)

    what = f"state {to.dataset.space.state_names[dim]} jumps by {size:.3g} and stays there"
    edits = {index: (lambda take, frame=frame: edit(take, frame)) for index, frame in at.items()}
    return _planted("teleport", "teleport", chosen, what, edits, [(frame - 1, frame) for frame in at.values()])


def _dropped_frames(to: Planter, strong: bool) -> Planted:
    chosen = to.episodes(3 if strong else 1, together=False)
    edits, frames = {}, []
    for index in chosen:
        num = max(2, round((0.4 if strong else 0.15) * to.length(index)))
        first = to.moment(index, num)
        kept = np.concatenate([np.arange(first), np.arange(min(first + num, to.length(index) - 1), to.length(index))])
        frames.append((first - 1, first))
        edits[index] = lambda take, kept=kept: take.at(kept)
    what = f"{0.4 if strong else 0.15:.0%} of the frames are missing between these two, in every column"
    return _planted("dropped-frames", "teleport", chosen, what, edits, frames)


def _static(to: Planter, strong: bool) -> Planted:
    chosen = to.episodes(3 if strong else 1, together=False)
    num = round((3.0 if strong else 1.0) * to.dataset.fps)
    edits, frames = {}, []
    at_rest = np.where((to.low <= 0) & (to.high >= 0), 0.0, np.nan)
    for index in chosen:
        first = to.moment(index, 2)

        def edit(take: Take, first: int = first) -> Take:
            longer = take.at(np.concatenate([np.arange(first), np.full(num, first), np.arange(first, take.length)]))
            actions = longer.actions.copy()
            rest = np.where(np.isnan(at_rest), actions[first], at_rest)
            rest[to.gripper] = actions[first, to.gripper]
            actions[first : first + num] = rest
            return replace(longer, actions=actions)

        frames.append((first, first + num))
        edits[index] = edit
    what = f"nothing moves for {num / to.dataset.fps:.2g} s"
    return _planted("static", "static", chosen, what, edits, frames)


def _duplicate(to: Planter, strong: bool) -> Planted:
    chosen = to.episodes(3 if strong else 1, together=False)
    cut = 0 if strong else max(1, round(0.05 * to.dataset.fps))
    noise = 0.0 if strong else 0.01
    generator = np.random.default_rng(to.generator.integers(2**31))

    def edit(take: Take) -> Take:
        shorter = take.at(np.arange(cut, take.length))
        actions = shorter.actions + noise * to.std * generator.normal(size=shorter.actions.shape)
        return replace(shorter, actions=actions.clip(to.dataset.space.low, to.dataset.space.high))

    added = list(range(to.next_index, to.next_index + len(chosen)))
    to.next_index += len(chosen)
    how = "exactly" if strong else f"without the first {cut} frames and with 1 % of noise on the actions"
    return Planted(
        fault="duplicate",
        kind="duplicate",
        episodes=(*chosen, *added),
        frames=(),
        what=f"episodes {added} repeat {chosen} {how}",
        copies=tuple((index, edit) for index in chosen),
    )


FAULTS: Mapping[str, Callable[[Planter, bool], Planted]] = {
    "stuck-camera": _stuck_camera,
    "desync-camera": _desync_camera,
    "gripper-polarity": _gripper_polarity,
    "sign-flip": _sign_flip,
    "change-point": _change_point,
    "out-of-range": _out_of_range,
    "teleport": _teleport,
    "dropped-frames": _dropped_frames,
    "static": _static,
    "duplicate": _duplicate,
}


def plant(source: Path, copy: Path, faults: Sequence[str], *, seed: int = 0) -> list[Planted]:
    """Write the copy, and ``<copy>.planted.json`` beside it.

    Raises:
        InputError: a fault or dose is unknown, episodes run out, or ``copy`` exists.
    """
    dataset = LeRobotDataset.open(source)
    to = Planter(dataset, seed)
    planted = []
    for name in faults:
        fault, _, dose = name.partition(":")
        dose = dose or "strong"
        for word, known in ((fault, FAULTS), (dose, DOSES)):
            if word not in known:
                said = ", ".join(known)
                raise InputError(where="--fault", expected=f"one of {said}", got=repr(word), do=nearest(word, known))
        planted.append(replace(FAULTS[fault](to, dose == "strong"), dose=dose))
    edits = {index: edit for one in planted for index, edit in one.edits.items()}
    copies = [pair for one in planted for pair in one.copies]
    space = _space(dataset, edits)
    with LeRobotWriter(copy, fps=dataset.fps, cameras=dict(dataset.image_hw), space=space) as writer:
        for episode in dataset.episodes:
            _add(writer, dataset, episode, edits.get(episode.index, lambda take: take))
        for index, edit in copies:
            _add(writer, dataset, dataset.episodes[index], edit)
    said = {"source": str(source), "seed": seed, "planted": [one.plain() for one in planted]}
    copy.with_name(copy.name + ".planted.json").write_text(json.dumps(said, indent=1) + "\n")
    return planted


def _space(dataset: LeRobotDataset, edits: Mapping[int, Edit]) -> ActionSpace:
    """The limits that the source declares; where it declares none, none may give the planted actions away."""
    if (dataset.info["features"]["action"].get("info") or {}).get("low"):
        return dataset.space
    low, high = np.array(dataset.space.low), np.array(dataset.space.high)
    for index, edit in edits.items():
        length = dataset.episodes[index].length
        blank = dict.fromkeys(dataset.cameras, np.zeros((length, 1, 1, 3), np.uint8))
        actions = edit(Take(images=blank, state=dataset.state(index), actions=dataset.actions(index))).actions
        low, high = np.minimum(low, actions.min(axis=0)), np.maximum(high, actions.max(axis=0))
    return replace(dataset.space, low=tuple(low.tolist()), high=tuple(high.tolist()))


def _add(writer: LeRobotWriter, dataset: LeRobotDataset, episode: Episode, edit: Edit) -> None:
    images = {camera: dataset.frames(episode, camera, None) for camera in dataset.cameras}
    take = edit(Take(images=images, state=dataset.state(episode), actions=dataset.actions(episode)))
    writer.add_episode(
        images=take.images,
        state=take.state,
        actions=take.actions,
        text=episode.text,
        session=episode.session,
        action_free=episode.action_free,
    )


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("source", type=Path, help="a LeRobot v3 dataset folder")
    reader.add_argument("copy", type=Path, help="folder to create")
    kinds = ", ".join(FAULTS)
    reader.add_argument("--fault", action="append", required=True, help=f"{kinds}; with :mild or :strong (default)")
    reader.add_argument("--seed", type=int, default=0)
    arguments = reader.parse_args()
    try:
        for one in plant(arguments.source, arguments.copy, arguments.fault, seed=arguments.seed):
            print(f"{one.fault} ({one.dose}): {one.what}; episodes {list(one.episodes)}, frames {list(one.frames)}")
    except InputError as error:
        reader.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
