"""The offline swap probe: the same observations, other words, the same noise. How much does the planned motion change?

Runs on any dataset, without a robot or simulator (evidence page, section 6, P3). Words that are ignored give a shift of
zero; the yardstick is how far apart the chunks of *different* tasks are. Reported for another valid instruction, a
paraphrase (should stay near zero), an empty one and nonsense (near zero would mean that the words are not read).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from crossroads.errors import InputError, nearest
from crossroads.evaluate.grounding import Rate, rate

CORRECT = "correct"
OTHER = "other"
INSTRUCTIONS = (CORRECT, OTHER, "paraphrase", "empty", "nonsense")


@dataclass(frozen=True, kw_only=True)
class Shift:
    """How far the chunk moves when the words change from the correct ones to these."""

    instruction: str
    relative: float
    """Mean shift / mean distance between chunks of different tasks."""
    over_noise: float | None
    """Mean shift / mean distance between two draws under the same words; None without sampling noise."""


@dataclass(frozen=True, kw_only=True)
class SwapProbe:
    """What the probe found on one set of states."""

    shifts: tuple[Shift, ...]
    turned: Rate | None
    """States whose motion turns towards the newly named target; None where targets are unknown. No turn is a failure,
    so a policy that ignores its words scores 0, and one that changes at random about one half."""
    between_task: float
    """The yardstick, in standard deviations of the actions."""
    num_states: int


@dataclass(frozen=True, kw_only=True)
class Targets:
    """Where the hand is and where the two named things are, in the space of the motion."""

    hand: Float[np.ndarray, "states d"]
    new: Float[np.ndarray, "states d"]
    motion: tuple[int, ...]
    """Which action dimensions move the hand, in the order of ``d``; actions are displacements per step."""


def swap_probe(
    chunks: Mapping[str, Float[np.ndarray, "states draws n a"]],
    *,
    tasks: Sequence[str],
    scale: Float[np.ndarray, " a"],
    targets: Targets | None,
) -> SwapProbe:
    """Compare chunks predicted under different words; draw d of every instruction must use the same noise.

    ``scale`` is the standard deviation of each action dimension over the data: distances are root mean square over
    steps and dimensions in that unit. ``tasks`` says which task each state belongs to (for the between-task yardstick).
    """
    _check(chunks, tasks, scale)
    unit = {name: chunk / scale for name, chunk in chunks.items()}
    correct = unit[CORRECT]
    between = _between_tasks(correct, tasks)
    noise = float(_distance(correct[:, :-1], correct[:, 1:]).mean()) if correct.shape[1] > 1 else 0.0
    shifts = []
    for name in INSTRUCTIONS:
        if name != CORRECT and name in unit:
            size = float(_distance(unit[name], correct).mean())
            over_noise = size / noise if noise > 1e-9 else None
            shifts.append(Shift(instruction=name, relative=size / between, over_noise=over_noise))
    turned = None
    if targets is not None and OTHER in chunks:
        turned = rate([bool(x) for x in _turns(chunks[CORRECT], chunks[OTHER], targets)])
    return SwapProbe(shifts=tuple(shifts), turned=turned, between_task=between, num_states=len(correct))


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.sqrt(((a - b) ** 2).mean(axis=(-2, -1)))


def _between_tasks(correct: np.ndarray, tasks: Sequence[str]) -> float:
    """Mean distance between the mean chunks of pairs of states from different tasks (at most 20,000 pairs, evenly)."""
    names = np.array(tasks)
    first, second = np.nonzero(np.triu(names[:, None] != names[None, :]))
    if first.size == 0:
        raise InputError(
            where="swap_probe",
            expected="states of at least two different tasks",
            got=f"only {names[0]!r}",
            do="Probe states of several tasks; with one task there is no other valid instruction to compare with.",
        )
    keep = np.linspace(0, first.size - 1, min(first.size, 20_000)).astype(int)
    distance = float(_distance(correct[first[keep], 0], correct[second[keep], 0]).mean())
    return max(distance, 1e-12)


def _turns(correct: np.ndarray, other: np.ndarray, targets: Targets) -> np.ndarray:
    """True where the mean motion under the new words points closer to the new target (larger cosine) than before."""
    way = targets.new - targets.hand
    motions = [chunk.mean(axis=1)[..., list(targets.motion)].sum(axis=1) for chunk in (correct, other)]
    cosines = [
        (motion * way).sum(axis=-1) / np.maximum(np.linalg.norm(motion, axis=-1) * np.linalg.norm(way, axis=-1), 1e-12)
        for motion in motions
    ]
    return cosines[1] > cosines[0] + 1e-9


def _check(chunks: Mapping[str, np.ndarray], tasks: Sequence[str], scale: np.ndarray) -> None:
    for name in chunks:
        if name not in INSTRUCTIONS:
            raise InputError(
                where="swap_probe", expected=f"one of {INSTRUCTIONS}", got=name, do=nearest(name, INSTRUCTIONS)
            )
    shapes = {chunk.shape for chunk in chunks.values()}
    if CORRECT not in chunks or len(shapes) != 1 or next(iter(shapes))[0] != len(tasks) or not tasks:
        raise InputError(
            where="swap_probe",
            expected="chunks under the correct instruction, all of one shape, one task name per state",
            got=f"{ {name: chunk.shape for name, chunk in chunks.items()} } and {len(tasks)} task names",
            do="Predict with the same states and the same noise under each instruction.",
        )
    if not all(np.isfinite(chunk).all() for chunk in chunks.values()) or not (scale > 0).all():
        raise InputError(
            where="swap_probe",
            expected="finite chunks and a positive scale",
            got="a NaN, an infinity or a zero scale",
            do="Leave out action dimensions that never move.",
        )
