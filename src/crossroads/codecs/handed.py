"""States that one tower leaves behind as tokens of the next: what a ``value`` edge inside a stage hands on.

X-VLA (arXiv 2510.10274) feeds what Florence-2 says of picture and words into its policy transformer as tokens of that
transformer, which change there from layer to layer; VLA Foundry (arXiv 2604.19728) does so with the last states of one
token of its vision-language model, told how noisy the actions are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from crossroads.codecs.banks import linear_of
from crossroads.codecs.inputs import InputCodec, InputTokens
from crossroads.codecs.spec import Codec, Latent
from crossroads.streams import ViewKind, linear_flops, linear_parameters
from crossroads.types import Observation


@dataclass(frozen=True, kw_only=True)
class HandedStates(InputTokens):
    """The states of the groups ``sources``, one behind the other, through one linear map (one per robot of ``robots``).

    ``num``: how many tokens the sources have at most; ``state_width``: of the tower that is read. ``taps``: layers
    whose states stand beside the last ones in each token, before them.
    """

    sources: tuple[str, ...]
    num: int
    state_width: int
    taps: tuple[int, ...] = ()
    robots: tuple[str, ...] = ()

    @property
    def read_width(self) -> int:
        """Numbers of a token before the map."""
        return self.state_width * (len(self.taps) + 1)

    @property
    def more(self) -> int:
        """Tokens that the sources do not have."""
        return 0

    def num_tokens(self, view: ViewKind) -> int:
        return self.num + self.more

    def num_parameters(self, width: int) -> int:
        return max(1, len(self.robots)) * linear_parameters(self.read_width, width)

    def embed_flops(self, view: ViewKind, width: int) -> int:
        return linear_flops(self.num_tokens(view), self.read_width, width)


@dataclass(frozen=True, kw_only=True)
class TimedStates(HandedStates):
    """The same, told a noise level by a learned row for each of ``num_steps`` steps, before the map: ``added`` to every
    token, or else a token of its own in front (VLA Foundry, ``diffusion_step_conditioning``)."""

    num_steps: int = 1000
    added: bool = False

    @property
    def more(self) -> int:
        return 0 if self.added else 1

    def num_parameters(self, width: int) -> int:
        return super().num_parameters(width) + self.num_steps * self.read_width


class HandedCodec(InputCodec):
    """The module of :class:`HandedStates`; the network gives it the states once their tower has run."""

    def __init__(self, spec: HandedStates, width: int) -> None:
        super().__init__()
        self.spec, self.width = spec, width
        self.enter = linear_of(spec.read_width, width, spec.robots)
        if isinstance(spec, TimedStates):
            self.steps = nn.Parameter(step_waves(spec.num_steps, spec.read_width))
        self._sources: list[Codec] = []  # a list: the modules are registered under their own streams' names

    def through(self, sources: list[nn.Module]) -> None:
        """Whose tokens they are: the sources' codecs say which of them count."""
        self._sources[:] = sources  # pyright: ignore[reportArgumentType, reportCallIssue]

    def observe(self, obs: Observation) -> Latent:
        """Which tokens count; what they are is not known yet."""
        return self.placed(torch.cat([source.observe(obs).valid for source in self._sources], dim=1))

    def placed(self, valid: Bool[Tensor, "b m"]) -> Latent:
        """Places for the sources' tokens, of which these count."""
        valid = torch.cat([valid.new_ones(len(valid), self.spec.more), valid], dim=1)
        return Latent(values=torch.zeros(*valid.shape, 0, device=valid.device), valid=valid)

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (self.spec.num_tokens(view), 0)

    def embed(self, latent: Float[Tensor, "b n 0"], level: Tensor) -> Float[Tensor, "b n w"]:
        """A place for what is handed on."""
        return latent.new_zeros(*latent.shape[:2], self.width)

    def handed(self, states: Float[Tensor, "b m v"], level: Float[Tensor, "b l"]) -> Float[Tensor, "b n w"]:
        """The tokens, of the sources' states."""
        if isinstance(self.spec, TimedStates):
            step = (level[:, :1] * self.spec.num_steps).round().long().clamp(0, self.spec.num_steps - 1)
            told = self.steps[step].to(states.dtype)
            states = states + told if self.spec.added else torch.cat([told, states], dim=1)
        return self.enter(states)


def step_waves(num: int, width: int) -> Float[Tensor, "n w"]:
    """``[sin, cos](k / 10000^(i / (half - 1)))``, where the rows of steps start (``SinusoidalPositionEmbeddings``)."""
    half = width // 2
    slowing = torch.exp(torch.arange(half) * (-math.log(1e4) / max(1, half - 1)))
    angle = torch.arange(num)[:, None] * slowing
    return torch.cat([angle.sin(), angle.cos()], dim=-1)
