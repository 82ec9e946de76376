"""The kinds of fault that an audit knows, what each does to a policy, and one finding as data and as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "out of range",
    "gripper polarity",
    "sign flip",
    "change point",
    "duplicate",
    "stuck camera",
    "desynchronised",
    "static",
    "teleport",
    "leakage",
]

IMPACT: dict[Kind, tuple[str, str]] = {
    "out of range": (
        "one outlier widens the action normaliser, so all other actions are learned more coarsely",
        "the same, and its inverse model must explain a motion that no picture shows",
    ),
    "gripper polarity": (
        "is taught to open and to close in the same scene: the gripper hesitates or drops",
        "its video stays right and only its action head is taught both signs; action-free video is not touched",
    ),
    "sign flip": (
        "averages two opposite commands for the same scene: the hand hesitates",
        "its video stays right and only its action head is taught both signs; the labels of a few episodes poison all",
    ),
    "change point": (
        "learns from light and background which part of the recording it is in, and moves accordingly",
        "the same; video loss makes the look of that part still easier to read",
    ),
    "duplicate": (
        "counts a demonstration twice; across a split it leaks the answer into the test",
        "the same, and held-out video scores look better than they are",
    ),
    "stuck camera": (
        "is told that what it sees does not matter: it leans on the state instead",
        "learns that the future looks like the present: imagination collapses to a still picture",
    ),
    "desynchronised": (
        "acts on what was seen earlier or later than it believes; a constant shift can be learned, a varying one not",
        "worse: an inverse model pairs each motion with another motion's pictures",
    ),
    "static": (
        "learns to wait; with one image as input it may never leave that state",
        "spends video loss on nothing, and imagined plans stall",
    ),
    "teleport": (
        "sees a transition that no action causes",
        "learns cuts: imagined video jumps, and an inverse model reads impossible motion from it",
    ),
    "leakage": (
        "can do well here without reading; told something else in a known scene it does what that scene is used for",
        "the same: its video model need not read either, and imagines the usual ending",
    ),
}
"""What it does to a policy on a vision-language backbone, and to one on a video backbone."""

SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One kind of fault and every place where it was found."""

    kind: Kind
    episodes: tuple[int, ...]
    """One entry per place, ascending; an episode with two places is named twice."""
    frames: tuple[tuple[int, int], ...]
    """First and last frame of each place, both inclusive; empty when the episodes are concerned wholly."""
    what: str
    camera: str | None = None

    def __str__(self) -> str:
        places = [
            f"{episode}" + (f" (frames {self.frames[i][0]}-{self.frames[i][1]})" if self.frames else "")
            for i, episode in enumerate(self.episodes[:SHOWN])
        ]
        more = f" and {len(self.episodes) - SHOWN} more" if len(self.episodes) > SHOWN else ""
        vla, wam = IMPACT[self.kind]
        head = f"{self.kind}: {self.what}\n    episodes {', '.join(places)}{more}\n"
        return f"{head}    to a VLA: {vla}\n    to a WAM: {wam}"


Place = tuple[int, tuple[int, int]]
"""An episode, and the first and last frame in it."""


def at_places(kind: Kind, places: Iterable[Place], what: str, camera: str | None = None) -> list[Finding]:
    """One finding for all places; none when there are none."""
    ordered = sorted(places)
    if not ordered:
        return []
    episodes, frames = zip(*ordered, strict=True)
    return [Finding(kind=kind, episodes=episodes, frames=frames, what=what, camera=camera)]


def stretches(episodes: Iterable[int]) -> str:
    """Episode numbers in words: ``3, 7-9``."""
    parts: list[list[int]] = []
    for index in sorted(episodes):
        if parts and index == parts[-1][-1] + 1:
            parts[-1].append(index)
        else:
            parts.append([index])
    return ", ".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else f"{part[0]}" for part in parts)


def told_of(left_out: Sequence[int]) -> str:
    """Which episodes were left out."""
    return f"{len(left_out)} faulty episode{'s' * (len(left_out) != 1)} left out ({stretches(left_out)})"
