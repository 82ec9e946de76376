"""Cameras whose pictures run behind or ahead of the state: how many frames, in which episodes.

Two measures of an episode's lag; which of them is the steadier one over the episodes is found for each camera:
how much the picture changes against how fast the state moves (needs no learning, and sees a lag that all episodes
share), and the state that a linear read-out finds in the picture against the true one (finer on smooth motion, but
relative: a lag that all episodes share is learned along).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from crossroads.data.faults_in_numbers import runs
from crossroads.data.faults_in_pictures import Scene
from crossroads.data.findings import Finding, stretches
from crossroads.data.readout import ridge

LONGEST_S = 0.5
"""Lags are looked for up to this, and up to a third of an episode."""
LEAST_S = 0.075
"""Lags of episodes below this, or below 2 frames, are not told from chance."""
STEADY_S = 0.05
"""How far most episodes' lags may be from their median before nothing is said about a camera."""
FIT_ROWS = 1000


@dataclass(frozen=True, kw_only=True)
class Lag:
    """Of one episode's pictures behind its state, in frames, and how much better they agree at that lag (0 to 1)."""

    frames: int
    gain: float
    rest: float
    """What they disagree by at that lag: large where a read-out fails, and its lag means nothing."""


def desynchronised(scene: Scene, known: Iterable[Finding] = ()) -> Iterator[Finding | str]:
    """Findings, and a line of text for every camera about which nothing can be said.

    Nothing is said about episodes of a camera that are ``known`` to be odd in another way: a stuck one, for example.
    """
    dataset = scene.dataset
    for camera in dataset.cameras:
        measured = {"change": _by_change(scene, camera), "read-out": _by_readout(scene, camera)}
        best = min(measured, key=lambda name: _spread(measured[name]) + _spread(measured[name], 0.8))
        odd = {index for it in known if it.camera == camera for index in it.episodes}
        lags = {index: lag for index, lag in measured[best].items() if index not in odd}
        spread = _spread(lags)
        if spread > max(1.0, STEADY_S * dataset.fps):
            yield f"camera {camera}: timing against the state not judged (too few episodes, or too little motion)"
            continue
        usual = round(float(np.median([lag.frames for lag in lags.values()])))
        least = max(2, round(LEAST_S * dataset.fps), round(2 * spread + 1))
        found = _sides(lags, usual, least)
        late = {index for members in found.values() for index in members}
        if best == "read-out" and late:  # They had a part in the fit: again without.
            lags = {index: lag for index, lag in _by_readout(scene, camera, late).items() if index not in odd}
            found = _sides(lags, usual, least)
        for side, members in found.items():
            if not members:
                continue
            typical = round(float(np.median([lags[index].frames - usual for index in members])))
            yield _told(scene, camera, members, typical, side, "the other episodes' timing")
        shared = _shared(measured["change"])
        if shared is not None and abs(shared) >= 2:
            members = sorted(measured["change"])
            yield _told(scene, camera, members, shared, int(np.sign(shared)), "the state, in the whole recording")


def _sides(lags: dict[int, Lag], usual: int, least: int) -> dict[int, list[int]]:
    """The episodes that run ahead (-1) and behind (1) by ``least`` frames more than is usual."""
    return {
        side: _odd({index: replace(lag, frames=side * (lag.frames - usual)) for index, lag in lags.items()}, least)
        for side in (-1, 1)
    }


def _odd(lags: dict[int, Lag], least: int) -> list[int]:
    """Episodes that are late; the fewer neighbours share a lag, the larger and clearer it must be."""
    indices = sorted(lags)
    usual = float(np.median([lag.rest for lag in lags.values()])) if lags else 0.0
    odd: set[int] = set()
    for together, frames, gain in ((1, least, 0.9), (2, least, 0.5), (3, max(2, least / 2), 0.2)):
        late = [lags[i].frames >= frames and lags[i].gain > gain for i in indices]
        for first, last in runs(np.array(late)):
            members = indices[first : last + 1]
            if len(members) >= together and (together > 1 or lags[members[0]].rest < 2 * usual):
                odd.update(members)
    return sorted(odd)


def _told(scene: Scene, camera: str, members: list[int], frames: int, side: int, what: str) -> Finding:
    direction = "behind" if side > 0 else "ahead of"
    return Finding(
        kind="desynchronised",
        episodes=tuple(members),
        frames=(),
        what=f"in episodes {stretches(members)} camera {camera} runs about {abs(frames)} frames "
        f"({abs(frames) / scene.dataset.fps:.2f} s) {direction} {what}",
        camera=camera,
    )


def _spread(lags: dict[int, Lag], share: float = 0.6) -> float:
    """How far that share of the lags is from their median at most; infinite below 8 episodes."""
    if len(lags) < 8:
        return float("inf")
    values = np.array([lag.frames for lag in lags.values()], float)
    return float(np.quantile(np.abs(values - np.median(values)), share))


def _shared(lags: dict[int, Lag]) -> int | None:
    """The lag of nearly all episodes by the change of pictures; None where they do not agree."""
    if _spread(lags) > 1:
        return None
    return round(float(np.median([lag.frames for lag in lags.values()])))


def _longest(scene: Scene, length: int) -> int:
    return max(1, min(round(LONGEST_S * scene.dataset.fps), length // 3))


def _by_change(scene: Scene, camera: str) -> dict[int, Lag]:
    """The lag at which changes of picture and of state, both as logarithms, correlate best."""
    steps = {index: np.abs(np.diff(state, axis=0)) for index, state in scene.state.items()}
    pooled = np.concatenate(list(steps.values())) if steps else np.zeros((0, 0))
    if not pooled.size:
        return {}
    unit = pooled.mean(axis=0) + 1e-12
    lags: dict[int, Lag] = {}
    for index, step in steps.items():
        if len(step) < 8:
            continue
        seen = np.abs(np.diff(scene.pictures(index, camera), axis=0)).mean(axis=1)
        felt = (step / unit).mean(axis=1)
        seen, felt = (np.log(part + 0.2 * part.mean() + 1e-6) for part in (seen, felt))
        if seen.std() < 1e-3 or felt.std() < 1e-3:
            continue
        most = max(_longest(scene, len(step)), 3)
        scores = np.array([_correlation(*_overlap(seen, felt, lag)) for lag in range(-most, most + 1)])
        at = int(scores.argmax())
        lags[index] = Lag(frames=at - most, gain=_gain(1 - scores[at], 1 - scores[most]), rest=1 - scores[at])
    return lags


def _by_readout(scene: Scene, camera: str, left_out: Collection[int] = ()) -> dict[int, Lag]:
    """The lag at which the state read from the picture, by a line fitted to the other half, is nearest to the true.

    Nothing is fitted to episodes that are ``left_out``.
    """
    indices = [index for index in scene.state if len(scene.state[index]) >= 8]
    if len(indices) < 8 or not scene.state[indices[0]].shape[1]:
        return {}
    order = np.random.default_rng(0).permutation(indices).tolist()
    looks = {index: _half_size(scene, index, camera) for index in indices}
    read: dict[int, np.ndarray] = {}
    for fit, held in ((order[::2], order[1::2]), (order[1::2], order[::2])):
        fit = [index for index in fit if index not in left_out] or fit
        per = max(4, FIT_ROWS // len(fit))
        rows = {i: np.unique(np.linspace(0, len(looks[i]) - 1, per).astype(int)) for i in fit}
        x = np.concatenate([looks[i][rows[i]] for i in fit])
        y = np.concatenate([scene.state[i][rows[i]] for i in fit])
        told = ridge(x, y, np.concatenate([looks[i] for i in held]))
        ends = np.cumsum([len(looks[i]) for i in held])
        read |= dict(zip(held, np.split(told, ends[:-1]), strict=True))
    errors = np.concatenate([_about_mean(read[i] - scene.state[i]) for i in indices])
    truth = np.concatenate([_about_mean(scene.state[i]) for i in indices])
    told_well = (errors**2).sum(axis=0) < 0.5 * (truth**2).sum(axis=0)
    if not told_well.any():
        return {}
    return {i: _nearest(scene, read[i][:, told_well], scene.state[i][:, told_well]) for i in indices}


def _nearest(scene: Scene, read: np.ndarray, state: np.ndarray) -> Lag:
    most = _longest(scene, len(state))
    errors = []
    for lag in range(-most, most + 1):
        late, early = _overlap(read, state, lag)
        errors.append(float((_about_mean(late - early) ** 2).mean()))
    at = int(np.argmin(errors))
    return Lag(frames=at - most, gain=_gain(errors[at], errors[most]), rest=errors[at])


def _gain(best: float, plain: float) -> float:
    """Share of the disagreement at no lag that the best lag removes."""
    return float(1 - best / max(plain, 1e-12))


def _half_size(scene: Scene, index: int, camera: str) -> np.ndarray:
    """Pictures of half the side, flat, 0 to 1: ``(n, pixels)``."""
    frames = scene.cache.frames(index, camera, np.arange(len(scene.state[index]))).astype(np.float64) / 255
    num, height, width, colours = frames.shape
    return frames.reshape(num, height // 2, 2, width // 2, 2, colours).mean(axis=(2, 4)).reshape(num, -1)


def _overlap(late: np.ndarray, early: np.ndarray, lag: int) -> tuple[np.ndarray, np.ndarray]:
    """``late[t]`` beside ``early[t - lag]`` where both exist."""
    late, early = late[max(lag, 0) :], early[max(-lag, 0) :]
    num = min(len(late), len(early))
    return late[:num], early[:num]


def _about_mean(values: np.ndarray) -> np.ndarray:
    return values - values.mean(axis=0)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = _about_mean(a), _about_mean(b)
    return float((a @ b) / max(float(np.sqrt((a @ a) * (b @ b))), 1e-12))
