"""A network fed with recorded latents, levels and noise instead of raw data, and read at more places than its answer.

Recordings hold the states inside published networks. Ours offers no taps that only a comparison would want, so
:func:`hearing` listens to its modules from outside.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from crossroads.codecs.spec import Latent
from crossroads.codecs.spec import all_valid as all_valid
from crossroads.errors import InputError
from crossroads.interpreter import Interpreter
from crossroads.layout import Layout
from crossroads.net import StreamNet
from crossroads.recipes.names import Renamed, imported, load_weights
from crossroads.towers.group import GroupInput
from crossroads.towers.joint import Joint
from crossroads.types import Observation


def load_published(
    net: StreamNet, names: Iterable[Renamed], published: Mapping[str, Tensor], *, unused: frozenset[str] = frozenset()
) -> None:
    """Put published tensors into our network; apart from the ``unused``, each of them must have a place there."""
    renamed = _placed(names, published, unused)
    load_weights(net, imported(renamed, published))


def _placed(names: Iterable[Renamed], published: Mapping[str, Tensor], unused: frozenset[str]) -> tuple[Renamed, ...]:
    """The names, once each published tensor has a place."""
    renamed = tuple(names)
    if homeless := sorted(published.keys() - unused - {name for entry in renamed for name in entry.theirs}):
        raise InputError(
            where="published weights",
            expected="only tensors that have a place in our network",
            got=f"{len(homeless)} without one, such as {homeless[:3]}",
            do="Check that meta.json and weights.safetensors are of one case.",
        )
    return renamed


def load_module(
    module: nn.Module,
    names: Iterable[Renamed],
    published: Mapping[str, Tensor],
    *,
    unused: frozenset[str] = frozenset(),
) -> None:
    """The same for a network that is no :class:`StreamNet`: every parameter is there, and nothing else."""
    renamed = _placed(names, published, unused)
    weights, wanted = imported(renamed, published), dict(module.named_parameters())
    assert weights.keys() == wanted.keys(), sorted(weights.keys() ^ wanted.keys())[:5]
    module.load_state_dict(weights, strict=False)


@contextmanager
def hearing(module: nn.Module) -> Iterator[list]:
    """Every output of one module meanwhile, in order."""
    heard: list = []

    def listen(_: nn.Module, __: tuple[object, ...], output: object) -> None:
        heard.append(output)

    handle = module.register_forward_hook(listen)
    try:
        yield heard
    finally:
        handle.remove()


def joint_of(net: StreamNet, tower: str) -> Joint:
    """The joint layers in which a tower runs."""
    return next(joint for joint in net.joints if isinstance(joint, Joint) and tower in joint.towers)


def by_group(net: StreamNet, inputs: Mapping[str, GroupInput], tower: str, x: Tensor) -> dict[str, Tensor]:
    """A tower's tokens by group, as they lie in it."""
    names = sorted(name for name in inputs if net.group(name).tower == tower)
    return dict(zip(names, x.split([inputs[name].tokens.shape[1] for name in names], dim=1), strict=True))


def embedded(
    net: StreamNet, latents: Mapping[str, Latent], levels: Mapping[str, Tensor], names: Iterable[str]
) -> dict[str, GroupInput]:
    """The named groups as placed tokens; a group without a level has that of its teller, or stands at 0 (clean)."""
    valid = {name: latent.valid for name, latent in latents.items()}
    zero = torch.zeros(len(next(iter(valid.values()))), 1)

    def level(name: str) -> Tensor:
        return levels.get(name, levels.get(net.layout.teller(name) or name, zero))

    return {name: net.embed(name, latents[name].shown, level(name), valid, levels=levels) for name in sorted(names)}


def interpreter(net: StreamNet, observed: Mapping[str, Latent], noise: Mapping[str, Latent]) -> Interpreter:
    """An interpreter that has seen the observed groups and starts from the given noise, so that it draws nothing."""
    batch = len(next(iter(observed.values())).values)
    obs = Observation(
        images={},
        state=torch.zeros(batch, 0),
        text=("",) * batch,
        robot=("recorded",) * batch,
        time_s=torch.zeros(batch),
    )
    started = Interpreter(net, obs, torch.Generator())
    started.latents.update({**observed, **noise})
    started.levels.update({**dict.fromkeys(observed, 0.0), **dict.fromkeys(noise, 1.0)})
    return started


def mask_between(
    layout: Layout, num_tokens: Mapping[str, int], order: Iterable[tuple[str, int]]
) -> Bool[Tensor, "q k"]:
    """Who reads whom, over tokens named by group and number in an order of one's own (a token may come twice)."""
    names = sorted(num_tokens)
    start = {name: sum(num_tokens[other] for other in names[: names.index(name)]) for name in names}
    index = torch.tensor([start[name] + number for name, number in order])
    return layout.dense(num_tokens)[index][:, index]
