"""The inverse dynamics of UniPi: what a robot did between two frames, from their pixels alone.

Du et al. 2023, arXiv 2302.00111, appendix: a 3 x 3 convolution, three more with residual connections, the mean over all
places, and a network of one hidden layer; nothing of the words or of the video model enters. The pairs come as places
with the channels of both frames, read across; the tokens are the actions that are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.errors import InputError
from crossroads.towers.forward import ForwardFrame, ForwardTower, Told
from crossroads.towers.spec import context_of


@dataclass(frozen=True, kw_only=True)
class PairReader(ForwardTower):
    """Sizes. ``latent_hw``: places of a pair; ``context_width``: numbers of one, of both frames; ``channels`` of the
    convolutions, ``residual`` of which stand behind the first; ``width``: of the hidden layer; ``between``: actions
    from a frame to the next, each from a hidden layer of its own."""

    latent_hw: tuple[int, int]
    context_width: int
    channels: int
    width: int = 128  # pyright: ignore[reportIncompatibleMethodOverride]
    residual: int = 3
    between: int = 1

    @property
    def num_taps(self) -> int:
        return 0

    def tap_width(self, tap: int) -> int:
        return self.width

    def tap_tokens(self, num_tokens: int, tap: int) -> int:
        return num_tokens

    def frame(self) -> PairReaderFrame:
        return PairReaderFrame(self)


class PairReaderFrame(ForwardFrame):
    """The network of :class:`PairReader`; the last map, to the numbers of an action, is the codec's."""

    def __init__(self, spec: PairReader) -> None:
        super().__init__()
        self.spec = spec
        self.first = nn.Conv2d(spec.context_width, spec.channels, 3, padding=1)
        self.residual = nn.ModuleList(
            nn.Conv2d(spec.channels, spec.channels, 3, padding=1) for _ in range(spec.residual)
        )
        self.hidden = nn.Linear(spec.channels, spec.between * spec.width)

    def enter(self, x: Float[Tensor, "b n w"], condition: Told) -> Float[Tensor, "b n w"]:
        pairs = context_of(condition.contexts, self.spec.context_width)
        num, places = x.shape[1] // self.spec.between, self.spec.latent_hw[0] * self.spec.latent_hw[1]
        if pairs is None or pairs.hidden.shape[1] != num * places or x.shape[1] % self.spec.between:
            got = "none" if pairs is None else f"{pairs.hidden.shape[1]} places for {x.shape[1]} actions"
            raise InputError(
                where="PairReader tower",
                expected=f"{places} places of a pair of frames for each {self.spec.between} actions, read across",
                got=got,
                do="Ask for as many actions as there are pairs, times `between`.",
            )
        found = self.answer(rearrange(pairs.hidden, "b (p n) c -> b p n c", p=num))
        return rearrange(found, "b p (k w) -> b (p k) w", k=self.spec.between)

    def answer(self, pairs: Float[Tensor, "b p n c"]) -> Float[Tensor, "b p e"]:
        """The hidden layer of each pair."""
        rows = self.spec.latent_hw[0]
        maps = functional.relu(self.first(rearrange(pairs, "b p (h w) c -> (b p) c h w", h=rows)))
        for layer in self.residual:
            maps = maps + functional.relu(layer(maps))
        pooled: Tensor = maps.mean(dim=(-2, -1))
        return rearrange(torch.relu(self.hidden(pooled)), "(b p) e -> b p e", b=len(pairs))
