"""A published release as a folder of ours, and back: the same map of names both ways."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from crossroads.errors import InputError, nearest
from crossroads.net import StreamNet
from crossroads.recipe import Recipe
from crossroads.recipes import (
    cosmos_policy_sizes,
    dit4dit_sizes,
    fast_wam_sizes,
    groot_sizes,
    lingbot_va_sizes,
    motus_sizes,
    pi05_sizes,
)
from crossroads.recipes import gigaworld as gigaworld_sizes
from crossroads.recipes import openvla_oft as openvla_oft_sizes
from crossroads.recipes import pi0 as pi0_sizes
from crossroads.recipes import pi0_fast as pi0_fast_sizes
from crossroads.recipes import smolvla as smolvla_sizes
from crossroads.recipes.catalogue import PUBLISHED, RECIPES
from crossroads.recipes.dit4dit_names import UNUSED as DIT4DIT_UNUSED
from crossroads.recipes.dit4dit_names import dit4dit_names
from crossroads.recipes.groot_names import UNUSED as GROOT_UNUSED
from crossroads.recipes.groot_names import groot_names
from crossroads.recipes.lingbot_va_names import UNUSED as LINGBOT_VA_UNUSED
from crossroads.recipes.lingbot_va_names import lingbot_va_names
from crossroads.recipes.motus_names import UNUSED as MOTUS_UNUSED
from crossroads.recipes.motus_names import motus_names
from crossroads.recipes.names import (
    Renamed,
    cosmos_policy_names,
    fast_wam_names,
    gigaworld_names,
    pi0_fast_names,
    pi0_names,
    pi05_names,
)
from crossroads.recipes.openvla_oft_names import openvla_oft_names
from crossroads.recipes.openvla_oft_names import unused as openvla_oft_unused
from crossroads.recipes.release import Release, empty_net, fetched, load_release, write_release
from crossroads.recipes.smolvla_names import UNUSED as SMOLVLA_UNUSED
from crossroads.recipes.smolvla_names import smolvla_names
from crossroads.storage import appearing_folder

SIDECAR = "import.json"
WRAPPED = "model."
"""What stands before every name of a checkpoint that LeRobot wrote: its policies keep the network under this name."""
HEADS_OF_WORDS = (r"paligemma_with_expert\..*lm_head\.weight",)
"""The language model's is tied to its table of words, the expert's has no use."""


@dataclass(frozen=True, kw_only=True)
class Official:
    """A recipe at the size of a release, the release's names, and patterns of those that have no use."""

    recipe: Recipe
    names: tuple[Renamed, ...]
    unused: tuple[str, ...] = ()


NAMES: Mapping[str, Callable[[], tuple[tuple[Renamed, ...], tuple[str, ...]]]] = {
    "cosmos_policy": lambda: (cosmos_policy_names(cosmos_policy_sizes.PUBLISHED), (r"pos_embedder\..*",)),
    "dit4dit": lambda: (dit4dit_names(dit4dit_sizes.PUBLISHED), DIT4DIT_UNUSED),
    "fast_wam": lambda: (fast_wam_names(fast_wam_sizes.PUBLISHED), ()),
    "fast_wam_idm": lambda: (fast_wam_names(fast_wam_sizes.PUBLISHED), ()),
    "fast_wam_joint": lambda: (fast_wam_names(fast_wam_sizes.PUBLISHED), ()),
    "gigaworld_policy": lambda: (gigaworld_names(gigaworld_sizes.PUBLISHED), ()),
    "groot_n15": lambda: (groot_names(groot_sizes.N15), GROOT_UNUSED),
    "groot_n17": lambda: (groot_names(groot_sizes.N17), GROOT_UNUSED),
    "lingbot_va": lambda: (lingbot_va_names(lingbot_va_sizes.PUBLISHED), (LINGBOT_VA_UNUSED,)),
    "motus": lambda: (motus_names(motus_sizes.PUBLISHED), MOTUS_UNUSED),
    "openvla_oft": lambda: (
        openvla_oft_names(openvla_oft_sizes.PUBLISHED),
        openvla_oft_unused(openvla_oft_sizes.PUBLISHED),
    ),
    "pi0": lambda: (pi0_names(pi0_sizes.PUBLISHED), HEADS_OF_WORDS),
    "pi05": lambda: (pi05_names(pi05_sizes.PUBLISHED), HEADS_OF_WORDS),
    "pi0_fast": lambda: (pi0_fast_names(pi0_fast_sizes.PUBLISHED), HEADS_OF_WORDS),
    "smolvla": lambda: (smolvla_names(smolvla_sizes.PUBLISHED), SMOLVLA_UNUSED),
}


def official(name: str) -> Official:
    """The release of a recipe by the recipe's name."""
    if name not in NAMES:
        known = name in RECIPES
        raise InputError(
            where=f"recipe {name!r}",
            expected=f"a recipe that was released: {', '.join(NAMES)}",
            got="one of our own, without a release" if known else "an unknown name",
            do="Train it instead." if known else nearest(name, NAMES),
        )
    names, unused = NAMES[name]()
    return Official(recipe=PUBLISHED[name](), names=names, unused=unused)


def wrapped(released: Official) -> Official:
    """The same release as LeRobot names it."""
    names = tuple(replace(one, theirs=tuple(WRAPPED + name for name in one.theirs)) for one in released.names)
    return replace(released, names=names, unused=tuple(re.escape(WRAPPED) + one for one in released.unused))


def import_release(released: Official, source: str, out: Path, *, dtype: torch.dtype) -> StreamNet:
    """Read a release into the recipe's network and keep it in ``out`` under our names; returns the network.

    Raises:
        InputError: ``out`` is in use, or the release does not fit the recipe weight by weight.
    """
    if out.exists() and any(out.iterdir()):
        raise InputError(where=str(out), expected="a new folder", got="one in use", do="Choose another --out.")
    net = empty_net(released.recipe.stage, device="cpu", dtype=dtype)
    with Release(fetched(source)) as published:
        given = wrapped(released) if all(name.startswith(WRAPPED) for name in published) else released
        load_release(net, given.names, published, unused=given.unused, dtype=dtype)
    kept = {"recipe": released.recipe.name, "source": source, "dtype": str(dtype).removeprefix("torch.")}
    with appearing_folder(out) as draft:
        write_release(net, _ours(released), draft)
        (draft / SIDECAR).write_text(json.dumps(kept, indent=1))
    return net


def export_release(released: Official, folder: Path, to: Path) -> list[Path]:
    """Write what ``import_release`` kept in ``folder`` under the published names again; returns the files."""
    kept = sidecar(folder)
    if kept["recipe"] != released.recipe.name:
        raise InputError(
            where=str(folder),
            expected=f"weights of {released.recipe.name!r}",
            got=repr(kept["recipe"]),
            do="Export them as the recipe that they were imported for.",
        )
    dtype = getattr(torch, kept["dtype"])
    net = empty_net(released.recipe.stage, device="cpu", dtype=dtype)
    with Release(folder) as ours:
        load_release(net, _ours(released), ours, dtype=dtype)
    return write_release(net, released.names, to)


def sidecar(folder: Path) -> Mapping[str, str]:
    """What ``import_release`` noted beside the weights."""
    path = folder / SIDECAR
    if not path.exists():
        raise InputError(
            where=str(folder),
            expected=f"a folder that `crossroads import` wrote, with its {SIDECAR}",
            got="none",
            do="Run `crossroads import RECIPE --from RELEASE --out FOLDER` first.",
        )
    return json.loads(path.read_text())


def _ours(released: Official) -> tuple[Renamed, ...]:
    """The map of our public names to themselves."""
    return tuple(Renamed(ours=entry.ours, theirs=(entry.ours,)) for entry in released.names)
