"""Picture networks of Play-LMP: three convolutions, then where each channel looks (or what it saw), then two maps.

MCIL (arXiv 2005.07648; mees/calvin, MIT) and HULC (arXiv 2204.06252; lukashermann/hulc, MIT). The static camera's map
ends in a spatial softmax (Finn et al. 2016, arXiv 1509.06113), the gripper camera's in the flat network of Mnih et al.
2015.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.codecs.banks import ACTIVATIONS, Activation
from crossroads.errors import InputError
from crossroads.streams import linear_flops, linear_parameters

CONVOLUTIONS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
"""Channels, kernel and stride of each."""
FLAT = 128
"""Numbers of the first map behind the convolutions, where they are not reduced to places."""


@dataclass(frozen=True, kw_only=True)
class PictureNetwork:
    """A picture of ``image_hw`` to ``features`` numbers, through ``hidden``.

    ``keypoints``: the mean place of each channel's softmax, at a ``temperature`` (None: learned), with ``waves`` their
    sines and cosines beside them; else the map as it is. ``unit``: features have length 1; ``norm``: a layer norm at
    the end (HULC).
    """

    image_hw: tuple[int, int]
    features: int
    hidden: int = 512
    channels: int = 3
    keypoints: bool = True
    temperature: float | None = 1.0
    waves: bool = False
    unit: bool = False
    norm: bool = False
    bend: Activation = "relu"

    def __post_init__(self) -> None:
        if min(self.map_hw) < 1 or (self.waves and not self.keypoints):
            raise InputError(
                where="PictureNetwork",
                expected="a picture of at least 36 x 36 pixels, and waves only beside keypoints",
                got=f"{self.image_hw}, waves {self.waves}, keypoints {self.keypoints}",
                do="Correct them.",
            )

    @property
    def maps_hw(self) -> tuple[tuple[int, int], ...]:
        """Rows and columns behind each convolution."""
        (rows, columns), found = self.image_hw, []
        for _, kernel, stride in CONVOLUTIONS:
            rows, columns = (rows - kernel) // stride + 1, (columns - kernel) // stride + 1
            found.append((rows, columns))
        return tuple(found)

    @property
    def map_hw(self) -> tuple[int, int]:
        return self.maps_hw[-1]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of what enters and leaves each linear map."""
        last = CONVOLUTIONS[-1][0]
        if self.keypoints:
            return (2 * last * (3 if self.waves else 1), self.hidden, self.features)
        return (last * self.map_hw[0] * self.map_hw[1], FLAT, self.hidden, self.features)

    def num_parameters(self) -> int:
        inputs, total = self.channels, 0
        for channels, kernel, _ in CONVOLUTIONS:
            total += linear_parameters(inputs * kernel**2, channels)
            inputs = channels
        total += sum(linear_parameters(a, b) for a, b in zip(self.sizes, self.sizes[1:], strict=False))
        learned = 1 if self.keypoints and self.temperature is None else 0
        return total + learned + (2 * self.features if self.norm else 0)

    def flops(self) -> int:
        """One picture."""
        inputs, total = self.channels, 0
        for (channels, kernel, _), (rows, columns) in zip(CONVOLUTIONS, self.maps_hw, strict=True):
            total += linear_flops(rows * columns, inputs * kernel**2, channels)
            inputs = channels
        return total + sum(linear_flops(1, a, b) for a, b in zip(self.sizes, self.sizes[1:], strict=False))


class PictureFeatures(nn.Module):
    """The module of :class:`PictureNetwork`."""

    def __init__(self, spec: PictureNetwork) -> None:
        super().__init__()
        self.spec = spec
        inputs, convolutions = spec.channels, []
        for channels, kernel, stride in CONVOLUTIONS:
            convolutions.append(nn.Conv2d(inputs, channels, kernel, stride=stride))
            inputs = channels
        self.convolutions = nn.ModuleList(convolutions)
        if spec.keypoints and spec.temperature is None:
            self.temperature = nn.Parameter(torch.ones(1))
        self.maps = nn.ModuleList(nn.Linear(a, b) for a, b in zip(spec.sizes, spec.sizes[1:], strict=False))
        self.norm = nn.LayerNorm(spec.features) if spec.norm else nn.Identity()

    def forward(self, pictures: Float[Tensor, "b c h w"]) -> Float[Tensor, "b f"]:
        x, bend = pictures, ACTIVATIONS[self.spec.bend]
        for convolution in self.convolutions:
            x = bend(convolution(x))
        x = self.places(x) if self.spec.keypoints else x.flatten(1)
        x = torch.cat([x, x.sin(), x.cos()], dim=1) if self.spec.waves else x
        for layer in self.maps[:-1]:
            x = bend(layer(x))
        x = self.maps[-1](x)
        return self.norm(functional.normalize(x, dim=-1) if self.spec.unit else x)

    def places(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2"]:
        """The mean row and the mean column of each channel, each from -1 to 1, under the softmax of its values; the row
        comes first, as in the published code, which calls it x."""
        found = mean_places(x, self.spec.temperature or self.temperature)
        return rearrange(found, "b c two -> b (c two)")


def mean_places(maps: Float[Tensor, "b c h w"], temperature: float | Tensor = 1.0) -> Float[Tensor, "b c 2"]:
    """Where each channel lies on the mean, row and column from -1 to 1, under the softmax of its values."""
    share = (maps.flatten(2) / temperature).softmax(dim=-1)
    rows, columns = maps.shape[2:]
    rows_at = torch.linspace(-1, 1, rows, device=maps.device).repeat_interleave(columns)
    columns_at = torch.linspace(-1, 1, columns, device=maps.device).repeat(rows)
    return torch.stack([(share * rows_at).sum(dim=-1), (share * columns_at).sum(dim=-1)], dim=-1)
