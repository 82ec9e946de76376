"""Residual convolutional networks over pictures (He et al. 2016, arXiv 1512.03385), with the public names of their
weights (``conv1``, ``layer1.0.bn1`` as torchvision and timm have them), so that a published file fits.

Norms are either batch norms that are frozen (DETR, ACT) or group norms that are trained (Diffusion Policy, arXiv
2303.04137, 16 channels a group).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, of pixels from 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """Channels in and out, side of the kernel, and how many places are read and made."""

    inputs: int
    outputs: int
    kernel: int
    read: int
    made: int

    @property
    def num_parameters(self) -> int:
        return self.inputs * self.outputs * self.kernel**2

    @property
    def flops(self) -> int:
        return 2 * self.made * self.num_parameters


@dataclass(frozen=True, kw_only=True)
class ResNet:
    """``widths`` and ``depths``: channels and blocks of each stage, the second and later ones at half the side of the
    one before; the stem quarters it. ``group``: channels in each group of a trained norm; 0: frozen batch norms."""

    widths: tuple[int, ...] = (64, 128, 256, 512)
    depths: tuple[int, ...] = (2, 2, 2, 2)
    group: int = 0

    def sides(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the last feature map."""
        height, width = image_hw
        for _ in range(len(self.widths) + 1):  # each time a kernel with its padding halves it, rounding up
            height, width = (height + 1) // 2, (width + 1) // 2
        return height, width

    def convolutions(self, image_hw: tuple[int, int]) -> tuple[Convolution, ...]:
        """Every convolution of one picture; the first is that of the pixels."""
        areas = [math.prod(image_hw)]
        height, width = image_hw
        for _ in range(len(self.widths) + 1):
            height, width = (height + 1) // 2, (width + 1) // 2
            areas.append(height * width)
        found = [Convolution(inputs=3, outputs=self.widths[0], kernel=7, read=areas[0], made=areas[1])]
        for stage, (before, channels) in enumerate(pairwise((self.widths[0], *self.widths))):
            made = areas[2 + stage]
            for block in range(self.depths[stage]):
                inputs, read = (channels, made) if block else (before, areas[max(2, 1 + stage)])
                kernels = [3] if block or not (stage or inputs != channels) else [3, 1]
                found += [Convolution(inputs=inputs, outputs=channels, kernel=k, read=read, made=made) for k in kernels]
                found.append(Convolution(inputs=channels, outputs=channels, kernel=3, read=made, made=made))
        return tuple(found)

    def num_parameters(self) -> int:
        found = self.convolutions((1, 1))
        norms = sum(2 * part.outputs for part in found) if self.group else 0
        return norms + sum(part.num_parameters for part in found)

    def flops(self, image_hw: tuple[int, int]) -> int:
        """Of one picture."""
        return sum(part.flops for part in self.convolutions(image_hw))


class FrozenNorm(nn.Module):
    """A batch norm whose statistics and weights stay as they were loaded (DETR's ``FrozenBatchNorm2d``)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, start in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((channels,), start))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        held = (self.get_buffer(name) for name in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(x, *held, training=False, eps=1e-5)


def _norm(channels: int, group: int) -> nn.Module:
    return nn.GroupNorm(max(1, channels // group), channels) if group else FrozenNorm(channels)


class Shortcut(nn.Sequential):
    """What a block adds to where its shape differs from its input's."""

    def __init__(self, inputs: int, outputs: int, stride: int, group: int) -> None:
        super().__init__(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), _norm(outputs, group))


class ResidualBlock(nn.Module):
    """Two convolutions of side 3 beside what came in."""

    def __init__(self, inputs: int, outputs: int, stride: int, group: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = _norm(outputs, group)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = _norm(outputs, group)
        alike = stride == 1 and inputs == outputs
        self.downsample = nn.Identity() if alike else Shortcut(inputs, outputs, stride, group)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        inner = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(inner)) + self.downsample(x))


class ResNetMaps(nn.Module):
    """The module of :class:`ResNet`: pictures from 0 to 255 to the feature map of its last stage."""

    def __init__(self, spec: ResNet) -> None:
        super().__init__()
        self.spec = spec
        self.conv1 = nn.Conv2d(3, spec.widths[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = _norm(spec.widths[0], spec.group)
        for stage, (before, width) in enumerate(pairwise((spec.widths[0], *spec.widths))):
            blocks = [
                ResidualBlock(width if block else before, width, 2 if stage and not block else 1, spec.group)
                for block in range(spec.depths[stage])
            ]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)

    def forward(self, pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h2 w2"]:
        x = (pictures / 255 - self.get_buffer("mean")) / self.get_buffer("std")
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.max_pool2d(x, 3, stride=2, padding=1)
        for stage in range(len(self.spec.widths)):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return x
