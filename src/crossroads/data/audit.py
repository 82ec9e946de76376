"""What a dataset will do to a policy, before anything is trained: faults, with episodes and frames, and indicators.

`data/check.py` says whether a dataset can be read; this says whether it should be trained on. Every finding names what
it does to a policy on a vision-language backbone and to one on a video backbone, because the two suffer differently.
`data/indicators.py` adds what linear read-outs can tell.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from crossroads.data.cache import FrameCache
from crossroads.data.check import require_sound
from crossroads.data.indicators import MIN_EPISODES, Indicators, measure, told
from crossroads.data.lerobot import Episode, LeRobotDataset

Kind = Literal[
    "out of range", "sign flip", "session shift", "duplicate", "stuck camera", "static", "teleport", "desynchronised"
]

IMPACT: dict[Kind, tuple[str, str]] = {
    "out of range": (
        "one outlier widens the action normaliser, so all other actions are learned more coarsely",
        "the same, and its inverse model must explain a motion that no picture shows",
    ),
    "sign flip": (
        "averages two opposite commands for the same scene: the hand hesitates or the gripper fails",
        "its video stays right and only its action head is taught both signs; the labels of one session poison all",
    ),
    "session shift": (
        "learns which session it is in from light and background, and moves accordingly",
        "the same; video loss makes the session's look still easier to read",
    ),
    "duplicate": (
        "counts a demonstration twice; across a split it leaks the answer into the test",
        "the same, and held-out video scores look better than they are",
    ),
    "stuck camera": (
        "is told that what it sees does not matter: it leans on the state instead",
        "learns that the future looks like the present: imagination collapses to a still picture",
    ),
    "static": (
        "learns to wait; with one image as input it may never leave that state",
        "spends video loss on nothing, and imagined plans stall",
    ),
    "teleport": (
        "sees a transition that no action causes",
        "learns cuts: imagined video jumps, and an inverse model reads impossible motion from it",
    ),
    "desynchronised": (
        "acts on what was seen earlier or later than it believes; a constant shift can be learned, a varying one not",
        "worse: an inverse model pairs each motion with another motion's pictures",
    ),
}

SIZE = 24
"""Pixels of a side at which pictures are compared."""
FAR = 8.0
"""How many usual ranges away is out of range or a teleport."""
STILL = 0.6
"""Mean absolute grey difference (of 255) below which two pictures are the same one, video coding noise included."""
HOLD_S = 1.5
"""Standing still for longer than this is worth saying."""
MAX_LAG = 5


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One kind of fault in one place."""

    kind: Kind
    episodes: tuple[int, ...]
    frames: tuple[tuple[int, int], ...]
    """First and last frame in each of the episodes; empty when it concerns them wholly."""
    what: str

    def __str__(self) -> str:
        places = [
            f"{episode}" + (f" (frames {self.frames[i][0]}-{self.frames[i][1]})" if self.frames else "")
            for i, episode in enumerate(self.episodes[:6])
        ]
        more = f" and {len(self.episodes) - 6} more" if len(self.episodes) > 6 else ""
        vla, wam = IMPACT[self.kind]
        head = f"{self.kind}: {self.what}\n    episodes {', '.join(places)}{more}\n"
        return f"{head}    to a VLA: {vla}\n    to a WAM: {wam}"


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Everything found."""

    path: Path
    num_episodes: int
    num_frames: int
    findings: tuple[Finding, ...]
    indicators: Indicators

    def __str__(self) -> str:
        head = f"{self.path}: {self.num_episodes} episodes, {self.num_frames} frames, {len(self.findings)} findings"
        return "\n".join([head, *(f"- {finding}" for finding in self.findings), *told(self.indicators)])


def audit(path: str | Path) -> Audit:
    """Look at every frame (at 24 px) and every number of a sound dataset.

    Raises:
        InputError: the dataset is not sound (`data/check.py` lists why).
    """
    require_sound(path)
    dataset = LeRobotDataset.open(path)
    cache = FrameCache.open(dataset, cameras=dataset.cameras, image_hw=(SIZE, SIZE))
    labelled = [episode for episode in dataset.episodes if not episode.action_free]
    found: list[Finding] = []
    found += _out_of_range(dataset, labelled)
    found += _sign_flips(dataset, labelled)
    found += _session_shifts(dataset, labelled)
    found += _duplicates(dataset, labelled)
    for camera in dataset.cameras:
        found += _pictures(dataset, cache, camera)
        found += _desynchronised(dataset, cache, camera, labelled)
    found += _teleports(dataset, labelled)
    return Audit(
        path=Path(path),
        num_episodes=len(dataset.episodes),
        num_frames=dataset.num_frames,
        findings=tuple(found),
        indicators=measure(dataset, cache, labelled),
    )


def _rows(dataset: LeRobotDataset, episodes: Sequence[Episode], values: np.ndarray) -> np.ndarray:
    return np.concatenate([values[episode.rows] for episode in episodes]) if episodes else values[:0]


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """First and last index of each stretch of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return [(int(first), int(last) - 1) for first, last in zip(edges[::2], edges[1::2], strict=True)]


def _out_of_range(dataset: LeRobotDataset, labelled: Sequence[Episode]) -> Iterator[Finding]:
    actions = dataset.tables.actions
    pooled = _rows(dataset, labelled, actions)
    if not len(pooled):
        return
    low, middle, high = np.quantile(pooled, [0.02, 0.5, 0.98], axis=0)
    reach = np.maximum(high - low, 1e-6)
    for dim, name in enumerate(dataset.space.action_names):
        where = [(e, r) for e in labelled for r in _runs(np.abs(actions[e.rows, dim] - middle[dim]) > FAR * reach[dim])]
        if where:
            worst = max(float(np.abs(actions[e.rows, dim] - middle[dim]).max()) for e, _ in where)
            yield Finding(
                kind="out of range",
                episodes=tuple(e.index for e, _ in where),
                frames=tuple(r for _, r in where),
                what=f"action {name} goes {worst:.3g} from its median; the usual range is {reach[dim]:.3g} wide",
            )


def _sign_flips(dataset: LeRobotDataset, labelled: Sequence[Episode]) -> Iterator[Finding]:
    """Sessions whose action moves a state the other way than it does elsewhere (gripper polarity is the usual one)."""
    effects = {e.index: _effects(dataset, e) for e in labelled if e.length > 3}
    sessions: dict[int, list[int]] = defaultdict(list)
    for episode in labelled:
        if episode.index in effects:
            sessions[episode.session].append(episode.index)
    if len(sessions) < 2:
        return
    by_session = {s: _correlation([effects[index] for index in members]) for s, members in sessions.items()}
    for dim, name in enumerate(dataset.space.action_names):
        strength = np.array([np.abs(found[dim]) for found in by_session.values()])
        state = int(np.nanargmax(np.nan_to_num(np.median(strength, axis=0))))
        signed = {session: float(found[dim, state]) for session, found in by_session.items()}
        clear = {session: value for session, value in signed.items() if abs(value) > 0.3}
        positive = sum(len(sessions[s]) for s, value in clear.items() if value > 0)
        negative = sum(len(sessions[s]) for s, value in clear.items() if value < 0)
        if not positive or not negative:
            continue
        minority = -1 if positive >= negative else 1
        odd = [session for session, value in clear.items() if np.sign(value) == minority]
        yield Finding(
            kind="sign flip",
            episodes=tuple(index for session in odd for index in sessions[session]),
            frames=(),
            what=f"in session {', '.join(map(str, odd))} action {name} moves state {dataset.space.state_names[state]} "
            "the other way than in the other sessions",
        )


def _effects(dataset: LeRobotDataset, episode: Episode) -> tuple[np.ndarray, np.ndarray]:
    """Actions, and how the state changed over the step after each."""
    state = dataset.state(episode)
    return dataset.actions(episode)[:-1], np.diff(state, axis=0)


def _correlation(effects: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Correlation of every action with every state's change, ``(a, s)``; 0 where one of them does not vary."""
    actions = np.concatenate([a for a, _ in effects])
    change = np.concatenate([c for _, c in effects])
    actions, change = actions - actions.mean(axis=0), change - change.mean(axis=0)
    spread = np.sqrt((actions**2).sum(axis=0))[:, None] * np.sqrt((change**2).sum(axis=0))
    return np.divide(actions.T @ change, spread, out=np.zeros_like(spread), where=spread > 1e-12)


def _session_shifts(dataset: LeRobotDataset, labelled: Sequence[Episode]) -> Iterator[Finding]:
    """Sessions whose mean action differs from the others' under the same instructions (Welch's t over episodes)."""
    texts = Counter(episode.text for episode in labelled)
    sessions: dict[int, list[Episode]] = defaultdict(list)
    for episode in labelled:
        sessions[episode.session].append(episode)
    if len(sessions) < 2:
        return
    means = {e.index: dataset.actions(e).mean(axis=0) for e in labelled}
    for text in texts:  # what an instruction asks for is no shift
        same = [e.index for e in labelled if e.text == text]
        centre = np.mean([means[index] for index in same], axis=0)
        for index in same:
            means[index] = means[index] - centre
    scale = _rows(dataset, labelled, dataset.tables.actions).std(axis=0) + 1e-9
    tests = len(sessions) * len(scale)
    for session, members in sorted(sessions.items()):
        rest = [e.index for e in labelled if e.session != session]
        if len(members) < MIN_EPISODES or len(rest) < MIN_EPISODES:
            continue
        own, other = (np.array([means[i] for i in part]) for part in ([e.index for e in members], rest))
        shift = own.mean(axis=0) - other.mean(axis=0)
        noise = np.sqrt(own.var(axis=0, ddof=1) / len(own) + other.var(axis=0, ddof=1) / len(other)) + 1e-12
        odd = np.flatnonzero((np.abs(shift) / noise > 4 + math.log10(tests)) & (np.abs(shift) > 0.25 * scale))
        for dim in odd:
            yield Finding(
                kind="session shift",
                episodes=tuple(e.index for e in members),
                frames=(),
                what=f"in session {session} action {dataset.space.action_names[dim]} is {shift[dim] / scale[dim]:+.2f} "
                f"standard deviations from the other sessions under the same instructions "
                f"({abs(shift[dim]) / noise[dim]:.0f} standard errors)",
            )


def _duplicates(dataset: LeRobotDataset, labelled: Sequence[Episode]) -> Iterator[Finding]:
    same: dict[bytes, list[int]] = defaultdict(list)
    for episode in labelled:
        numbers = np.concatenate([dataset.actions(episode), dataset.state(episode)], axis=1)
        same[np.round(numbers, 5).tobytes()].append(episode.index)
    for members in same.values():
        if len(members) > 1:
            yield Finding(
                kind="duplicate",
                episodes=tuple(members),
                frames=(),
                what="the same actions and states, number by number",
            )


def _motion(dataset: LeRobotDataset, cache: FrameCache, camera: str, episode: Episode) -> np.ndarray:
    """Mean absolute difference of each picture to the one before, grey values of 255; ``length - 1`` of them."""
    pictures = cache.frames(episode.index, camera, np.arange(episode.length)).astype(np.float32)
    return np.abs(np.diff(pictures, axis=0)).mean(axis=(1, 2, 3))


def _speed(dataset: LeRobotDataset, episode: Episode) -> np.ndarray:
    """How far the state moves per frame, each number in units of its usual step; ``length - 1`` of them."""
    steps = np.abs(np.diff(dataset.state(episode), axis=0))
    usual = np.abs(np.diff(dataset.tables.state, axis=0)).mean(axis=0) + 1e-9
    return (steps / usual).mean(axis=1)


def _pictures(dataset: LeRobotDataset, cache: FrameCache, camera: str) -> Iterator[Finding]:
    """Pictures that stay the same: with the robot moving the camera is stuck, with the robot still nothing happens."""
    long = max(2, round(HOLD_S * dataset.fps))
    stuck: list[tuple[int, tuple[int, int]]] = []
    static: list[tuple[int, tuple[int, int]]] = []
    for episode in dataset.episodes:
        still = _motion(dataset, cache, camera, episode) < STILL
        for first, last in _runs(still):
            if last - first + 1 < long:
                continue
            moving = not episode.action_free and _speed(dataset, episode)[first : last + 1].mean() > 0.3
            (stuck if moving else static).append((episode.index, (first, last + 1)))
    said: tuple[tuple[Kind, list, str], ...] = (
        ("stuck camera", stuck, f"camera {camera} shows one picture for {HOLD_S} s or more while the robot moves"),
        ("static", static, f"nothing moves before camera {camera} for {HOLD_S} s or more"),
    )
    for kind, places, what in said:
        if places:
            episodes, frames = zip(*places, strict=True)
            yield Finding(kind=kind, episodes=episodes, frames=frames, what=what)


def _teleports(dataset: LeRobotDataset, labelled: Sequence[Episode]) -> Iterator[Finding]:
    steps = [np.abs(np.diff(dataset.state(e), axis=0)) for e in labelled if e.length > 1]
    if not steps:
        return
    usual = np.quantile(np.concatenate(steps), 0.99, axis=0) + 1e-6
    places = []
    for episode in labelled:
        jumps = np.any(np.abs(np.diff(dataset.state(episode), axis=0)) > FAR * usual, axis=1)
        places += [(episode.index, (first, last + 1)) for first, last in _runs(jumps)]
    if places:
        episodes, frames = zip(*places, strict=True)
        what = f"the state jumps by more than {FAR:.0f} times its fastest usual step"
        yield Finding(kind="teleport", episodes=episodes, frames=frames, what=what)


def _desynchronised(
    dataset: LeRobotDataset, cache: FrameCache, camera: str, labelled: Sequence[Episode]
) -> Iterator[Finding]:
    """Sessions in which the pictures move at another time than the state: the lag of the best correlation."""
    sessions: dict[int, list[Episode]] = defaultdict(list)
    for episode in labelled:
        if episode.length > 4 * MAX_LAG:
            sessions[episode.session].append(episode)
    lags: dict[int, int] = {}
    for session, members in sessions.items():
        scores = np.zeros(2 * MAX_LAG + 1)
        for episode in members:
            seen, felt = _motion(dataset, cache, camera, episode), _speed(dataset, episode)
            for lag in range(-MAX_LAG, MAX_LAG + 1):
                late, early = seen[max(lag, 0) :], felt[max(-lag, 0) :]
                num = min(len(late), len(early))
                scores[lag + MAX_LAG] += _correlate(late[:num], early[:num])
        scores /= max(len(members), 1)
        if len(members) >= MIN_EPISODES and scores.max() > 0.3 and scores.max() > scores[MAX_LAG] + 0.05:
            lags[session] = int(scores.argmax()) - MAX_LAG
        else:
            lags[session] = 0
    for session, lag in sorted(lags.items()):
        if abs(lag) >= 2:
            side = "behind" if lag > 0 else "ahead of"
            yield Finding(
                kind="desynchronised",
                episodes=tuple(e.index for e in sessions[session]),
                frames=(),
                what=f"in session {session} camera {camera} runs {abs(lag)} frames {side} the state",
            )


def _correlate(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float((a @ b) / max(math.sqrt(float(a @ a) * float(b @ b)), 1e-12))
