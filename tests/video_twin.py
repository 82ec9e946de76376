"""A video tower of ours on its own beside a twin from diffusers: run on a latent clip, gradients by name."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from crossroads.net import StreamNet
from crossroads.parity.alone import Alone
from crossroads.recipes.names import Renamed, exported, imported, load_weights
from crossroads.towers.cosmos import Cosmos
from crossroads.towers.wan import Wan

WORDS, CHANNELS, PATCH = 16, 4, 2


def alone(tower: Cosmos | Wan) -> Alone:
    """The tower with a small clip: 3 frames of 3 x 2 patches."""
    return Alone(
        tower=replace(tower, context_width=WORDS), channels=CHANNELS, latents=(3, 6, 4), patch=PATCH, num_words=7
    )


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A noised latent clip ``b c t h w``, the level of each sample (``b 1``) or latent frame (``b t``), the words."""

    x: Tensor
    level: Tensor
    words: Tensor

    @classmethod
    def drawn(cls, level: list[list[float]]) -> Clip:
        x = torch.randn(len(level), CHANNELS, 3, 6, 4)
        return cls(x=x, level=torch.tensor(level), words=torch.randn(len(level), 7, WORDS))


def answer_of(net: StreamNet, tower: Cosmos | Wan, clip: Clip) -> Tensor:
    """The raw output of our network, channels first as published."""
    return alone(tower).answer(net, alone(tower).inputs(net, clip.x, clip.level, clip.words))


def with_weights_of(twin: nn.Module, tower: Cosmos | Wan, names: tuple[Renamed, ...]) -> StreamNet:
    """Our network with every weight of the twin."""
    net = alone(tower).net()
    load_weights(net, imported(names, {name: weight.detach() for name, weight in twin.named_parameters()}))
    return net


def assert_one_network(
    ours: Tensor, theirs: Tensor, net: StreamNet, twin: nn.Module, names: tuple[Renamed, ...]
) -> None:
    """Equal outputs, and equal gradients of every weight for one random target."""
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    target = torch.randn(ours.shape)
    for found in (ours, theirs):
        (found - target).pow(2).mean().backward()
    places, parameters = net.weight_names(("video", "text")), dict(net.named_parameters())
    gradients = {public: parameters[place].grad for public, place in places.items() if place in parameters}
    back = exported(names, gradients)  # pyright: ignore[reportArgumentType]
    for name, parameter in twin.named_parameters():
        torch.testing.assert_close(back[name], parameter.grad, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
