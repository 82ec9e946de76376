"""Put shipped backbone weights into a policy: by public names, every weight accounted for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from crossroads.codecs.latents import LatentEnds
from crossroads.codecs.video_autoencoder import NanoAutoencoderNet
from crossroads.errors import InputError
from crossroads.policy import StreamPolicy
from crossroads.space import Normaliser

SHIPPED = Path(__file__).parent
AUTOENCODER = "nano_video"
"""The backbone that comes with the embedded autoencoder."""
BESIDE = "beside_"
"""Weights of what stands beside the pictures start as those of the pictures (LingBot-VA, ``deepcopy`` in its code)."""


def load_backbones(policy: StreamPolicy, folder: Path = SHIPPED) -> dict[str, str]:
    """Fill every tower that names a backbone (and its streams' codecs), and the embedded autoencoder of every other
    stream of frames, which no phase trains; returns the hash of each file used.

    Raises:
        InputError: a file is missing, or holds a weight that the recipe lacks, or lacks one that it needs.
    """
    wanted: dict[str, list[str]] = {}
    for tower in policy.recipe.stage.towers:
        if tower.backbone:
            wanted.setdefault(tower.backbone, []).append(tower.name)
    found = {name: _load(policy, folder, name, towers) for name, towers in sorted(wanted.items())}
    filled = {name for towers in wanted.values() for name in towers}
    alone = [
        codec.autoencoder
        for stream in policy.recipe.stage.streams
        if stream.tower not in filled and isinstance(codec := policy.net.own_codec(stream.name), LatentEnds)
    ]
    autoencoders = [net for net in alone if isinstance(net, NanoAutoencoderNet)]
    if autoencoders:
        paths = _shards(folder, AUTOENCODER)
        start, stored = "codecs.video.autoencoder.", _stored(paths)
        own = {key.removeprefix(start): value for key, value in stored.items() if key.startswith(start)}
        for net in autoencoders:
            net.load_state_dict(own)
        found[AUTOENCODER] = _hash(paths)
    return found


def left_as_made(policy: StreamPolicy, folder: Path = SHIPPED) -> frozenset[str]:
    """The weights, by their names in the policy's network, that ``load_backbones`` does not fill: of towers without a
    backbone, and of streams that the backbone's own recipe does not have (a state beside SmolVLA's words)."""
    towers = policy.recipe.stage.towers
    found = set(policy.net.weight_names(tower.name for tower in towers if not tower.backbone).values())
    for backbone in {tower.backbone for tower in towers if tower.backbone}:
        own = policy.net.weight_names(tower.name for tower in towers if tower.backbone == backbone)
        found |= {own[public] for public in _fresh(own, _stored(_shards(folder, backbone)))}
    return frozenset(found)


def _fresh(names: Iterable[str], stored: Iterable[str]) -> set[str]:
    """Of some public names, those of streams of which a file holds nothing."""
    known = {key.split(".")[1] for key in stored if key.startswith("codecs.")}
    return {key for key in names if key.startswith("codecs.") and key.split(".")[1] not in known}


def load_weights_of(policy: StreamPolicy, folder: Path) -> str:
    """Fill every tower of a backbone's own recipe from its shards in a folder; returns their hash."""
    return _load(policy, folder, policy.recipe.name, [tower.name for tower in policy.recipe.stage.towers])


def _load(policy: StreamPolicy, folder: Path, name: str, towers: list[str]) -> str:
    shards = _shards(folder, name)
    put(policy, f"{folder}", _stored(shards), towers)
    return _hash(shards)


def _shards(folder: Path, name: str) -> list[Path]:
    shards = sorted(folder.glob(f"{name}-*-of-*.safetensors"))
    if not shards or len(shards) != int(shards[0].stem[-5:]):
        raise InputError(
            where=f"{folder}, {name}",
            expected="every shard of its weights",
            got=", ".join(path.name for path in shards) or "no file",
            do="Run `make backbones`.",
        )
    return shards


def _stored(shards: list[Path]) -> dict[str, Tensor]:
    return {key: value for path in shards for key, value in load_file(path).items()}


def _hash(shards: list[Path]) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in shards)).hexdigest()[:16]


def weights_on(policy: StreamPolicy, backbone: str) -> dict[str, Tensor]:
    """The present weights, by public names, of the towers that start from a backbone, and of their streams' codecs.

    Raises:
        InputError: there is no such tower.
    """
    towers = [tower.name for tower in policy.recipe.stage.towers if tower.backbone == backbone]
    if not towers:
        raise InputError(
            where=f"recipe {policy.recipe.name!r}",
            expected=f"a tower that starts from the shipped {backbone}",
            got=", ".join(tower.backbone or "random weights" for tower in policy.recipe.stage.towers),
            do="Ask a policy on that backbone.",
        )
    state, robots = policy.net.state_dict(), _of_robots(policy)
    return {public: state[here] for public, here in policy.net.weight_names(towers).items() if here not in robots}


def _of_robots(policy: StreamPolicy) -> set[str]:
    """What is set from a robot's data; no backbone carries it."""
    return {
        f"{name}.{buffer}"
        for name, module in policy.net.named_modules()
        if isinstance(module, Normaliser)
        for buffer, _ in module.named_buffers()
    }


@torch.no_grad()
def put(policy: StreamPolicy, path: str, stored: Mapping[str, Tensor], towers: list[str]) -> None:
    """Weights by public names into some towers of a policy; ``path`` says in errors where they are from.

    Raises:
        InputError: a weight is missing, unknown, or of another shape.
    """
    state, robots = policy.net.state_dict(), _of_robots(policy)
    needed = {public: here for public, here in policy.net.weight_names(towers).items() if here not in robots}
    streams = {stream.name for stream in policy.recipe.stage.streams if stream.tower in towers}
    unused = [key for key in stored if key.startswith("codecs.") and key.split(".")[1] not in streams]
    stored = {key: value for key, value in stored.items() if key not in unused}  # a recipe may leave a stream out
    fresh = _fresh(needed, stored)  # or have one more
    needed = {public: here for public, here in needed.items() if public not in fresh}
    beside = {key: key.replace(BESIDE, "") for key in needed if BESIDE in key and key not in stored}
    stored |= {key: stored[pictures] for key, pictures in beside.items() if pictures in stored}
    for kind, names in (
        ("missing", sorted(set(needed) - set(stored))),
        ("unexpected", sorted(set(stored) - set(needed))),
    ):
        if names:
            raise InputError(
                where=path,
                expected=f"exactly the weights of towers {towers} of recipe {policy.recipe.name!r}",
                got=f"{len(names)} {kind}, first {names[0]!r}",
                do="Use weights made for this recipe's sizes (`make backbones`).",
            )
    for public, here in needed.items():
        if stored[public].shape != state[here].shape:
            raise InputError(
                where=f"{path}, {public}",
                expected=f"shape {tuple(state[here].shape)}",
                got=str(tuple(stored[public].shape)),
                do="Use weights made for this recipe's sizes (`make backbones`).",
            )
        state[here].copy_(stored[public])
