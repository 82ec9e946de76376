"""A text-to-video UNet that draws a whole plan: the video planner of UniPi as AVDC released it.

UniPi, Du et al. 2023, arXiv 2302.00111 (no code); AVDC, Ko et al. 2023, arXiv 2310.08576 (MIT). The UNet of guided
diffusion (Dhariwal and Nichol 2021, arXiv 2105.05233) over clips: each convolution is one in space, then one in time;
attention is within frames. The observed frame stands beside every frame that is denoised. Words are resampled to a
few latents (after Imagen's resampler), whose mean is added to the embedding of the step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.diffusion import step_at
from crossroads.errors import InputError
from crossroads.towers.forward import ForwardFrame, ForwardTower, Told
from crossroads.towers.spec import context_of


@dataclass(frozen=True, kw_only=True)
class Resampler:
    """Words to ``latents`` learned ones and ``pooled`` made of the words' mean; at most ``places`` words."""

    heads: int = 8
    head_dim: int = 64
    depth: int = 2
    latents: int = 64
    pooled: int = 4
    places: int = 512


@dataclass(frozen=True, kw_only=True)
class PlannerUNet(ForwardTower):
    """Sizes. ``multiples`` of ``base`` channels by resolution, ``blocks`` residual blocks each; ``attends``: at which
    reductions of the picture; ``num_steps``: of the discrete process whose step is told."""

    frames: int
    latent_hw: tuple[int, int]
    channels: int
    beside: int
    base: int
    blocks: int
    multiples: tuple[int, ...]
    attends: tuple[int, ...]
    head_channels: int
    context_width: int
    resampler: Resampler
    num_steps: int = 100
    groups: int = 32

    @property
    def width(self) -> int:
        return self.channels + self.beside

    @property
    def num_taps(self) -> int:
        return 0

    def tap_width(self, tap: int) -> int:
        return self.width

    def tap_tokens(self, num_tokens: int, tap: int) -> int:
        return num_tokens

    def frame(self) -> PlannerFrame:
        return PlannerFrame(self)


class Gain(nn.Module):
    """A layer norm with a scale and no shift."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Float[Tensor, "*b w"]) -> Float[Tensor, "*b w"]:
        return functional.layer_norm(x, x.shape[-1:], self.scale, None, 1e-5)


class ResamplerLayer(nn.Module):
    """Latents read words and themselves by directions alone, with learned scales; then a feed-forward network."""

    def __init__(self, width: int, spec: Resampler) -> None:
        super().__init__()
        inner = spec.heads * spec.head_dim
        self.heads = spec.heads
        self.norm_read, self.norm_own, self.norm_out = (nn.LayerNorm(width) for _ in range(3))
        self.q, self.kv = nn.Linear(width, inner, bias=False), nn.Linear(width, 2 * inner, bias=False)
        self.q_scale, self.k_scale = (nn.Parameter(torch.ones(spec.head_dim)) for _ in range(2))
        self.out = nn.Linear(inner, width, bias=False)
        self.feed = nn.Sequential(
            Gain(width),
            nn.Linear(width, 4 * width, bias=False),
            nn.GELU(),
            Gain(4 * width),
            nn.Linear(4 * width, width, bias=False),
        )

    def forward(self, x: Float[Tensor, "b n w"], words: Float[Tensor, "b m w"], mask: Tensor) -> Float[Tensor, "b n w"]:
        own = self.norm_own(x)
        k, v = self.kv(torch.cat([self.norm_read(words), own], dim=1)).chunk(2, dim=-1)
        q, k, v = (rearrange(flat, "b n (h d) -> b h n d", h=self.heads) for flat in (self.q(own), k, v))
        q, k = functional.normalize(q, dim=-1) * self.q_scale, functional.normalize(k, dim=-1) * self.k_scale
        there = torch.cat([mask, mask.new_ones(len(x), x.shape[1])], dim=1)[:, None, None, :]
        attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=there, scale=8.0)
        x = x + self.norm_out(self.out(rearrange(attended, "b h n d -> b n (h d)")))
        return x + self.feed(x)


class Words(nn.Module):
    """The resampler and the map to what the step's embedding is added to."""

    def __init__(self, spec: PlannerUNet) -> None:
        super().__init__()
        width, made = spec.context_width, spec.resampler
        self.latents = nn.Parameter(torch.randn(made.latents, width))
        self.places = nn.Embedding(made.places, width)
        self.pooled = nn.Sequential(Gain(width), nn.Linear(width, made.pooled * width))
        self.layers = nn.ModuleList(ResamplerLayer(width, made) for _ in range(made.depth))
        self.out = nn.Linear(width, 4 * spec.base)

    def forward(self, words: Float[Tensor, "b m w"], valid: Tensor) -> Float[Tensor, "b e"]:
        there = valid.unsqueeze(-1)
        mean = (words * there).sum(dim=1) / there.sum(dim=1).clamp(min=1)
        pooled = rearrange(self.pooled(mean), "b (n w) -> b n w", w=words.shape[-1])
        x = torch.cat([pooled, repeat(self.latents, "n w -> b n w", b=len(words))], dim=1)
        placed = words + self.places.weight[: words.shape[1]]
        for layer in self.layers:
            x = layer(x, placed, valid)
        return self.out(x).mean(dim=1)


class SplitConv(nn.Module):
    """A convolution in space, then (if it looks around at all) one in time that starts as nothing."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2)
        self.temporal = nn.Conv1d(outputs, outputs, kernel, padding=kernel // 2) if kernel > 1 else None
        if self.temporal is not None:
            with torch.no_grad():  # `dirac_` goes channel by channel, which takes minutes where thousands are counted
                self.temporal.weight.zero_()
                self.temporal.weight[:, :, kernel // 2] = torch.eye(outputs)
            nn.init.zeros_(self.temporal.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b e t h2 w2"]:
        batch = len(x)
        x = self.spatial(rearrange(x, "b c t h w -> (b t) c h w"))
        if self.temporal is None:
            return rearrange(x, "(b t) c h w -> b c t h w", b=batch)
        rows, columns = x.shape[-2:]
        x = self.temporal(rearrange(x, "(b t) c h w -> (b h w) c t", b=batch))
        return rearrange(x, "(b h w) c t -> b c t h w", h=rows, w=columns)


class Residual(nn.Module):
    """Two convolutions with the embedding added between them."""

    def __init__(self, inputs: int, outputs: int, spec: PlannerUNet) -> None:
        super().__init__()
        self.norm_in, self.norm_out = nn.GroupNorm(spec.groups, inputs), nn.GroupNorm(spec.groups, outputs)
        self.conv_in, self.conv_out = SplitConv(inputs, outputs, 3), SplitConv(outputs, outputs, 3)
        self.told = nn.Linear(4 * spec.base, outputs)
        self.skip = nn.Identity() if inputs == outputs else SplitConv(inputs, outputs, 1)

    def forward(self, x: Float[Tensor, "b c t h w"], told: Float[Tensor, "b e"]) -> Float[Tensor, "b d t h w"]:
        y = self.conv_in(functional.silu(self.norm_in(x)))
        y = y + self.told(functional.silu(told))[:, :, None, None, None]
        return self.skip(x) + self.conv_out(functional.silu(self.norm_out(y)))


class FrameAttention(nn.Module):
    """Places of one frame read each other."""

    def __init__(self, channels: int, spec: PlannerUNet) -> None:
        super().__init__()
        self.heads = channels // spec.head_channels
        self.norm = nn.GroupNorm(spec.groups, channels)
        self.qkv, self.out = nn.Conv1d(channels, 3 * channels, 1), nn.Conv1d(channels, channels, 1)

    def forward(self, x: Float[Tensor, "b c t h w"], told: Tensor) -> Float[Tensor, "b c t h w"]:
        batch, rows = len(x), x.shape[-2]
        flat = rearrange(x, "b c t h w -> (b t) c (h w)")
        q, k, v = rearrange(self.qkv(self.norm(flat)), "b (h p d) n -> p b h n d", p=3, h=self.heads)
        attended = functional.scaled_dot_product_attention(q, k, v)
        flat = flat + self.out(rearrange(attended, "b h n d -> b (h d) n"))
        return rearrange(flat, "(b t) c (h w) -> b c t h w", b=batch, h=rows)


class Smaller(nn.Module):
    """Half the rows and columns."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = SplitConv(channels, channels, 3, stride=2)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        return self.conv(x)


class Larger(nn.Module):
    """Twice the rows and columns."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = SplitConv(channels, channels, 3)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        return self.conv(functional.interpolate(x, scale_factor=(1, 2, 2), mode="nearest"))


class PlannerFrame(ForwardFrame):
    """The network of :class:`PlannerUNet`."""

    def __init__(self, spec: PlannerUNet) -> None:
        super().__init__()
        self.spec = spec
        embedded = 4 * spec.base
        self.step_in, self.step_out = nn.Linear(spec.base, embedded), nn.Linear(embedded, embedded)
        self.words = Words(spec)
        now, shrunk = spec.base * spec.multiples[0], 1
        self.enter_conv = SplitConv(spec.width, now, 3)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        widths = [now]
        for index, multiple in enumerate(spec.multiples):
            for _ in range(spec.blocks):
                self.down.append(self._stage(now, spec.base * multiple, shrunk))
                now = spec.base * multiple
                widths.append(now)
            if index + 1 < len(spec.multiples):
                self.down.append(nn.ModuleList([Smaller(now)]))
                widths.append(now)
                shrunk *= 2
        self.middle = nn.ModuleList([Residual(now, now, spec), FrameAttention(now, spec), Residual(now, now, spec)])
        for index, multiple in reversed(list(enumerate(spec.multiples))):
            for block in range(spec.blocks + 1):
                stage = self._stage(now + widths.pop(), spec.base * multiple, shrunk)
                now = spec.base * multiple
                if index and block == spec.blocks:
                    stage.append(Larger(now))
                    shrunk //= 2
                self.up.append(stage)
        self.norm, self.leave_conv = nn.GroupNorm(spec.groups, now), SplitConv(now, spec.channels, 3)

    def _stage(self, inputs: int, outputs: int, shrunk: int) -> nn.ModuleList:
        parts: list[nn.Module] = [Residual(inputs, outputs, self.spec)]
        return nn.ModuleList([*parts, *([FrameAttention(outputs, self.spec)] if shrunk in self.spec.attends else [])])

    def enter(self, x: Float[Tensor, "b n w"], condition: Told) -> Float[Tensor, "b n c"]:
        spec, (rows, columns) = self.spec, self.spec.latent_hw
        words = context_of(condition.contexts, spec.context_width)
        if words is None:
            raise InputError(
                where="PlannerUNet tower",
                expected=f"words {spec.context_width} wide that are read by a cross edge",
                got="none",
                do="Add a cross edge from the words.",
            )
        clip = rearrange(x, "b (t h w) c -> b c t h w", t=spec.frames, h=rows, w=columns)
        step = step_at(condition.level[:, 0], spec.num_steps)
        answer = self.answer(clip, step, words.hidden, words.valid)
        return rearrange(answer, "b c t h w -> b (t h w) c")

    def answer(
        self, clip: Float[Tensor, "b c t h w"], step: Tensor, words: Float[Tensor, "b m d"], valid: Tensor
    ) -> Float[Tensor, "b e t h w"]:
        """The network's answer at a step of its process."""
        told = self.step_out(functional.silu(self.step_in(_wave(step, self.spec.base)))) + self.words(words, valid)
        x = self.enter_conv(clip)
        before = [x]
        for stage in self.down:
            x = _through(stage, x, told)
            before.append(x)
        x = _through(self.middle, x, told)
        for stage in self.up:
            x = _through(stage, torch.cat([x, before.pop()], dim=1), told)
        return self.leave_conv(functional.silu(self.norm(x)))


def _through(stage: nn.Module, x: Tensor, told: Tensor) -> Tensor:
    for part in stage.children():
        x = part(x, told)
    return x


def _wave(step: Tensor, width: int) -> Float[Tensor, "b w"]:
    """``[cos, sin](t / 10000^(i / half))``."""
    half = width // 2
    frequency = torch.exp(-math.log(1e4) * torch.arange(half, dtype=torch.float32, device=step.device) / half)
    angle = step.float()[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=-1)
