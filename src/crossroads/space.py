"""Robots as data: what each number of an action and a state means, its unit, its limits, and how it is normalised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from crossroads.errors import InputError, nearest

NormaliserKind = Literal["mean_std", "quantile", "min_max", "none"]


@dataclass(frozen=True, kw_only=True)
class ActionSpace:
    """Names, units and limits of every action and state dimension of one robot."""

    robot: str
    action_names: tuple[str, ...]
    action_units: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    state_names: tuple[str, ...]
    control_hz: float

    def __post_init__(self) -> None:
        sizes = {len(self.action_names), len(self.action_units), len(self.low), len(self.high)}
        if len(sizes) != 1:
            raise ValueError(
                f"ActionSpace {self.robot!r}: expected as many units and limits as action names "
                f"({len(self.action_names)}), got units {len(self.action_units)}, low {len(self.low)}, "
                f"high {len(self.high)}. Give one entry per action dimension."
            )

    @property
    def action_size(self) -> int:
        return len(self.action_names)

    @property
    def num_state(self) -> int:
        return len(self.state_names)

    def clamp(self, actions: Float[Tensor, "*b a"]) -> Float[Tensor, "*b a"]:
        """Actions moved to the nearest allowed value."""
        low = torch.tensor(self.low, dtype=actions.dtype, device=actions.device)
        high = torch.tensor(self.high, dtype=actions.dtype, device=actions.device)
        return actions.clamp(low, high)


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Per-dimension statistics of one feature over the frames where it is valid."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    min: tuple[float, ...]
    max: tuple[float, ...]
    q01: tuple[float, ...]
    q99: tuple[float, ...]
    count: int


class Fitted(torch.nn.Module):
    """What is measured on data before training: buffers, saved with the policy's weights."""

    def reset(self) -> None:
        """The state before any data was seen, in buffers that may hold anything."""
        raise AssertionError("each fitted module says what it is before a fit")


class Normaliser(Fitted):
    """An affine map from physical units to unit scale and back; it is saved with the policy's weights.

    ``mean_std``: (x - mean) / std. ``quantile``: q01..q99 to -1..1. ``min_max``: min..max to -1..1. A dimension that
    never moves (range below ``floor``) keeps scale 1, so that it cannot be blown up (OpenTau reports 1e8 otherwise).
    After ``enrol`` there is one map per robot, and ``address`` says which one each sample takes.
    """

    offset: Tensor
    scale: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("offset", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        self.robots: tuple[str, ...] = ()
        self._bank: Tensor | None = None

    def enrol(self, robots: tuple[str, ...]) -> None:
        """Have a map for each of these robots."""
        size = self.offset.shape[-1]
        self.robots = robots
        self.register_buffer("offset", self.offset.new_zeros(len(robots), size))
        self.register_buffer("scale", self.scale.new_ones(len(robots), size))

    def address(self, robot: tuple[str, ...]) -> None:
        """Choose the map of each sample by the name of its robot; nothing is chosen where all share one.

        Raises:
            InputError: a robot has none.
        """
        if not self.robots:
            return
        for name in sorted(set(robot) - set(self.robots)):
            raise InputError(
                where="a policy of several robots",
                expected=f"one of {', '.join(self.robots)}",
                got=repr(name),
                do=nearest(name, self.robots),
            )
        self._bank = torch.tensor([self.robots.index(name) for name in robot])

    def reset(self) -> None:
        self.offset.zero_()
        self.scale.fill_(1.0)

    def fit(
        self, statistics: Statistics, kind: NormaliserKind, *, floor: float = 1e-6, robot: str | None = None
    ) -> None:
        """Set the map, or that of one robot, from measured statistics."""
        stats = {name: torch.tensor(getattr(statistics, name)) for name in ("mean", "std", "min", "max", "q01", "q99")}
        if kind == "mean_std":
            offset, scale = stats["mean"], stats["std"]
        elif kind == "quantile":
            offset, scale = (stats["q01"] + stats["q99"]) / 2, (stats["q99"] - stats["q01"]) / 2
        elif kind == "min_max":
            offset, scale = (stats["min"] + stats["max"]) / 2, (stats["max"] - stats["min"]) / 2
        else:
            offset, scale = torch.zeros_like(stats["mean"]), torch.ones_like(stats["mean"])
        to = slice(None) if robot is None else self.robots.index(robot)
        if offset.shape != self.offset[to].shape:
            raise ValueError(
                f"Normaliser.fit: expected statistics of {self.offset[to].numel()} dimensions, got {offset.numel()}. "
                "The dataset and the recipe disagree on the size of this feature."
            )
        self.offset[to] = offset.to(self.offset)
        self.scale[to] = torch.where(scale > floor, scale, torch.ones_like(scale)).to(self.scale)

    def normalise(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        offset, scale = self._maps(x)
        return (x - offset) / scale

    def restore(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        offset, scale = self._maps(x)
        return x * scale + offset

    def _maps(self, x: Float[Tensor, "*b d"]) -> tuple[Tensor, Tensor]:
        """Offset and scale, of all samples or by sample, to be spread over what lies between."""
        if not self.robots:
            return self.offset, self.scale
        assert self._bank is not None, "Normaliser: address() says whose map it is"
        shape = (len(self._bank), *[1] * (x.ndim - 2), self.offset.shape[-1])
        bank = self._bank.to(self.offset.device)
        return self.offset[bank].reshape(shape), self.scale[bank].reshape(shape)
