"""Faults that show in the pictures: cameras that are stuck, stretches without motion, cuts.

The state is the witness: a picture that stays the same is a fault only while the robot moves as it does elsewhere when
pictures change. Pictures are compared at the small size of the audit's cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from crossroads.data.cache import FrameCache
from crossroads.data.faults_in_numbers import runs, usual_range
from crossroads.data.findings import Finding, Place, at_places
from crossroads.data.lerobot import Episode, LeRobotDataset

SAME = 4.0
"""Largest difference of any pixel (of 255) between two small pictures that are one, video coding noise included."""
SHORTEST_S = 0.1
"""A camera must show one picture for so long, and for 4 frames, to be called stuck."""
HOLD_S = 1.5
"""Standing still for longer than this, or than half of a usual episode, is worth saying."""
STILL = 0.02
"""Share of a state's usual range inside which it stands still."""
MOVED = 0.05
"""Share of a state's usual range beyond which it has moved."""
SURE = 0.95
"""Share of stretches elsewhere, with at most as much motion, in which the picture must change."""
CUT = 4.0
"""How many times the largest usual change from picture to picture, and the changes beside it, is a cut."""
_COMPARED = 100


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What the searches share."""

    dataset: LeRobotDataset
    cache: FrameCache
    labelled: tuple[Episode, ...]
    state: Mapping[int, np.ndarray]
    """Per labelled episode ``(n, s)``, each number in units of its usual range; numbers that never move left out."""

    @classmethod
    def of(cls, dataset: LeRobotDataset, cache: FrameCache, labelled: Sequence[Episode]) -> Scene:
        values = {e.index: dataset.state(e).astype(np.float64) for e in labelled}
        if labelled:
            low, high = usual_range(list(values.values()))
            moving = high - low > 1e-6
            values = {index: part[:, moving] / (high - low)[moving] for index, part in values.items()}
        return cls(dataset=dataset, cache=cache, labelled=tuple(labelled), state=values)

    def pictures(self, index: int, camera: str) -> np.ndarray:
        """All small pictures of an episode, ``(n, pixels)`` int16."""
        frames = self.cache.frames(index, camera, np.arange(self.dataset.episodes[index].length))
        return frames.reshape(len(frames), -1).astype(np.int16)


def frozen(pictures: np.ndarray, shortest: int) -> list[tuple[int, int]]:
    """First and last frame of the stretches of at least ``shortest`` pictures that are all one.

    Each picture is compared with the stretch's first one, so that slow motion does not add up to standing still.
    """
    num, first = len(pictures), 0
    found: list[tuple[int, int]] = []
    while first < num:
        last = first
        while last + 1 < num and np.abs(pictures[last + 1] - pictures[first]).max() <= SAME:
            last += 1
        found.append((first, last))
        first += max(1, (last - first) // 8)
    taken: list[tuple[int, int]] = []
    for first, last in sorted(found, key=lambda run: (run[0] - run[1], run[0])):
        if last - first + 1 >= shortest and all(last < other[0] or other[1] < first for other in taken):
            taken.append((first, last))
    return sorted(taken)


Stretches = Mapping[int, Sequence[tuple[int, int]]]
"""First and last frames, per episode."""


def odd_pictures(scene: Scene) -> Iterator[Finding]:
    """Cameras that are stuck while the robot moves, stretches in which nothing moves, and cuts.

    An action-free episode has no state to say that the robot moved, so no camera is called stuck there.
    """
    dataset = scene.dataset
    shortest = max(4, round(SHORTEST_S * dataset.fps))
    waiting: dict[str, Stretches] = {}
    for camera in dataset.cameras:
        found = {e.index: frozen(scene.pictures(e.index, camera), shortest) for e in dataset.episodes}
        stuck = _stuck(scene, camera, found)
        yield from at_places("stuck camera", stuck, f"camera {camera} shows one picture while the robot moves", camera)
        yield from _cuts(scene, camera, stuck)
        waiting[camera] = {index: [run for run in every if (index, run) not in stuck] for index, every in found.items()}
    yield from _static(scene, waiting, shortest)


def _static(scene: Scene, waiting: Mapping[str, Stretches], shortest: int) -> Iterator[Finding]:
    """Where all cameras show one picture and the state, where there is one, stands still as well."""
    dataset = scene.dataset
    usual = float(np.median([e.length for e in dataset.episodes]))
    hold = max(shortest, round(min(HOLD_S * dataset.fps, usual / 2)))
    places: list[Place] = []
    for episode in dataset.episodes:
        still = np.ones(episode.length, bool)
        for every in waiting.values():
            here = np.zeros(episode.length, bool)
            for first, last in every[episode.index]:
                here[first : last + 1] = True
            still &= here
        for first, last in runs(still):
            if not episode.action_free:
                first, last = _at_rest(scene.state[episode.index], first, last)
            if last - first + 1 >= hold:
                places.append((episode.index, (first, last)))
    yield from at_places("static", places, f"nothing moves for {hold / dataset.fps:.2g} s or more")


def _at_rest(state: np.ndarray, first: int, last: int) -> tuple[int, int]:
    """The part of the stretch around its middle in which the state stays where it was in the middle."""
    middle = (last - first) // 2
    near = np.abs(state[first : last + 1] - state[first + middle]).max(axis=1, initial=0.0) <= STILL
    return next((first + a, first + b) for a, b in runs(near) if a <= middle <= b)


def _moved(scene: Scene, index: int, first: int, last: int) -> np.ndarray:
    """How far each state gets from where it was at ``first``, in usual ranges."""
    state = scene.state[index]
    return np.abs(state[first : last + 1] - state[first]).max(axis=0)


def _stuck(scene: Scene, camera: str, found: Stretches) -> list[Place]:
    """The frozen stretches during which the robot moves so much that this camera would show it."""
    suspects = [
        (index, run)
        for index, every in found.items()
        if index in scene.state
        for run in every
        if _moved(scene, index, *run).max(initial=0.0) >= MOVED
    ]
    doubtful = {index for index, _ in suspects}
    generator = np.random.default_rng(0)
    sound = [index for index in scene.state if index not in doubtful]
    places: list[Place] = []
    for index, (first, last) in suspects:
        moved = _moved(scene, index, first, last)
        num = last - first + 1
        whole = num >= 0.9 * scene.dataset.episodes[index].length and moved.max() >= 0.5
        others = [other for other in scene.state if other != index]
        sure = _share_changed(scene, camera, sound, num, moved, generator)
        likely = _share_changed(scene, camera, others, num, moved, generator)
        if whole or (sure is not None and likely is not None and sure >= SURE and likely >= 0.6):
            places.append((index, (first, last)))
    return places


def _share_changed(
    scene: Scene, camera: str, indices: Sequence[int], num: int, moved: np.ndarray, generator: np.random.Generator
) -> float | None:
    """Share of stretches of ``num`` frames or fewer whose picture changes, where the same states move at most as far.

    A camera need not see what a gripper does, so the same states. None when there are fewer than 20 such stretches.
    """
    for length in (num, max(num // 2, 2), max(num // 4, 2)):
        alike = _alike(scene, indices, length, moved)
        if len(alike) >= 20:
            break
    else:
        return None
    changed = []
    for place in generator.permutation(len(alike))[:_COMPARED].tolist():
        index, first = alike[place]
        two = scene.cache.frames(index, camera, [first, first + length - 1]).astype(np.int16)
        changed.append(bool(np.abs(two[1] - two[0]).max() > SAME))
    return float(np.mean(changed))


def _alike(scene: Scene, indices: Sequence[int], num: int, moved: np.ndarray) -> list[tuple[int, int]]:
    """Episode and first frame of the stretches over which no state gets further, and one at least half as far."""
    found: list[tuple[int, int]] = []
    for index in indices:
        state = scene.state[index]
        if len(state) <= num:
            continue
        far = np.abs(state[num - 1 :] - state[: len(state) - num + 1])
        alike = np.all(far <= moved + STILL, axis=1) & (far.max(axis=1) >= 0.5 * moved.max())
        found += [(index, int(first)) for first in np.flatnonzero(alike)]
    return found


def _cuts(scene: Scene, camera: str, stuck: Sequence[Place]) -> Iterator[Finding]:
    """Single changes of picture much larger than the usual ones and than those beside them.

    A camera that was stuck jumps afterwards: that is told once.
    """
    change = {
        e.index: np.abs(np.diff(scene.pictures(e.index, camera), axis=0)).mean(axis=1)
        for e in scene.dataset.episodes
        if e.length > 3
    }
    if not change:
        return
    usual = max(float(np.quantile(np.concatenate(list(change.values())), 0.99)), 1.0)
    places: list[Place] = []
    for index, step in change.items():
        padded = np.concatenate([step[1:2], step, step[-2:-1]])
        beside = np.maximum(padded[:-2], padded[2:])
        odd = (step > CUT * beside) & (step > 1.5 * usual)
        odd[[0, -1]] = False  # Beside these there is one step only, and a simulator may settle in its first.
        odd |= step > CUT * usual
        for other, (first, last) in stuck:
            if other == index:
                odd[max(first - 1, 0) : last + 1] = False
        places += [(index, (first, last + 1)) for first, last in runs(odd)]
    yield from at_places("teleport", places, f"the picture of camera {camera} jumps from one frame to the next", camera)
