"""Diffusion Policy's convolutional network: a UNet over the time of a chunk of actions.

Chi et al. 2023, arXiv 2303.04137, section 4.1 (``ConditionalUnet1D``, MIT), after Janner et al. 2022, arXiv 2205.09991.
Every residual block is told the step of the process and what was observed, by one scale and one shift per channel
(FiLM, Perez et al. 2018, arXiv 1709.07871). It is called as a whole: there is no softmax in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.diffusion import step_at
from crossroads.errors import InputError
from crossroads.towers.forward import ForwardFrame, ForwardTower, Told
from crossroads.towers.observed_steps import ObservedSteps, step_wave

LAST_GROUPS = 8
"""Of the last norm, whatever the others have."""


@dataclass(frozen=True, kw_only=True)
class ActionUNet(ForwardTower):
    """Sizes. ``width``: numbers of an action, which enters as it is; ``channels``: of each level, each at half the
    actions of the one before; ``kernel``: how many actions a convolution sees; ``scaled``: blocks are told a scale, too
    (``scale * x + shift``, without a 1 in front of the scale). ``local_width``: of what is told beside each action, 0
    for nothing; ``num_steps``: of the process."""

    width: int  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]
    num_actions: int
    channels: tuple[int, ...]
    seen: ObservedSteps | None
    level_width: int = 256
    kernel: int = 3
    groups: int = 8
    scaled: bool = False
    local_width: int = 0
    num_steps: int = 100

    def __post_init__(self) -> None:
        halvings = len(self.channels) - 1
        groups = any(channels % self.groups for channels in self.channels) or self.channels[0] % LAST_GROUPS
        if self.num_actions % 2**halvings or groups or not self.kernel % 2:
            raise InputError(
                where="ActionUNet tower",
                expected=f"a chunk that can be halved {halvings} times, channels that the {self.groups} groups divide "
                f"(the first also {LAST_GROUPS}), an odd kernel",
                got=f"{self.num_actions} actions, channels {self.channels}, kernel {self.kernel}",
                do="Change one of them.",
            )

    @property
    def told_width(self) -> int:
        """Numbers that each block is told."""
        return self.level_width + (self.seen.num * self.seen.width if self.seen else 0)

    @property
    def num_taps(self) -> int:
        return 0

    def tap_width(self, tap: int) -> int:
        return self.width

    def tap_tokens(self, num_tokens: int, tap: int) -> int:
        return num_tokens

    def frame(self) -> ActionUNetFrame:
        return ActionUNetFrame(self)


class Convolved(nn.Module):
    """A convolution over time, a group norm, Mish."""

    def __init__(self, inputs: int, outputs: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2)
        self.norm = nn.GroupNorm(groups, outputs)

    def forward(self, x: Float[Tensor, "b c n"]) -> Float[Tensor, "b d n"]:
        return functional.mish(self.norm(self.conv(x)))


class ToldBlock(nn.Module):
    """Two convolutions, told between them, beside what came in."""

    def __init__(self, inputs: int, outputs: int, spec: ActionUNet) -> None:
        super().__init__()
        self.first = Convolved(inputs, outputs, spec.kernel, spec.groups)
        self.second = Convolved(outputs, outputs, spec.kernel, spec.groups)
        self.scaled = spec.scaled
        self.told = nn.Linear(spec.told_width, outputs * (2 if spec.scaled else 1))
        self.skip = nn.Identity() if inputs == outputs else nn.Conv1d(inputs, outputs, 1)

    def forward(self, x: Float[Tensor, "b c n"], told: Float[Tensor, "b e"]) -> Float[Tensor, "b d n"]:
        said = self.told(functional.mish(told)).unsqueeze(-1)
        inner = self.first(x)
        if self.scaled:
            scale, shift = said.chunk(2, dim=1)
            inner = scale * inner + shift
        else:
            inner = inner + said
        return self.second(inner) + self.skip(x)


class ActionUNetFrame(ForwardFrame):
    """The module of :class:`ActionUNet`. ``down`` and ``up``: two blocks per level, and what halves or doubles the
    number of actions behind them; the lowest level does neither."""

    def __init__(self, spec: ActionUNet) -> None:
        super().__init__()
        self.spec = spec
        wave, first, last = spec.level_width, spec.channels[0], spec.channels[-1]
        self.step_in, self.step_out = nn.Linear(wave, 4 * wave), nn.Linear(4 * wave, wave)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, (before, now) in enumerate(pairwise((spec.width, *spec.channels))):
            halved = nn.Conv1d(now, now, 3, stride=2, padding=1) if level + 1 < len(spec.channels) else nn.Identity()
            self.down.append(nn.ModuleList([ToldBlock(before, now, spec), ToldBlock(now, now, spec), halved]))
        self.middle = nn.ModuleList(ToldBlock(last, last, spec) for _ in range(2))
        for below, now in reversed(list(pairwise(spec.channels))):
            doubled = nn.ConvTranspose1d(below, below, 4, stride=2, padding=1)
            self.up.append(nn.ModuleList([ToldBlock(2 * now, below, spec), ToldBlock(below, below, spec), doubled]))
        # Published adds the second of these to nothing; it is here because its weights are.
        num_local = 2 if spec.local_width else 0
        self.local = nn.ModuleList(ToldBlock(spec.local_width, first, spec) for _ in range(num_local))
        self.leave_conv, self.leave = Convolved(first, first, spec.kernel, LAST_GROUPS), nn.Conv1d(first, spec.width, 1)

    def enter(self, x: Float[Tensor, "b n w"], condition: Told) -> Float[Tensor, "b n w"]:
        seen = self.spec.seen
        told = None if seen is None else rearrange(seen.of(condition.contexts), "b t c -> b (t c)").to(x.dtype)
        return self.answer(x, step_at(condition.level[:, 0], self.spec.num_steps), told)

    def answer(
        self,
        x: Float[Tensor, "b n w"],
        step: Tensor,
        seen: Float[Tensor, "b e"] | None,
        beside: Float[Tensor, "b n l"] | None = None,
    ) -> Float[Tensor, "b n w"]:
        """The network's answer at a step of its process; ``seen``: what was observed; ``beside``: the same for each
        action alone."""
        told = self.step_out(functional.mish(self.step_in(step_wave(step, self.spec.level_width).to(x.dtype))))
        told = told if seen is None else torch.cat([told, seen], dim=-1)
        x = rearrange(x, "b n w -> b w n")
        before: list[Tensor] = []
        for level, (first, second, halved) in enumerate(_stages(self.down)):
            x = first(x, told)
            if beside is not None and not level:
                x = x + self.local[0](rearrange(beside, "b n l -> b l n"), told)
            x = second(x, told)
            before.append(x)
            x = halved(x)
        for block in self.middle:
            x = block(x, told)
        for first, second, doubled in _stages(self.up):
            x = doubled(second(first(torch.cat([x, before.pop()], dim=1), told), told))
        return rearrange(self.leave(self.leave_conv(x)), "b w n -> b n w")


def _stages(levels: nn.ModuleList) -> list[tuple[nn.Module, nn.Module, nn.Module]]:
    return [tuple(level.children()) for level in levels]  # pyright: ignore[reportReturnType]
