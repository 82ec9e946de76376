"""What the parity tests share: a network fed with recorded latents, levels and noise instead of raw data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from crossroads.codecs.spec import Latent
from crossroads.layout import Layout
from crossroads.net import StreamNet
from crossroads.schedule import Interpreter
from crossroads.towers.joint import GroupInput
from crossroads.types import Observation


@dataclass(kw_only=True)
class Heard:
    """Every output of one module, in order."""

    outputs: list[Tensor] = field(default_factory=list)

    @staticmethod
    def of(module: nn.Module) -> Heard:
        heard = Heard()
        module.register_forward_hook(lambda _, __, output: heard.outputs.append(output))  # pyright: ignore[reportArgumentType]
        return heard


def all_valid(values: Tensor, num_tokens: int | None = None) -> Latent:
    """A latent of which every token counts."""
    num = values.shape[1] if num_tokens is None else num_tokens
    return Latent(values=values, valid=torch.ones(len(values), num, dtype=torch.bool))


def embedded(
    net: StreamNet, latents: Mapping[str, Latent], levels: Mapping[str, Tensor], names: Iterable[str]
) -> dict[str, GroupInput]:
    """The named groups as placed tokens; a group without a level stands at level 0 (clean)."""
    valid = {name: latent.valid for name, latent in latents.items()}
    zero = torch.zeros(len(next(iter(valid.values()))), 1)
    return {name: net.embed(name, latents[name].values, levels.get(name, zero), valid) for name in sorted(names)}


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


def mask_between(layout: Layout, num_tokens: Mapping[str, int], order: Iterable[tuple[str, int]]) -> Tensor:
    """The dense mask over tokens named by group and number, in an order of one's own."""
    names = sorted(num_tokens)
    start = {name: sum(num_tokens[other] for other in names[: names.index(name)]) for name in names}
    index = torch.tensor([start[name] + number for name, number in order])
    return layout.dense(num_tokens)[index][:, index]
