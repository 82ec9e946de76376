"""A published release as a folder of ours, and back: the same map of names both ways.

A folder that LeRobot wrote comes back with all that LeRobot wants to find there: tensors that our network has no use
for, its configuration, and the statistics of its processors are kept beside ours.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

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
    vla_foundry_sizes,
    xvla_sizes,
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
from crossroads.recipes.pi0_fast import Pi0FastSize, pi0_fast
from crossroads.recipes.release import PROCESSORS, Release, empty_net, fetched, load_release, write_release
from crossroads.recipes.smolvla_names import UNUSED as SMOLVLA_UNUSED
from crossroads.recipes.smolvla_names import smolvla_names
from crossroads.recipes.vla_foundry_names import UNUSED as VLA_FOUNDRY_UNUSED
from crossroads.recipes.vla_foundry_names import vla_foundry_names
from crossroads.recipes.xvla_names import SAME_TABLE, xvla_names
from crossroads.recipes.xvla_names import TABLE as XVLA_TABLE
from crossroads.recipes.xvla_names import UNUSED as XVLA_UNUSED
from crossroads.storage import appearing_folder

SIDECAR = "import.json"
BESIDE, LEFT = "beside", "left.safetensors"
"""What of a folder of LeRobot's has no use for us, and its tensors there."""
WRAPPED, WRAPPED_GROOT = "model.", "_groot_model."
"""What stands before every name of a checkpoint that LeRobot wrote: its policies keep the network under this name."""
HEADS_OF_WORDS = (r"paligemma_with_expert\..*lm_head\.weight",)
"""The language model's is tied to its table of words, the expert's has no use."""
HEAD = "paligemma_with_expert.paligemma.lm_head.weight"
TABLE = "paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight"
"""Where the two are one tensor, safetensors keeps the first name alone (openpi, LeRobot before 0.6)."""


@dataclass(frozen=True, kw_only=True)
class Official:
    """A recipe at the size of a release, the release's names, and patterns of those that have no use.

    ``shared``: a name of the map and the name that a release may have in its place, where both are one tensor.
    ``apart``: the same for a release in which they are two tensors that differ, if the second is of use then.
    """

    recipe: Recipe
    names: tuple[Renamed, ...]
    unused: tuple[str, ...] = ()
    shared: tuple[str, str] | None = None
    apart: Official | None = None


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
    "xvla": lambda: (xvla_names(xvla_sizes.PUBLISHED), XVLA_UNUSED),
    "vla_foundry": lambda: (vla_foundry_names(vla_foundry_sizes.PUBLISHED), VLA_FOUNDRY_UNUSED),
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
    shared = (TABLE, HEAD) if unused == HEADS_OF_WORDS else None
    shared = (XVLA_TABLE.format(""), SAME_TABLE.format("")) if name == "xvla" else shared
    apart = pi0_fast_apart(pi0_fast_sizes.PUBLISHED) if name == "pi0_fast" else None
    return Official(recipe=PUBLISHED[name](), names=names, unused=unused, shared=shared, apart=apart)


def pi0_fast_apart(size: Pi0FastSize) -> Official:
    """pi0-FAST whose scores of words have a table of their own, as LeRobot 0.6 trains it (``lm_head`` untied)."""
    size = replace(size, text=replace(size.text, tied=False))
    return Official(recipe=pi0_fast(size), names=pi0_fast_names(size))


def wrapped(released: Official, prefix: str = WRAPPED) -> Official:
    """The same release as LeRobot names it."""
    names = tuple(replace(one, theirs=tuple(prefix + name for name in one.theirs)) for one in released.names)
    unused = tuple(re.escape(prefix) + one for one in released.unused)
    shared = released.shared and (prefix + released.shared[0], prefix + released.shared[1])
    apart = released.apart and wrapped(released.apart, prefix)
    return replace(released, names=names, unused=unused, shared=shared, apart=apart)


def import_release(released: Official, source: str, out: Path, *, dtype: torch.dtype) -> StreamNet:
    """Read a release into the recipe's network and keep it in ``out`` under our names; returns the network.

    Raises:
        InputError: ``out`` is in use, or the release does not fit the recipe weight by weight.
    """
    if out.exists() and any(out.iterdir()):
        raise InputError(where=str(out), expected="a new folder", got="one in use", do="Choose another --out.")
    folder = fetched(source)
    with Release(folder) as published:
        found = _found(released, published)
        given = _as_written(released, found)
        net = empty_net(given.recipe.stage, device="cpu", dtype=dtype)
        load_release(net, given.names, published, unused=given.unused, dtype=dtype)
        kept = {"recipe": released.recipe.name, "source": source, "dtype": str(dtype).removeprefix("torch."), **found}
        with appearing_folder(out) as draft:
            write_release(net, _ours(given), draft)
            if _by_lerobot(folder):
                _keep_beside(folder, published, given, draft / BESIDE)
            (draft / SIDECAR).write_text(json.dumps(kept, indent=1))
    return net


def export_release(released: Official, folder: Path, to: Path) -> list[Path]:
    """Write what ``import_release`` kept in ``folder`` as it was published, under the names that it had there, with
    what LeRobot wants to find beside it; returns the files."""
    kept = sidecar(folder)
    if kept["recipe"] != released.recipe.name:
        raise InputError(
            where=str(folder),
            expected=f"weights of {released.recipe.name!r}",
            got=repr(kept["recipe"]),
            do="Export them as the recipe that they were imported for.",
        )
    dtype, given, beside = getattr(torch, kept["dtype"]), _as_written(released, kept), folder / BESIDE
    net = empty_net(given.recipe.stage, device="cpu", dtype=dtype)
    with Release(folder) as ours:
        load_release(net, _ours(given), ours, dtype=dtype)
    if not beside.exists():
        return write_release(net, given.names, to)
    left = beside / LEFT
    written = write_release(net, given.names, to, shard_bytes=None, beside=load_file(left) if left.exists() else {})
    copied = [Path(shutil.copy2(path, to)) for path in sorted(beside.iterdir()) if path != left]
    return [*written, *copied]


def sidecar(folder: Path) -> Mapping[str, Any]:
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


def _found(released: Official, published: Mapping[str, Tensor]) -> dict[str, Any]:
    """How a release is written: what stands before its names, whether a shared tensor has its other name there, and
    whether what may be shared is not."""
    ours = {name for entry in released.names for name in entry.theirs}
    prefix = max(("", WRAPPED, WRAPPED_GROOT), key=lambda one: sum(one + name in published for name in ours))
    if released.shared is None:
        return {"prefix": prefix}
    name, other = (prefix + one for one in released.shared)
    if name not in published:
        return {"prefix": prefix, "other": other in published}
    apart = released.apart is not None and other in published and not torch.equal(published[name], published[other])
    return {"prefix": prefix, "apart": apart}


def _as_written(released: Official, found: Mapping[str, Any]) -> Official:
    """The release under the names that it has as it is written; folders of before had no prefix noted."""
    if found.get("apart") and released.apart is not None:
        released = released.apart
    if found.get("other") and released.shared is not None:
        name, other = released.shared
        names = [replace(one, theirs=tuple(other if n == name else n for n in one.theirs)) for one in released.names]
        released = replace(released, names=tuple(names))
    return wrapped(released, found["prefix"]) if found.get("prefix") else released


def _by_lerobot(folder: Path) -> bool:
    """LeRobot's configurations name the type of the policy."""
    config = folder / "config.json"
    return config.exists() and isinstance(json.loads(config.read_text()).get("type"), str)


def _keep_beside(folder: Path, published: Release, given: Official, to: Path) -> None:
    """Tensors without a use for us, and the files that are not weights."""
    to.mkdir()
    used = {name for entry in given.names for name in entry.theirs}
    if left := {name: published[name] for name in published if name not in used}:
        save_file(left, to / LEFT)
    for path in (*folder.glob("*.json"), *folder.glob(PROCESSORS)):
        if not path.name.endswith(".index.json"):
            shutil.copy2(path, to)


def _ours(released: Official) -> tuple[Renamed, ...]:
    """The map of our public names to themselves."""
    return tuple(Renamed(ours=entry.ours, theirs=(entry.ours,)) for entry in released.names)
