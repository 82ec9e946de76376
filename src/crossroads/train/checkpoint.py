"""Checkpoints that survive a kill at any moment, and the saved policy: safetensors and JSON, never pickle.

A checkpoint is a folder ``step_<number>`` written under another name, forced to the disk and then renamed; it is there
whole or not at all. Its ``state.json`` holds the checksum of every other file, so damage is found when it is read.
Only what training moves is stored, and buffers; frozen weights are stored as their hash, because a backbone is the same
in every checkpoint of every run.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
import zlib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from crossroads.errors import InputError
from crossroads.storage import is_full
from crossroads.train.optim import RunningAverage, trainable

_STATE = "state.json"
_PARTIAL = ".partial-"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a checkpoint belongs to; continuing under any other identity is refused."""

    recipe_name: str
    fingerprint: str
    """Of the recipe and its data; whoever calls the trainer computes it."""
    settings: Mapping[str, Any]
    """The training settings that change the result."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run has come: everything besides tensors that an exact continuation needs."""

    step: int
    """The number of updates done."""
    seconds: float
    samples: int
    window: tuple[Mapping[str, float], ...]
    """Losses of the steps since the last line of the log."""


def save(
    folder: Path,
    *,
    policy: nn.Module,
    optimiser: torch.optim.Optimizer,
    average: RunningAverage | None,
    progress: Progress,
    identity: Identity,
    frozen: str,
    keep: int = 2,
) -> Path:
    """Write the checkpoint of this step, then delete all but the newest ``keep``; ``frozen`` is the ``frozen_hash``."""
    tensors = {"weights": _moving_tensors(policy), "optimiser": _optimiser_tensors(policy, optimiser)}
    if average is not None:
        tensors["average"] = average.values
    state = {"progress": asdict(progress), "identity": asdict(identity), "frozen": frozen}
    target = folder / f"step_{progress.step:08d}"
    _write_folder(target, tensors, state)
    for old in _checkpoints(folder)[keep:]:
        shutil.rmtree(old)
    return target


def load_latest(
    folder: Path,
    *,
    policy: nn.Module,
    optimiser: torch.optim.Optimizer,
    average: RunningAverage | None,
    identity: Identity,
) -> Progress | None:
    """Put the newest whole checkpoint into policy, optimiser and average; None where there is none.

    Left-overs of an interrupted write are deleted; a damaged checkpoint is passed over with a warning.

    Raises:
        InputError: the checkpoint is of another recipe, other data, other settings or another backbone.
    """
    if folder.is_dir():
        for partial in folder.glob(f"{_PARTIAL}*"):
            shutil.rmtree(partial)
    for path in _checkpoints(folder):
        damage = _damage(path)
        if damage:
            warnings.warn(f"{path}: {damage}; using the checkpoint before it", RuntimeWarning, stacklevel=2)
            continue
        state = json.loads((path / _STATE).read_text())
        _refuse_other(path, state, identity)
        weights = load_file(path / "weights.safetensors")
        _refuse_other_backbone(path, policy, set(weights), state["frozen"])
        _put_weights(path, policy, weights)
        _put_optimiser(policy, optimiser, load_file(path / "optimiser.safetensors"))
        if average is not None:
            device = {name: value.device for name, value in average.values.items()}
            loaded = load_file(path / "average.safetensors")
            average.values = {name: loaded[name].to(where) for name, where in device.items()}
        stored = state["progress"]
        return Progress(
            step=stored["step"],
            seconds=stored["seconds"],
            samples=stored["samples"],
            window=tuple(stored["window"]),
        )
    return None


def save_policy(folder: Path, policy: nn.Module, meta: Mapping[str, Any], *, include_frozen: bool = False) -> Path:
    """Write the policy's weights and ``meta`` (anything JSON can hold) to ``folder``, in one step.

    Frozen weights are left out, and their hash is kept, unless ``include_frozen``.
    """
    weights = _moving_tensors(policy)
    if include_frozen:
        weights = {name: _on_disk(value) for name, value in policy.state_dict(keep_vars=False).items()}
    state = {"meta": dict(meta), "frozen": frozen_hash(policy, set(weights))}
    _write_folder(folder, {"weights": weights}, state)
    return folder


def load_weights(folder: Path, policy: nn.Module) -> dict[str, Any]:
    """Put weights written by ``save_policy`` into ``policy``; returns the ``meta`` that was saved with them.

    Raises:
        InputError: the folder is missing or damaged, or it holds the weights of another network or backbone.
    """
    state = read_state(folder)
    weights = load_file(folder / "weights.safetensors")
    _put_weights(folder, policy, weights)
    _refuse_other_backbone(folder, policy, set(weights), state["frozen"])
    return state["meta"]


def read_meta(folder: Path) -> dict[str, Any]:
    """The ``meta`` of a saved policy, without reading its weights into a network."""
    return read_state(folder)["meta"]


def read_state(folder: Path) -> dict[str, Any]:
    """The JSON of a saved policy or checkpoint, once its files are known to be whole."""
    damage = _damage(folder) if folder.is_dir() else "no such folder"
    if damage:
        raise InputError(
            where=str(folder),
            expected="a folder with state.json and whole safetensors files",
            got=damage,
            do="Train again, or point to the folder that `crossroads train` wrote.",
        )
    return json.loads((folder / _STATE).read_text())


def frozen_hash(policy: nn.Module, stored: Collection[str]) -> str:
    """SHA-256 over the names and bytes of all parameters that are not ``stored`` in the file itself."""
    digest = hashlib.sha256()
    for name, parameter in policy.named_parameters():
        if name not in stored:
            digest.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}".encode())
            digest.update(_on_disk(parameter).reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _moving_tensors(policy: nn.Module) -> dict[str, Tensor]:
    """Trainable parameters and persistent buffers by name."""
    parameters = {name for name, _ in policy.named_parameters(remove_duplicate=False)}
    buffers = {name: value for name, value in policy.state_dict().items() if name not in parameters}
    return {name: _on_disk(value) for name, value in {**trainable(policy), **buffers}.items()}


def _on_disk(value: Tensor) -> Tensor:
    """A copy that owns its memory, as safetensors requires."""
    return value.detach().to("cpu", copy=True).contiguous()


def _optimiser_tensors(policy: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as ``<parameter>/<entry>``."""
    return {
        f"{name}/{entry}": _on_disk(value)
        for name, parameter in trainable(policy).items()
        for entry, value in optimiser.state.get(parameter, {}).items()
    }


def _put_optimiser(policy: nn.Module, optimiser: torch.optim.Optimizer, stored: Mapping[str, Tensor]) -> None:
    parameters = trainable(policy)
    for key, value in stored.items():
        name, entry = key.rsplit("/", 1)
        # A fused AdamW keeps its step counter beside the weights, so every entry goes to the parameter's device.
        optimiser.state[parameters[name]][entry] = value.to(parameters[name].device)


@torch.no_grad()
def _put_weights(where: Path, policy: nn.Module, weights: Mapping[str, Tensor]) -> None:
    own = {**dict(policy.named_parameters()), **policy.state_dict(keep_vars=True)}
    wrong = [name for name, value in weights.items() if name not in own or own[name].shape != value.shape]
    missing = sorted(set(_moving_tensors(policy)) - set(weights))
    if wrong or missing:
        name = (wrong or missing)[0]
        ours = tuple(own[name].shape) if name in own else "absent from this network"
        theirs = tuple(weights[name].shape) if name in weights else "absent from the file"
        raise InputError(
            where=f"{where}, weight {name!r}",
            expected=f"the weights of this {type(policy).__name__} ({name}: {ours})",
            got=f"{theirs}; {len(wrong) + len(missing)} weights differ",
            do="Build the policy from the recipe that these weights were trained with.",
        )
    for name, value in weights.items():
        own[name].copy_(value)


def _refuse_other(path: Path, state: Mapping[str, Any], identity: Identity) -> None:
    stored, wanted = state["identity"], json.loads(json.dumps(asdict(identity)))
    if stored == wanted:
        return
    if stored["recipe_name"] != wanted["recipe_name"] or stored["fingerprint"] != wanted["fingerprint"]:
        expected = f"a checkpoint of {wanted['recipe_name']} (fingerprint {wanted['fingerprint']})"
        got = f"one of {stored['recipe_name']} (fingerprint {stored['fingerprint']})"
    else:
        names = [
            name
            for name in {**wanted["settings"], **stored["settings"]}
            if wanted["settings"].get(name) != stored["settings"].get(name)
        ]
        expected = ", ".join(f"{name}={wanted['settings'].get(name)}" for name in names)
        got = ", ".join(f"{name}={stored['settings'].get(name)}" for name in names)
    raise InputError(
        where=str(path), expected=expected, got=got, do="Choose another --out, or delete this run to start again."
    )


def _refuse_other_backbone(path: Path, policy: nn.Module, stored: Collection[str], expected: str) -> None:
    got = frozen_hash(policy, stored)
    if got != expected:
        raise InputError(
            where=str(path),
            expected=f"frozen weights with hash {expected[:12]}, those it was trained on",
            got=f"frozen weights with hash {got[:12]}",
            do="Use the same backbone weights as in training.",
        )


def _checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints, newest first."""
    return sorted(folder.glob("step_*"), reverse=True)


def _damage(folder: Path) -> str:
    """What is wrong with the files of this folder; empty when nothing is."""
    try:
        state = json.loads((folder / _STATE).read_text())
        checksums = state["checksums"]
    except (OSError, ValueError, KeyError, TypeError) as problem:
        return f"unreadable {_STATE} ({problem})"
    for name, expected in checksums.items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if _checksum(folder / name) != expected:
            return f"{name} is damaged (its checksum differs)"
    return ""


def _checksum(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            value = zlib.crc32(block, value)
    return value


def _write_folder(target: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> None:
    """Write under another name, force to the disk, rename: the folder appears whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.parent / f"{_PARTIAL}{target.name}-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        for name, group in tensors.items():
            save_file({key: _on_disk(value) for key, value in group.items()}, partial / f"{name}.safetensors")
        checksums = {path.name: _checksum(path) for path in sorted(partial.iterdir())}
        (partial / _STATE).write_text(json.dumps({**state, "checksums": checksums}, indent=1) + "\n")
        for path in [*partial.iterdir(), partial]:
            _to_disk(path)
        if target.exists():
            shutil.rmtree(target)
        partial.rename(target)
        _to_disk(target.parent)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if is_full(error):
            num_bytes = sum(value.nbytes for group in tensors.values() for value in group.values())
            raise InputError(
                where=str(target),
                expected=f"{num_bytes / 1e9:.3g} GB free",
                got=f"{shutil.disk_usage(target.parent).free / 1e9:.3g} GB",
                do="Free space there and give the same command again: it goes on from the last checkpoint.",
            ) from error
        raise


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
