"""VPP's action network: an encoder of everything that is read, and a decoder of actions that is told the noise.

Hu et al. 2024, arXiv 2412.14803 (MIT code, ``GCDenoiser``), after the Multimodal Diffusion Transformer (Reuss et al.
2024, arXiv 2407.05996). No places anywhere. Modulation is ``shift + x * scale``, without a 1 in front of the scale.
Both are called as a whole: nothing of theirs joins another tower's softmax.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.errors import InputError
from crossroads.noise import sigma_from_level
from crossroads.towers.forward import ForwardFrame, ForwardTower, Told
from crossroads.towers.observed_steps import step_wave
from crossroads.towers.spec import Context, context_of


@dataclass(frozen=True, kw_only=True)
class MdtTower(ForwardTower):
    """Sizes that both halves have; ``depth`` layers."""

    width: int  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]
    depth: int
    heads: int
    context_width: int

    @property
    def num_taps(self) -> int:
        return 0

    def tap_width(self, tap: int) -> int:
        return self.width

    def tap_tokens(self, num_tokens: int, tap: int) -> int:
        return num_tokens


@dataclass(frozen=True, kw_only=True)
class MdtEncoder(MdtTower):
    """Reads features of ``context_width`` and a goal of ``image_width``, of which it takes the mean over the words.

    What it makes of the goal, of ``num_seen`` features and, last, of its own tokens is read at its tap 0.
    """

    image_width: int
    num_seen: int

    @property
    def num_taps(self) -> int:
        return 1

    def tap_tokens(self, num_tokens: int, tap: int) -> int:
        return 1 + self.num_seen + num_tokens

    def frame(self) -> MdtEncoderFrame:
        return MdtEncoderFrame(self)


@dataclass(frozen=True, kw_only=True)
class MdtDecoder(MdtTower):
    """Denoises; reads the encoder's states of ``context_width``.

    ``causal_reading``: action i reads the first i + 1 states alone, as the released code does by mistake, so that the
    rest reaches the actions only as far as the encoder has mixed it into those.
    """

    causal_reading: bool = False
    sigma_most: float = 80.0

    def frame(self) -> MdtDecoderFrame:
        return MdtDecoderFrame(self)


class Attention(nn.Module):
    """Queries of one sequence, keys and values of another; no bias on the way out."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Float[Tensor, "b n w"], read: Float[Tensor, "b m w"], mask: Tensor | None = None) -> Tensor:
        q, k, v = (
            rearrange(flat, "b n (h d) -> b h n d", h=self.heads) for flat in (self.q(x), self.k(read), self.v(read))
        )
        attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(rearrange(attended, "b h n d -> b n (h d)"))


class FeedForward(nn.Module):
    """Four times as wide, without biases."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Float[Tensor, "b n w"]) -> Float[Tensor, "b n w"]:
        return self.down(functional.gelu(self.up(x)))


class EncoderLayer(nn.Module):
    """Pre-norm; norms without biases."""

    def __init__(self, spec: MdtTower) -> None:
        super().__init__()
        self.norm_attention, self.norm_mlp = (nn.LayerNorm(spec.width, bias=False) for _ in range(2))
        self.attention, self.feed = Attention(spec.width, spec.heads), FeedForward(spec.width)

    def forward(self, x: Float[Tensor, "b n w"], mask: Bool[Tensor, "b 1 1 n"] | None) -> Float[Tensor, "b n w"]:
        own = self.norm_attention(x)
        x = x + self.attention(own, own, mask)
        return x + self.feed(self.norm_mlp(x))


class DecoderLayer(nn.Module):
    """Told the level but for its reading of the encoder, whose norm has a bias."""

    def __init__(self, spec: MdtTower) -> None:
        super().__init__()
        w = spec.width
        self.norm_attention, self.norm_mlp = (nn.LayerNorm(w, bias=False) for _ in range(2))
        self.norm_read = nn.LayerNorm(w)
        self.attention, self.read = Attention(w, spec.heads), Attention(w, spec.heads)
        self.feed = FeedForward(w)
        self.told = nn.Linear(w, 6 * w)
        nn.init.normal_(self.told.weight, std=0.02)
        nn.init.zeros_(self.told.bias)

    def forward(
        self, x: Float[Tensor, "b n w"], context: Context, told: Float[Tensor, "b 1 w"], causal_reading: bool
    ) -> Float[Tensor, "b n w"]:
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = self.told(functional.silu(told)).chunk(6, dim=-1)
        own = shift + self.norm_attention(x) * scale
        x = x + gate * self.attention(own, own, _no_later(x.shape[1], x.shape[1], x.device))
        seen = context.valid[:, None, None, :]
        if causal_reading:
            seen = seen & _no_later(x.shape[1], seen.shape[-1], x.device)
        x = x + self.read(self.norm_read(x), context.hidden, seen)
        return x + gate_mlp * self.feed(shift_mlp + self.norm_mlp(x) * scale_mlp)


class MdtEncoderFrame(ForwardFrame):
    """The module of :class:`MdtEncoder`."""

    def __init__(self, spec: MdtEncoder) -> None:
        super().__init__()
        self.spec = spec
        w = spec.width
        self.goal_in, self.goal_out = nn.Linear(spec.image_width, 2 * w), nn.Linear(2 * w, w)
        self.seen = nn.Linear(spec.context_width, w)
        self.layers = nn.ModuleList(EncoderLayer(spec) for _ in range(spec.depth))
        self.norm = nn.LayerNorm(w, bias=False)

    def enter(self, x: Float[Tensor, "b n w"], condition: Told) -> Float[Tensor, "b n w"]:
        goal = context_of(condition.contexts, self.spec.image_width)
        seen = context_of(condition.contexts, self.spec.context_width)
        if goal is None or seen is None:
            raise InputError(
                where="MdtEncoder tower",
                expected=f"a goal {self.spec.image_width} and features {self.spec.context_width} wide, read across",
                got="only one of them" if goal or seen else "neither",
                do="Add the cross edge.",
            )
        counted = goal.valid.unsqueeze(-1)
        words = (goal.hidden * counted).sum(dim=1, keepdim=True) / counted.sum(dim=1, keepdim=True).clamp(min=1)
        made = self.encoded(torch.cat([self.read(words, seen.hidden), x], dim=1))
        condition.taps[0] = made
        return made[:, made.shape[1] - x.shape[1] :]

    def read(self, goal: Float[Tensor, "b 1 g"], seen: Float[Tensor, "b m c"]) -> Float[Tensor, "b n w"]:
        """The goal, then what was seen, as tokens."""
        return torch.cat([self.goal_out(functional.gelu(self.goal_in(goal))), self.seen(seen)], dim=1)

    def encoded(self, x: Float[Tensor, "b n w"]) -> Float[Tensor, "b n w"]:
        for layer in self.layers:
            x = layer(x, None)
        return self.norm(x)


class MdtDecoderFrame(ForwardFrame):
    """The module of :class:`MdtDecoder`."""

    def __init__(self, spec: MdtDecoder) -> None:
        super().__init__()
        self.spec = spec
        w = spec.width
        self.level_in, self.level_out = nn.Linear(w, 2 * w), nn.Linear(2 * w, w)
        self.layers = nn.ModuleList(DecoderLayer(spec) for _ in range(spec.depth))
        self.norm = nn.LayerNorm(w, bias=False)

    def enter(self, x: Float[Tensor, "b n w"], condition: Told) -> Float[Tensor, "b n w"]:
        context = context_of(condition.contexts, self.spec.context_width)
        if context is None:
            raise InputError(
                where="MdtDecoder tower",
                expected=f"states {self.spec.context_width} wide that are read by a cross edge",
                got="none",
                do="Read the encoder across.",
            )
        level = condition.level[:, :1]
        wave = step_wave(sigma_from_level(level, self.spec.sigma_most).log() / 4, self.spec.width)
        told = self.level_out(functional.mish(self.level_in(wave.to(x.dtype))))
        for layer in self.layers:
            x = layer(x, context, told, self.spec.causal_reading)
        return self.norm(x)


def _no_later(num_queries: int, num_keys: int, device: torch.device) -> Bool[Tensor, "q k"]:
    """Row i sees columns 0 to i, also where there are more columns than rows."""
    return torch.ones(num_queries, num_keys, dtype=torch.bool, device=device).tril()
