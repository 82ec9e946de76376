"""Small networks that denoise one token each, beside a state that tells what it should become.

MAR (Li et al. 2024, arXiv 2406.11838, section 3.2; ``SimpleMLPAdaLN``, MIT): a perceptron whose norms are told the step
of the process and the state. UVA (arXiv 2503.00200) has one for places of frames, told the state of the same place, and
one for actions, told what a few layers make of all states.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.diffusion import step_at
from crossroads.errors import InputError
from crossroads.towers.forward import ForwardFrame, ForwardTower, Told
from crossroads.towers.spec import context_of, sinusoid

WAVES = 256
POOLED = 4
"""Rows and columns that a map of states is reduced to."""
Gathers = Literal["conv_fc", "conv_ori", "conv2", "fc2"]


@dataclass(frozen=True, kw_only=True)
class TokenHead(ForwardTower):
    """Sizes. ``width``: numbers of a token; as many more are answered, of their variance. ``inner``: of the perceptron,
    of ``depth`` blocks; ``context_width``: of the states, of which it reads one for each of its tokens."""

    width: int  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]
    inner: int
    depth: int
    context_width: int
    num_steps: int = 1000

    @property
    def num_taps(self) -> int:
        return 0

    def tap_width(self, tap: int) -> int:
        return self.width

    def tap_tokens(self, num_tokens: int, tap: int) -> int:
        return num_tokens

    def frame(self) -> TokenHeadFrame:
        return TokenHeadFrame(self)


@dataclass(frozen=True, kw_only=True)
class ChunkHead(TokenHead):
    """The same for a chunk of ``num_actions``, told what is gathered of the states of ``frames`` frames of
    ``latent_hw`` places each: by a convolution, a mean over patches and two maps, then over time (``conv_fc``); by one
    over time and a mean (``conv_ori``); by two over the slots, of 7 (``conv2``) or of all (``fc2``)."""

    num_actions: int
    frames: int
    latent_hw: tuple[int, int]
    gathers: Gathers = "conv_fc"

    def frame(self) -> ChunkHeadFrame:
        return ChunkHeadFrame(self)


class ToldBlock(nn.Module):
    """A norm that is told, two maps, a gate."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.up, self.down = nn.Linear(width, width), nn.Linear(width, width)
        self.told = nn.Linear(width, 3 * width)
        nn.init.normal_(self.told.weight, std=0.02)

    def forward(self, x: Float[Tensor, "*b w"], told: Float[Tensor, "*b w"]) -> Float[Tensor, "*b w"]:
        shift, scale, gate = self.told(functional.silu(told)).chunk(3, dim=-1)
        return x + gate * self.down(functional.silu(self.up(self.norm(x) * (1 + scale) + shift)))


class TokenHeadFrame(ForwardFrame):
    """The module of :class:`TokenHead`."""

    def __init__(self, spec: TokenHead) -> None:
        super().__init__()
        self.spec = spec
        w = spec.inner
        self.step_in, self.step_out = nn.Linear(WAVES, w), nn.Linear(w, w)
        self.state_in, self.token_in = nn.Linear(spec.context_width, w), nn.Linear(spec.width, w)
        self.blocks = nn.ModuleList(ToldBlock(w) for _ in range(spec.depth))
        self.told, self.leave = nn.Linear(w, 2 * w), nn.Linear(w, 2 * spec.width)
        for part in (self.step_in, self.step_out, self.told):
            nn.init.normal_(part.weight, std=0.02)

    def enter(self, x: Float[Tensor, "b n w"], condition: Told) -> Float[Tensor, "b n v"]:
        context = context_of(condition.contexts, self.spec.context_width)
        if context is None:
            raise InputError(
                where=type(self.spec).__name__,
                expected=f"states {self.spec.context_width} wide that are read by a cross edge",
                got="none",
                do="Add a cross edge from what they are to be denoised to.",
            )
        told = self.gathered(context.hidden)
        if told.shape[1] != x.shape[1]:
            raise InputError(
                where=type(self.spec).__name__,
                expected=f"a state for each of {x.shape[1]} tokens",
                got=f"{told.shape[1]}",
                do="Read as many tokens, or denoise as many.",
            )
        return self.answer(x, step_at(condition.level[:, :1], self.spec.num_steps), told)

    def gathered(self, states: Float[Tensor, "b m c"]) -> Float[Tensor, "b n c"]:
        """What each token is told of the states."""
        return states

    def answer(self, x: Float[Tensor, "*b w"], step: Tensor, told: Float[Tensor, "*b c"]) -> Float[Tensor, "*b v"]:
        """The noise of each token, and what is said of its variance."""
        wave = sinusoid(step.float(), WAVES).to(x.dtype)
        told = self.step_out(functional.silu(self.step_in(wave))) + self.state_in(told)
        x = self.token_in(x)
        for block in self.blocks:
            x = block(x, told)
        shift, scale = self.told(functional.silu(told)).chunk(2, dim=-1)
        return self.leave(functional.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift)


class ChunkHeadFrame(TokenHeadFrame):
    """The module of :class:`ChunkHead`."""

    spec: ChunkHead  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, spec: ChunkHead) -> None:
        super().__init__(spec)
        c, slots = spec.context_width, spec.frames * math.prod(spec.latent_hw)
        if spec.gathers == "conv_fc":
            self.conv = nn.Conv2d(c, c, 3, padding=1)
            self.flat, self.map = nn.Linear(c * POOLED**2, c), nn.Linear(c, c)
            self.over_time = nn.Linear(spec.frames, spec.num_actions)
            self.refine_in, self.refine_out = nn.Linear(c, c), nn.Linear(c, c)
        elif spec.gathers == "conv_ori":
            self.conv = nn.ConvTranspose3d(c, c, (4, 1, 1), stride=(4, 1, 1))
        elif spec.gathers == "conv2":
            self.conv = nn.Conv1d(slots, 256, 7, padding=3)
            self.over_slots = nn.Conv1d(256, spec.num_actions, 7, padding=3)
        else:
            self.flat, self.map = nn.Linear(slots, 256), nn.Linear(256, spec.num_actions)

    def gathered(self, states: Float[Tensor, "b m c"]) -> Float[Tensor, "b n c"]:
        spec, (rows, columns) = self.spec, self.spec.latent_hw
        if spec.gathers == "conv2":
            return self.over_slots(functional.relu(self.conv(states)))
        if spec.gathers == "fc2":
            return self.map(functional.relu(self.flat(states.transpose(1, 2)))).transpose(1, 2)
        maps = rearrange(states, "b (t h w) c -> b t c h w", h=rows, w=columns)
        if spec.gathers == "conv_ori":
            return self.conv(maps.transpose(1, 2)).mean(dim=(-2, -1)).transpose(1, 2)
        flat = functional.relu(self.conv(maps.flatten(0, 1)))
        flat = functional.adaptive_avg_pool2d(flat, POOLED).flatten(1)
        found = self.map(functional.relu(self.flat(flat)))
        found = self.over_time(rearrange(found, "(b t) c -> b c t", t=spec.frames)).transpose(1, 2)
        return self.refine_out(functional.relu(self.refine_in(found)))
