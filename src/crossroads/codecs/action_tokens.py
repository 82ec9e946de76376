"""Continuous action chunks as tokens: normalise, one linear map in, one linear map out; one token per control step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.codecs.banks import Activation, end_flops, end_parameters, linear_of, make_end
from crossroads.codecs.spec import Latent
from crossroads.errors import InputError
from crossroads.noise import TIMESTEPS, level_from_data_forward
from crossroads.space import Normaliser, NormaliserKind
from crossroads.streams import ViewKind, linear_flops, linear_parameters
from crossroads.towers.spec import level_sinusoid, sinusoid
from crossroads.types import NOTHING, Batch, Observation, Window


@dataclass(frozen=True, kw_only=True)
class HeadEnds:
    """The ends of GR00T's action head (arXiv 2503.14734; DiT4DiT's ``ActionDiT.py``).

    The level enters beside the action as one of ``buckets``; a learned vector for each of ``num_places`` is added; the
    way out starts with a linear map to ``widened``, with nothing between it and the network behind it.
    """

    num_places: int
    widened: int
    buckets: int = 1000

    @property
    def embodied(self) -> bool:
        """Whether every layer of both networks is there per robot, not those at the raw ends alone."""
        return False

    @property
    def from_noise(self) -> bool:
        """Whether buckets count from noise (0) to clean."""
        return False

    def num_parameters(self, width: int) -> int:
        return self.num_places * width + linear_parameters(width, self.widened)


@dataclass(frozen=True, kw_only=True)
class GrootEnds(HeadEnds):
    """The ends as GR00T N1 itself has them: all but the last norm's map is there per robot, time runs to the data."""

    @property
    def embodied(self) -> bool:
        return True

    @property
    def from_noise(self) -> bool:
        return True


@dataclass(frozen=True, kw_only=True)
class ActionTokens:
    """A chunk of ``num_actions`` actions.

    ``level_in_codec``: the level enters by a two-layer MLP beside the action (pi0, openpi ``action_time_mlp``), whether
    or not the tower is told it as well (Wan-style modulation). ``timesteps``: it enters as a timestep up to 1000 (GR00T
    N1, arXiv 2503.14734; DreamZero), not by openpi's periods. ``buckets``: it enters as one of so many, counted from
    noise, as GR00T's heads have it (Being-H0.5, arXiv 2601.12993); 0: as it is. ``head``: GR00T's ends, whose level
    enters so, too. ``hidden``: widths of the networks in and out; ``hidden_out``: where the way out is not the mirrored
    way in; ``activation`` lies between their layers. ``robots``: those with weights of their own at the raw end
    (``codecs.banks``). ``first_place``: the rotary index of the first action. ``per_frame``: so many actions belong to
    each latent frame of a clip, and stand between its frames in time, in row and column -1 (LingBot-VA, arXiv
    2601.21998: action j of N of frame f at ``f + j / (N + 1)``); ``first_place`` is then that of the first frame. 0: on
    a line of their own.
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
    hidden_out: tuple[int, ...] | None = None
    head: HeadEnds | None = None
    per_frame: int = 0
    buckets: int = 0

    def __post_init__(self) -> None:
        if self.head and self.head.num_places < self.num_actions:
            raise InputError(
                where="ActionTokens.head.num_places",
                expected=f"a place for each of {self.num_actions} actions",
                got=str(self.head.num_places),
                do="Ask for fewer actions, or learn more places.",
            )

    @property
    def mixes_level(self) -> bool:
        """Whether the level enters beside the action."""
        return self.level_in_codec or self.head is not None

    @property
    def way_out(self) -> tuple[int, ...]:
        """Hidden widths of the way out, from the raw end."""
        return self.hidden if self.hidden_out is None else self.hidden_out

    @property
    def views(self) -> tuple[ViewKind, ...]:
        return ("noised", "clean")

    def num_tokens(self, view: ViewKind) -> int:
        return self.num_actions

    def window(self) -> Window:
        asked = {"num_actions": self.num_actions, "action_size": self.action_size, "control_hz": self.control_hz}
        return Window(**{**vars(NOTHING), **asked})

    @property
    def throughout(self) -> bool:
        """Whether every layer of both networks is there per robot."""
        return self.head is not None and self.head.embodied

    def num_parameters(self, width: int) -> int:
        size, num, all_of = self.action_size, len(self.robots), self.throughout
        ends = end_parameters(size, width, self.hidden, num, throughout=all_of)
        wide = self.head.widened if self.head else width
        ends += end_parameters(size, wide, self.way_out, num, back=True, throughout=all_of)
        ends += self.head.num_parameters(width) if self.head else 0
        told = linear_parameters(2 * width, width) + linear_parameters(width, width)
        return ends + (told * (max(1, num) if all_of else 1) if self.mixes_level else 0)

    def embed_flops(self, view: ViewKind, width: int) -> int:
        told = linear_flops(self.num_actions, 2 * width, width) + linear_flops(self.num_actions, width, width)
        enter = end_flops(self.num_actions, self.action_size, width, self.hidden)
        return enter + (told if self.mixes_level else 0)

    def read_flops(self, view: ViewKind, width: int) -> int:
        if self.head is None:
            return end_flops(self.num_actions, self.action_size, width, self.way_out)
        widen = linear_flops(self.num_actions, width, self.head.widened)
        return widen + end_flops(self.num_actions, self.action_size, self.head.widened, self.way_out)

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
        kind, robots, wide = spec.activation, spec.robots, spec.head.widened if spec.head else width
        all_of, size = spec.throughout, spec.action_size
        self.enter = make_end(size, width, spec.hidden, robots, activation=kind, throughout=all_of)
        self.leave = make_end(size, wide, spec.way_out, robots, back=True, activation=kind, throughout=all_of)
        if spec.mixes_level:
            self.told_in = linear_of(2 * width, width, robots if all_of else ())
            self.told_out = linear_of(width, width, robots if all_of else ())
        if spec.head:
            self.places = nn.Parameter(0.02 * torch.randn(spec.head.num_places, width))
            self.widen = nn.Linear(width, spec.head.widened)

    def observe(self, obs: Observation) -> Latent:
        raise AssertionError("actions are never observed: a recipe with a 'now' view of actions is refused")

    def target(self, batch: Batch) -> Latent:
        return Latent(values=self.normaliser.normalise(batch.actions), valid=batch.actions_valid)

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (self.spec.num_actions, self.spec.action_size)

    def embed(self, latent: Float[Tensor, "b n a"], level: Tensor) -> Float[Tensor, "b n w"]:
        tokens, head = self.enter(latent), self.spec.head
        if not self.spec.mixes_level:
            return tokens
        told = self._wave(level).to(tokens.dtype).expand_as(tokens)
        mixed = self.told_out(functional.silu(self.told_in(torch.cat([tokens, told], dim=-1))))
        return mixed + self.places[: tokens.shape[1]] if head else mixed

    def _wave(self, level: Tensor) -> Float[Tensor, "b n w"]:
        if self.spec.head:
            told = level_from_data_forward(level) if self.spec.head.from_noise else level
            return bucket_sinusoid(told, self.width, self.spec.head.buckets)
        if self.spec.buckets:
            return bucket_sinusoid(level_from_data_forward(level), self.width, self.spec.buckets)
        return (timestep_sinusoid if self.spec.timesteps else level_sinusoid)(level, self.width)

    def read(self, hidden: Float[Tensor, "b n w"]) -> Float[Tensor, "b n a"]:
        return self.leave(self.widen(hidden) if self.spec.head else hidden)

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


def bucket_sinusoid(level: Float[Tensor, "b n"], width: int, buckets: int) -> Float[Tensor, "b n w"]:
    """``[sin, cos](b / 10000^(i / half))`` of the whole bucket ``b`` that a level falls into, in float32 (GR00T's
    ``SinusoidalPositionalEncoding``)."""
    bucket = torch.trunc(level.float() * buckets)
    steps = torch.arange(width // 2, dtype=torch.float32, device=level.device)
    angle = bucket.unsqueeze(-1) * (-steps * (math.log(1e4) / (width // 2))).exp()
    return torch.cat([angle.sin(), angle.cos()], dim=-1)
