"""The plan of a pilot: which arms, how many labels, which seeds, how many steps and episodes; all fixed beforehand.

A profile is a frozen value. ``smoke`` is for CI, ``laptop`` is what ``make pilot`` runs, ``gpu`` is the long one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass, replace
from typing import Any

from crossroads.codecs.chunk_token import ChunkToken
from crossroads.codecs.motion import MotionCodes
from crossroads.codecs.percepts import GoalPercept, Percepts
from crossroads.codecs.prompt import PromptTokens
from crossroads.codecs.told_actions import ToldActions
from crossroads.errors import InputError, nearest
from crossroads.recipe import Recipe
from crossroads.space import ActionSpace
from crossroads.towers.playing import Playing

FAMILIES = ("reach", "press")
"""Pushing takes more labels and steps than a quarter of an hour on two cores can pay for; the gpu profile adds it."""
DATA_SEED, TRIAL_SEED = 2_000_000, 5_000_000


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Everything that a pilot spends, stated before it is spent."""

    name: str
    vla: str
    wams: tuple[str, ...]
    control: str
    """The recipe without a backbone, trained on all labels only."""
    labels: tuple[int, ...]
    """Nested numbers of labelled demonstrations; the largest is the all-labels oracle."""
    verdict_labels: int
    """The label budget at which the verdict is read."""
    seeds: tuple[int, ...]
    steps: int
    """Optimiser steps of a cell with all labels."""
    short_steps: int
    """Of a cell with fewer labels: it has seen them often enough sooner. Equal for all arms."""
    batch_size: int
    learning_rate: float
    num_draws: int
    """Noise draws that are cached of every group that holds noise."""
    families: tuple[str, ...]
    num_held_out: int
    num_action_free: int
    num_trials: int
    num_swapped: int
    execute_steps: int
    num_probe: int
    """Held-out windows for the offline layer."""
    num_words: int
    """How many of them are put to the swap probe (ten chunks each)."""
    window_stride: int
    """A training window starts at every so many frames."""
    phase: str
    """``head``: frozen backbone, cached features; ``full``: everything is fine-tuned."""
    arm_steps: tuple[tuple[str, int, int], ...] = ()
    """Arm, labels, optimiser steps, where a budget sets them; otherwise ``steps`` and ``short_steps`` hold."""

    def steps_of(self, arm: str, labels: int, *, largest: int) -> int:
        """Optimiser steps of an arm's cell; ``largest`` is the number of all labels."""
        for name, size, steps in self.arm_steps:
            if (name, size) == (arm, labels):
                return steps
        return self.steps if labels == largest else self.short_steps

    @property
    def arms(self) -> tuple[str, ...]:
        return (self.vla, *self.wams)


LAPTOP = Profile(
    name="laptop",
    vla="pi0",
    wams=("fast_wam", "fast_wam_joint", "fast_wam_idm"),
    control="cloning",
    labels=(60, 300),
    verdict_labels=60,
    seeds=(0,),
    steps=400,
    short_steps=200,
    batch_size=32,
    learning_rate=3e-3,
    num_draws=1,
    families=FAMILIES,
    num_held_out=20,
    num_action_free=20,
    num_trials=60,
    num_swapped=20,
    execute_steps=6,
    num_probe=48,
    num_words=16,
    window_stride=2,
    phase="head",
)
SMOKE = replace(
    LAPTOP,
    name="smoke",
    wams=("fast_wam", "fast_wam_idm"),
    labels=(6, 12),
    verdict_labels=6,
    steps=30,
    short_steps=30,
    batch_size=8,
    num_draws=1,
    num_held_out=4,
    num_action_free=2,
    num_trials=6,
    num_swapped=4,
    num_probe=12,
    num_words=8,
)
GPU = replace(
    LAPTOP,
    name="gpu",
    families=(*FAMILIES, "push"),
    labels=(10, 25, 50, 100, 400),
    verdict_labels=25,
    seeds=(0, 1, 2),
    steps=6000,
    short_steps=6000,
    learning_rate=3e-4,
    num_draws=2,
    num_action_free=400,
    num_held_out=60,
    num_trials=400,
    num_swapped=200,
    num_probe=512,
    num_words=128,
    window_stride=1,
    phase="full",
)
PROFILES: Mapping[str, Profile] = {profile.name: profile for profile in (SMOKE, LAPTOP, GPU)}


def profile(name: str) -> Profile:
    """The profile of a name, or an error that suggests the nearest."""
    if name not in PROFILES:
        raise InputError(where="profile", expected="a known name", got=repr(name), do=nearest(name, PROFILES))
    return PROFILES[name]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One trained policy: an arm, a number of labels, a training seed."""

    arm: str
    labels: int
    seed: int
    doubled: bool = False
    """Trained twice as long, for the plateau check."""

    @property
    def name(self) -> str:
        return f"{self.arm}-{self.labels}-{self.seed}" + ("-doubled" if self.doubled else "")


def cells(plan: Profile) -> tuple[Cell, ...]:
    """Every cell. The control has all labels only; it comes first because nothing of it can be cached."""
    main = [Cell(arm=arm, labels=size, seed=seed) for seed in plan.seeds for size in plan.labels for arm in plan.arms]
    return (*(Cell(arm=plan.control, labels=plan.labels[-1], seed=seed) for seed in plan.seeds), *main)


def fingerprint(*parts: object) -> str:
    """A short hash of values, so that a folder of another plan is recognised.

    A field at its default does not count, so a field may be added if its default means what was so before, and runs
    of older versions stay readable; a default must then never change. Nor does a field that is not compared.
    """
    return hashlib.sha256(json.dumps([_plain(part) for part in parts], sort_keys=True).encode()).hexdigest()[:16]


def _plain(part: object) -> object:
    if is_dataclass(part) and not isinstance(part, type):
        counted = [one for one in fields(part) if one.compare and getattr(part, one.name) != _default(one)]
        return [type(part).__name__, {one.name: _plain(getattr(part, one.name)) for one in counted}]
    if isinstance(part, tuple | list):
        return [_plain(member) for member in part]
    if isinstance(part, Mapping):
        return {str(key): _plain(value) for key, value in part.items()}
    return str(part)


def _default(one: Field[Any]) -> object:
    return one.default if one.default_factory is MISSING else one.default_factory()


def fit(recipe: Recipe, space: ActionSpace, cameras: tuple[str, ...]) -> Recipe:
    """A nano recipe sized for a robot: its numbers of state and action dimensions, its rate, its camera."""
    changes: dict[str, object] = {}
    for stream in recipe.stage.streams:
        here = f"stage.streams.{stream.name}.codec"
        if isinstance(stream.codec, Percepts):
            changes |= _perceiving(recipe, stream.codec, space, cameras)
        elif isinstance(stream.codec, GoalPercept):
            continue  # it goes with what is perceived
        elif stream.carries == "action":
            changes[f"{here}.action_size"] = space.action_size
            changes[f"{here}.control_hz"] = space.control_hz
            if isinstance(stream.codec, ChunkToken) and stream.codec.num_state:
                changes[f"{here}.num_state"] = space.num_state
        elif stream.carries == "state" or isinstance(stream.codec, PromptTokens):
            changes[f"{here}.num_state"] = space.num_state
        elif stream.carries in ("image", "video"):
            changes[f"{here}.cameras"] = _camera(recipe, cameras)
        elif isinstance(stream.codec, MotionCodes):
            changes[f"{here}.clip.cameras"] = _camera(recipe, cameras)
    return recipe.vary(changes)


def _perceiving(recipe: Recipe, codec: Percepts, space: ActionSpace, cameras: tuple[str, ...]) -> dict[str, object]:
    """What goes with what is perceived at each step: how wide that is for all who read it."""
    felt = codec.felt if max(codec.felt, default=-1) < space.num_state else ()
    seen = replace(codec, cameras=_camera(recipe, cameras), num_state=space.num_state, felt=felt)
    changes: dict[str, object] = {}
    perceiving: set[str] = set()
    for stream in recipe.stage.streams:
        here = f"stage.streams.{stream.name}.codec"
        if stream.codec == codec:
            changes[here] = seen
            perceiving.add(stream.tower)
        elif isinstance(stream.codec, GoalPercept):
            changes[f"{here}.percepts"] = seen
        elif isinstance(stream.codec, ToldActions) and stream.codec.num_state:
            changes[f"{here}.num_state"] = space.num_state
    for tower in recipe.stage.towers:
        if tower.name in perceiving:
            changes[f"stage.towers.{tower.name}.spec.width"] = seen.width
        elif isinstance(tower.spec, Playing):
            changes[f"stage.towers.{tower.name}.spec.percept_width"] = seen.width
    return changes


def _camera(recipe: Recipe, cameras: tuple[str, ...]) -> tuple[str, ...]:
    wanted = recipe.window.cameras
    if set(wanted) <= set(cameras):
        return wanted
    return cameras[: len(wanted)]
