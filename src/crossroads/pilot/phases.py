"""Phases that follow each other: which episodes one learns from, and how it goes on from the run of another."""

from __future__ import annotations

import hashlib
from pathlib import Path

from crossroads.backbones.load import left_as_made
from crossroads.codecs.spec import NeverTrained
from crossroads.errors import InputError
from crossroads.pilot.plan import fingerprint
from crossroads.policy import StreamPolicy
from crossroads.recipe import Recipe
from crossroads.stage import Phase
from crossroads.train.checkpoint import load_weights, read_meta


def watches(recipe: Recipe, phase: Phase) -> bool:
    """Whether a phase learns something from frames without actions."""
    streams = [recipe.stage.stream(name) for name in phase.losses]
    return any(stream.carries == "video" or stream.labelled_by for stream in streams)


def needs_actions(recipe: Recipe, phase: Phase) -> bool:
    """Whether a phase owes anything that only episodes with actions and states tell."""
    streams = [recipe.stage.stream(name) for name in phase.losses]
    return not all(stream.carries == "video" or stream.labelled_by for stream in streams)


def leaves_for_others(policy: StreamPolicy) -> bool:
    """Whether a run of the present phase must keep what it does not train: weights that the last phase moves, or that
    no backbone brings."""
    last = {*policy.recipe.phases[-1].trains} - {*policy.phase.trains}
    kept = {*policy.net.weight_names(last).values(), *left_as_made(policy)}
    never = {id(weight) for part in policy.modules() if isinstance(part, NeverTrained) for weight in part.parameters()}
    standing = [(name, weight) for name, weight in policy.net.named_parameters() if not weight.requires_grad]
    return any(name in kept and id(weight) not in never for name, weight in standing)


def start_from(run: Path, policy: StreamPolicy) -> str:
    """Put the weights of another run into a policy of the same recipe; returns their hash.

    Raises:
        InputError: the run is of another recipe, version or robot.
    """
    meta, name = read_meta(run / "policy"), policy.recipe.name
    if (meta["recipe"], meta["fingerprint"]) != (name, fingerprint(policy.recipe)):
        raise InputError(
            where=f"start, {run}",
            expected=f"a run of {name!r} as it is now, for the same robot and cameras",
            got=f"one of {meta['recipe']!r}" + (" of another version or robot" if meta["recipe"] == name else ""),
            do="Train the phase before with this version, on data of the same robot.",
        )
    load_weights(run / "policy", policy)
    with (run / "policy" / "weights.safetensors").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
