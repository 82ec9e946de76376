"""A video tower of ours on its own beside a twin from diffusers: built small, run on a latent clip, gradients by name."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from crossroads.build import build_net
from crossroads.codecs.latents import VideoLatents
from crossroads.codecs.published_text import TextFeatures
from crossroads.codecs.wan_autoencoder import WanAutoencoder
from crossroads.net import StreamNet
from crossroads.objectives import Flow
from crossroads.recipe import Stage, Tower
from crossroads.recipes.names import Renamed, exported, imported, load_weights
from crossroads.schedule import Denoise
from crossroads.streams import NOISED, Stream, reads
from crossroads.towers.cosmos import Cosmos
from crossroads.towers.given import Given
from crossroads.towers.spec import Places
from crossroads.towers.wan import Wan

WORDS, FRAMES, ROWS, COLUMNS, CHANNELS, PATCH = 16, 3, 3, 2, 4, 2


def net_of(tower: Cosmos | Wan) -> StreamNet:
    """A clip that reads itself and, across, the words."""
    video = VideoLatents(
        cameras=("front",),
        image_hw=(8 * PATCH * ROWS, 8 * PATCH * COLUMNS),
        future_s=tuple(float(step) for step in range(4 * FRAMES)),
        autoencoder=WanAutoencoder(source="none", channels=CHANNELS, space_factor=8),
        patch=PATCH,
        marked=isinstance(tower, Cosmos),
    )
    text = TextFeatures(source="none", width=WORDS, max_tokens=7)
    return build_net(
        Stage(
            name="video",
            streams=(
                Stream(name="text", carries="text", codec=text, tower="text"),
                Stream(name="video", carries="video", codec=video, tower="video", views=(NOISED,), objective=Flow()),
            ),
            edges=(*reads("text", "text"), *reads("video", "video"), *reads("video", "text", via="cross")),
            towers=(
                Tower(name="text", spec=Given(width=WORDS)),
                Tower(name="video", spec=replace(tower, context_width=WORDS)),
            ),
            schedule=(Denoise(streams=("video",), steps=1),),
        )
    )


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A noised latent clip ``b c t h w``, the level of each sample (``b 1``) or latent frame (``b t``), the words."""

    x: Tensor
    level: Tensor
    words: Tensor

    @classmethod
    def drawn(cls, level: list[list[float]]) -> Clip:
        x = torch.randn(len(level), CHANNELS, FRAMES, PATCH * ROWS, PATCH * COLUMNS)
        return cls(x=x, level=torch.tensor(level), words=torch.randn(len(level), 7, WORDS))

    @property
    def token_level(self) -> Tensor:
        return repeat(self.level, "b t -> b (t n)", n=ROWS * COLUMNS) if self.level.shape[1] > 1 else self.level


def answer_of(net: StreamNet, clip: Clip) -> Tensor:
    """The raw output of our network, channels first as published."""
    sizes = {"p": PATCH, "q": PATCH}
    tokens = rearrange(clip.x, "b c t (h p) (w q) -> b (t h w) (p q c)", **sizes)
    valid = {"text": torch.ones(clip.words.shape[:2]).bool(), "video": torch.ones(tokens.shape[:2]).bool()}
    grid = torch.cartesian_prod(torch.arange(FRAMES), torch.arange(ROWS), torch.arange(COLUMNS)).float()
    video = net.embed("video", tokens, clip.token_level, valid)
    video = replace(video, places=Places(index=video.places.index, grid=grid))
    words = net.embed("text", clip.words, torch.zeros(len(clip.words), 1), valid)
    read = net.codec("video").read(net({"text": words, "video": video}, {})["video"].hidden)
    return rearrange(read, "b (t h w) (p q c) -> b c t (h p) (w q)", t=FRAMES, h=ROWS, w=COLUMNS, **sizes)


def with_weights_of(twin: nn.Module, tower: Cosmos | Wan, names: tuple[Renamed, ...]) -> StreamNet:
    """Our network with every weight of the twin."""
    net = net_of(tower)
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
