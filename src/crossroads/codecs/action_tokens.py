"""Continuous action chunks as tokens: normalise, one linear map in, one linear map out; one token per control step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.codecs.banks import Activation, end_flops, end_parameters, make_end
from crossroads.codecs.spec import Latent
from crossroads.noise import TIMESTEPS
from crossroads.space import Normaliser, NormaliserKind
from crossroads.streams import ViewKind, linear_flops, linear_parameters
from crossroads.towers.spec import sinusoid
from crossroads.types import NOTHING, Batch, Observation, Window


@dataclass(frozen=True, kw_only=True)
class ActionTokens:
    """A chunk of ``num_actions`` actions.

    ``level_in_codec``: the level enters by a two-layer MLP beside the action (pi0, openpi ``action_time_mlp``), whether
    or not the tower is told it as well (Wan-style modulation). ``timesteps``: it enters as a timestep up to 1000
    (GR00T N1, arXiv 2503.14734; DreamZero), not by openpi's periods. ``hidden`` and ``robots``: widths of networks in
    (one linear map where the level enters) and out, and the robots with weights of their own at the raw end;
    ``activation`` lies between their layers (``codecs.banks``). ``first_place``: the rotary index of the first action.
    ``per_frame``: so many actions belong to each latent frame of a clip, and stand between its frames in time, in row
    and column -1 (LingBot-VA, arXiv 2601.21998: action j of N of frame f at ``f + j / (N + 1)``); ``first_place`` is
    then that of the first frame. 0: on a line of their own.
    """

    num_actions: int
    action_size: int
    control_hz: float
    normaliser: NormaliserKind = "mean_std"
    level_in_codec: bool = False
    hidden: tuple[int, ...] = ()
    robots: tuple[str, ...] = ()
    first_place: int = 0
    timesteps: bool = False
    activation: Activation = "gelu"
    per_frame: int = 0

    @property
    def hidden_in(self) -> tuple[int, ...]:
        """Widths of the network in, without the one by which the level enters."""
        return () if self.level_in_codec else self.hidden

    @property
    def views(self) -> tuple[ViewKind, ...]:
        return ("noised", "clean")

    def num_tokens(self, view: ViewKind) -> int:
        return self.num_actions

    def window(self) -> Window:
        asked = {"num_actions": self.num_actions, "action_size": self.action_size, "control_hz": self.control_hz}
        return Window(**{**vars(NOTHING), **asked})

    def num_parameters(self, width: int) -> int:
        sizes, num = (self.action_size, width), len(self.robots)
        ends = end_parameters(*sizes, self.hidden_in, num) + end_parameters(*sizes, self.hidden, num, back=True)
        told = linear_parameters(2 * width, width) + linear_parameters(width, width)
        return ends + (told if self.level_in_codec else 0)

    def embed_flops(self, view: ViewKind, width: int) -> int:
        told = linear_flops(self.num_actions, 2 * width, width) + linear_flops(self.num_actions, width, width)
        enter = end_flops(self.num_actions, self.action_size, width, self.hidden_in)
        return enter + (told if self.level_in_codec else 0)

    def read_flops(self, view: ViewKind, width: int) -> int:
        return end_flops(self.num_actions, self.action_size, width, self.hidden)

    def encode_flops(self, view: ViewKind) -> int:
        return 0

    def decode_flops(self) -> int:
        return 0


class ActionCodec(nn.Module):
    """The module of :class:`ActionTokens`."""

    def __init__(self, spec: ActionTokens, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.width = width
        self.normaliser = Normaliser(spec.action_size)
        kind, robots = spec.activation, spec.robots
        self.enter = make_end(spec.action_size, width, spec.hidden_in, robots, activation=kind)
        self.leave = make_end(spec.action_size, width, spec.hidden, robots, back=True, activation=kind)
        if spec.level_in_codec:
            self.told_in = nn.Linear(2 * width, width)
            self.told_out = nn.Linear(width, width)

    def observe(self, obs: Observation) -> Latent:
        raise AssertionError("actions are never observed: a recipe with a 'now' view of actions is refused")

    def target(self, batch: Batch) -> Latent:
        return Latent(values=self.normaliser.normalise(batch.actions), valid=batch.actions_valid)

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (self.spec.num_actions, self.spec.action_size)

    def embed(self, latent: Float[Tensor, "b n a"], level: Tensor) -> Float[Tensor, "b n w"]:
        tokens = self.enter(latent)
        if not self.spec.level_in_codec:
            return tokens
        wave = timestep_sinusoid if self.spec.timesteps else level_sinusoid
        told = wave(level, self.width).to(tokens.dtype).expand_as(tokens)
        return self.told_out(functional.silu(self.told_in(torch.cat([tokens, told], dim=-1))))

    def read(self, hidden: Float[Tensor, "b n w"]) -> Float[Tensor, "b n a"]:
        return self.leave(hidden)

    def decode(self, latent: Float[Tensor, "b n a"]) -> Float[Tensor, "b n a"]:
        return self.normaliser.restore(latent)

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        index, per_frame = torch.arange(num_tokens), self.spec.per_frame
        places = torch.full((num_tokens, 3), -1.0 if per_frame else math.nan)
        if per_frame:
            places[:, 0] = index // per_frame + (index % per_frame + 1) / (per_frame + 1) + self.spec.first_place
        else:
            places[:, 0] = index + self.spec.first_place
        return places


def timestep_sinusoid(level: Float[Tensor, "b n"], width: int) -> Float[Tensor, "b n w"]:
    """``[sin, cos](1000 t / 10000^(i / half))`` (GR00T N1 and DreamZero, ``SinusoidalPositionalEncoding``)."""
    cos, sin = sinusoid(level.double() * TIMESTEPS, width).chunk(2, dim=-1)
    return torch.cat([sin, cos], dim=-1)


def level_sinusoid(level: Float[Tensor, "b n"], width: int) -> Float[Tensor, "b n w"]:
    """``[sin, cos](2 pi t / period)``, periods geometric from 4e-3 to 4 (openpi's time embedding)."""
    fraction = torch.linspace(0, 1, width // 2, dtype=torch.float64, device=level.device)
    angle = 2 * math.pi * rearrange(level.double(), "b n -> b n 1") / (4e-3 * (4.0 / 4e-3) ** fraction)
    return torch.cat([angle.sin(), angle.cos()], dim=-1).float()
