"""Linear maps and small networks at the ends of a tower, with one set of weights per robot where robots differ.

GR00T N1 (arXiv 2503.14734) and GigaWorld-Policy (arXiv 2603.17240) keep one matrix per embodiment at the raw end of
their state and action codecs, so that robots of other sizes and units share everything behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from crossroads.errors import InputError, nearest
from crossroads.streams import linear_flops, linear_parameters


class BankedLinear(nn.Module):
    """One linear map per robot; ``bank`` says which for each sample (None: the first for all)."""

    def __init__(self, inputs: int, outputs: int, robots: tuple[str, ...]) -> None:
        super().__init__()
        self.robots = robots
        self.weight = nn.Parameter(torch.randn(len(robots), inputs, outputs) / inputs**0.5)
        self.bias = nn.Parameter(torch.zeros(len(robots), outputs))
        self.bank: Int[Tensor, " b"] | None = None

    def address(self, robot: tuple[str, ...]) -> None:
        """Choose each sample's weights by the name of its robot.

        Raises:
            InputError: a robot has no bank.
        """
        if self.robots == ("",):
            return
        unknown = sorted(set(robot) - set(self.robots))
        if unknown:
            raise InputError(
                where="codec with a bank of weights per robot",
                expected=f"one of {', '.join(self.robots)}",
                got=repr(unknown[0]),
                do=nearest(unknown[0], self.robots),
            )
        self.bank = torch.tensor([self.robots.index(name) for name in robot])

    def forward(self, x: Float[Tensor, "b n i"]) -> Float[Tensor, "b n o"]:
        if self.bank is None:
            return x @ self.weight[0] + self.bias[0]
        bank = self.bank.to(x.device)
        return torch.baddbmm(self.bias[bank].unsqueeze(1), x, self.weight[bank])


class BankedVectors(BankedLinear):
    """Learned numbers of each robot's own, of which nothing is the input."""

    def __init__(self, num: int, robots: tuple[str, ...], std: float) -> None:
        nn.Module.__init__(self)
        self.robots = robots
        self.bias = nn.Parameter(std * torch.randn(len(robots), num))
        self.bank = None

    def of(self, batch: int) -> Float[Tensor, "b n"]:
        """Each sample's."""
        bank = torch.zeros(batch, dtype=torch.long) if self.bank is None else self.bank
        return self.bias[bank.to(self.bias.device)]


Activation = Literal["gelu", "silu", "relu", "mish", "elu"]
ACTIVATIONS: Mapping[Activation, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "silu": functional.silu,
    "relu": functional.relu,
    "mish": functional.mish,
    "elu": functional.elu,
}
"""Between the layers of an end: exact GELU (GigaWorld), SiLU (Motus), ReLU (GR00T N1, DreamZero) or Mish
(UWM, Diffusion Policy, VPP); ELU is MCIL's other choice."""


def make_end(
    inputs: int,
    outputs: int,
    hidden: tuple[int, ...],
    robots: tuple[str, ...],
    *,
    back: bool = False,
    activation: Activation = "gelu",
    throughout: bool = False,
) -> nn.Module:
    """The way into a tower, ``inputs`` to ``outputs``, or the mirrored way ``back``.

    Without ``hidden`` one linear map; with it, a network with ``activation`` between its layers. Where there are
    ``robots`` the layer at the raw end is banked, or all of them (``throughout``).
    """
    sizes = tuple(pairwise((inputs, *hidden, outputs)))
    layers: list[nn.Module] = []
    for index, (raw, inner) in enumerate(sizes):
        shape = (inner, raw) if back else (raw, inner)
        layers.append(linear_of(*shape, robots if throughout or index == 0 else ()))
    return Layers(layers[::-1] if back else layers, activation) if hidden else layers[0]


def linear_of(inputs: int, outputs: int, robots: tuple[str, ...]) -> nn.Module:
    """One linear map, or one for each robot."""
    return BankedLinear(inputs, outputs, robots) if robots else nn.Linear(inputs, outputs)


class Layers(nn.Module):
    """Layers with an activation between them."""

    def __init__(self, layers: list[nn.Module], activation: Activation) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)


def end_parameters(
    inputs: int,
    outputs: int,
    hidden: tuple[int, ...],
    num_robots: int,
    *,
    back: bool = False,
    throughout: bool = False,
) -> int:
    """Weights of the way in, or of the way ``back``; the layer at the raw end, ``inputs`` wide, is there per robot, or
    all layers are (``throughout``)."""
    sizes = (inputs, *hidden, outputs)
    layers = [linear_parameters(b, a) if back else linear_parameters(a, b) for a, b in pairwise(sizes)]
    return max(1, num_robots) * sum(layers) if throughout else max(1, num_robots) * layers[0] + sum(layers[1:])


def end_flops(num_tokens: int, inputs: int, outputs: int, hidden: tuple[int, ...]) -> int:
    """The work of one way, in or out."""
    return sum(linear_flops(num_tokens, a, b) for a, b in pairwise((inputs, *hidden, outputs)))
