"""The action head of GR00T N1, which DiT4DiT uses as well: a diffusion transformer beside a backbone that it reads.

NVIDIA 2025, arXiv 2503.14734 (``DiT`` in ``cross_attention_dit.py``, Apache-2.0); DiT4DiT, arXiv 2603.10448. Published
layers take turns: one reads the backbone's features alone, the next reads its own sequence alone; each has a
feed-forward network. One layer of ours is such a pair, cut before the softmax of its second half. Levels are told in
buckets, by the scale and shift of each layer norm; there are no gates and, here, no places (codecs add them).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.errors import InputError
from crossroads.noise import level_from_data_forward
from crossroads.streams import linear_flops, linear_parameters
from crossroads.towers.spec import QKV, Context, Crossed, Heads, Places, context_of


@dataclass(frozen=True, kw_only=True)
class GrootHead:
    """Sizes. ``depth`` counts pairs: half the published layers. ``context_width``: of the features that are read.

    ``buckets``: as many levels as are told apart; the level is cut to a whole bucket.
    """

    heads: int
    head_dim: int
    mlp: int
    depth: int
    context_width: int
    frequency_width: int = 256
    buckets: int = 1000
    eps: float = 1e-5
    head_eps: float = 1e-6

    @property
    def from_noise(self) -> bool:
        """Whether buckets count from noise (0) to clean."""
        return False

    @property
    def width(self) -> int:
        return self.heads * self.head_dim

    @property
    def attention_width(self) -> int:
        return self.width

    @property
    def geometry(self) -> Heads:
        return Heads(depth=self.depth, heads=self.heads, kv_heads=self.heads, head_dim=self.head_dim)

    def num_parameters(self) -> int:
        w, c = self.width, self.context_width
        half = linear_parameters(w, 2 * w) + 2 * linear_parameters(w, w)
        half += linear_parameters(w, self.mlp) + linear_parameters(self.mlp, w)
        pair = 2 * half + 2 * linear_parameters(c, w) + 2 * linear_parameters(w, w)
        frame = linear_parameters(self.frequency_width, w) + linear_parameters(w, w) + linear_parameters(w, 2 * w)
        return self.depth * pair + frame

    def key_flops(self, num_tokens: int) -> int:
        """The first half's own work too: the second half's keys come after it."""
        return linear_flops(num_tokens, self.width, 4 * self.width + 2 * self.mlp)

    def layer_flops(self, num_tokens: int, context: Crossed) -> int:
        num_context = context.get(self.context_width, 0)
        own = 2 * linear_flops(num_tokens, self.width, 2 * self.mlp) + linear_flops(
            num_tokens, self.width, 6 * self.width
        )
        read = 2 * linear_flops(num_context, self.context_width, self.width)
        return own + read + 2 * linear_flops(num_tokens, self.width, num_context)

    def frame_flops(self, num_levels: int, context: Crossed) -> int:
        """The level's embedding, once for each thing that some layers read."""
        return linear_flops(num_levels, self.frequency_width, self.width) + linear_flops(
            num_levels, self.width, self.width
        )

    def modulation_flops(self, num_levels: int) -> int:
        """What the level makes of the norms of both halves of every layer and of the head."""
        return linear_flops(num_levels, self.width, 2 * (2 * self.depth + 1) * self.width)


@dataclass(frozen=True, kw_only=True)
class GrootN1Head(GrootHead):
    """The head as GR00T N1 itself runs it: time runs to the data (DiT4DiT's runs to noise)."""

    @property
    def from_noise(self) -> bool:
        return True


@dataclass(frozen=True, kw_only=True)
class GrootCondition:
    """The level after SiLU, one row per run of ``repeats`` tokens (None: all tokens), and what is read across."""

    told: Float[Tensor, "b g w"]
    repeats: Tensor | None
    context: Context

    def pair(self, linear: nn.Linear) -> tuple[Tensor, Tensor]:
        """Two modulating vectors for each token."""
        found = linear(self.told)
        found = found if self.repeats is None else found.repeat_interleave(self.repeats, dim=1)
        first, second = found.chunk(2, dim=-1)
        return first, second


class GrootFrame(nn.Module):
    """Level embedding and the modulated last norm."""

    def __init__(self, spec: GrootHead) -> None:
        super().__init__()
        self.spec = spec
        w = spec.width
        self.level_in, self.level_out = nn.Linear(spec.frequency_width, w), nn.Linear(w, w)
        self.head = nn.Linear(w, 2 * w)

    def condition(
        self,
        level: Float[Tensor, "b g"],
        counts: tuple[int, ...],
        places: Places,
        contexts: tuple[Context, ...],
        modulation: Tensor | None,
    ) -> GrootCondition:
        context = context_of(contexts, self.spec.context_width)
        if context is None or modulation is not None:
            raise InputError(
                where="GrootHead tower",
                expected=f"features {self.spec.context_width} wide that are read by a cross edge, and no modulate edge",
                got="a modulate edge" if modulation is not None else "none",
                do="Read the backbone across, at a tap.",
            )
        counted = level_from_data_forward(level) if self.spec.from_noise else level
        wave = bucket_wave(bucket_of(counted, self.spec.buckets), self.spec.frequency_width).to(
            self.level_in.weight.dtype
        )
        told = functional.silu(self.level_out(functional.silu(self.level_in(wave))))
        even = len(counts) == 1 and level.shape[1] == 1
        repeats = None if even else torch.tensor(counts, device=level.device)
        return GrootCondition(told=told, repeats=repeats, context=context)

    def enter(self, x: Float[Tensor, "b n w"], condition: GrootCondition) -> Float[Tensor, "b n w"]:
        return x

    def finish(self, x: Float[Tensor, "b n w"], condition: GrootCondition) -> Float[Tensor, "b n w"]:
        shift, scale = condition.pair(self.head)
        return _modulated(x, shift, scale, self.spec.head_eps)


class FeedForward(nn.Module):
    """Layer norm without weights, a tanh-GELU network, a residual."""

    def __init__(self, spec: GrootHead) -> None:
        super().__init__()
        self.eps = spec.eps
        self.up, self.down = nn.Linear(spec.width, spec.mlp), nn.Linear(spec.mlp, spec.width)

    def forward(self, x: Float[Tensor, "b n w"]) -> Float[Tensor, "b n w"]:
        y = functional.layer_norm(x.float(), x.shape[-1:], eps=self.eps).to(x.dtype)
        return x + self.down(functional.gelu(self.up(y), approximate="tanh"))


class GrootReading(nn.Module):
    """The first half of a pair, a published layer of even number: it reads the features and nothing else."""

    def __init__(self, spec: GrootHead) -> None:
        super().__init__()
        self.spec = spec
        w, c = spec.width, spec.context_width
        self.told = nn.Linear(w, 2 * w)
        self.q, self.k, self.v, self.out = nn.Linear(w, w), nn.Linear(c, w), nn.Linear(c, w), nn.Linear(w, w)
        self.feed = FeedForward(spec)

    def forward(self, x: Float[Tensor, "b n w"], condition: GrootCondition) -> Float[Tensor, "b n w"]:
        scale, shift = condition.pair(self.told)
        context = condition.context
        y = _modulated(x, shift, scale, self.spec.eps)
        q, k, v = (
            flat.unflatten(-1, (self.spec.heads, -1)).transpose(1, 2)
            for flat in (self.q(y), self.k(context.hidden), self.v(context.hidden))
        )
        attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=context.valid[:, None, None, :])
        return self.feed(x + self.out(attended.transpose(1, 2).flatten(2)))


class GrootBlock(nn.Module):
    """A pair of published layers, cut in two around the softmax of the second."""

    def __init__(self, spec: GrootHead) -> None:
        super().__init__()
        self.spec = spec
        w = spec.width
        self.read = GrootReading(spec)
        self.told = nn.Linear(w, 2 * w)
        self.q, self.k, self.v, self.out = (nn.Linear(w, w) for _ in range(4))
        self.feed = FeedForward(spec)

    def before(self, x: Float[Tensor, "b n w"], condition: GrootCondition) -> tuple[QKV, Tensor]:
        x = self.read(x, condition)
        scale, shift = condition.pair(self.told)
        y = _modulated(x, shift, scale, self.spec.eps)
        q, k, v = (flat.unflatten(-1, (self.spec.heads, -1)) for flat in (self.q(y), self.k(y), self.v(y)))
        return QKV(q=q, k=k, v=v), x

    def after(
        self, x: Float[Tensor, "b n w"], attended: Float[Tensor, "b n e"], carry: Tensor, condition: GrootCondition
    ) -> Float[Tensor, "b n w"]:
        """``carry`` is what the first half made of ``x``."""
        return self.feed(carry + self.out(attended))


def bucket_of(level: Tensor, buckets: int) -> Tensor:
    """The whole bucket that a level falls into, as a float; levels may exceed 1 a little (a drawn one over 0.999), and
    what is left to the data may fall below 0; both are cut towards 0, as a cast to whole numbers does."""
    return torch.trunc(level.float() * buckets)


def bucket_wave(bucket: Float[Tensor, "b g"], width: int) -> Float[Tensor, "b g width"]:
    """``[cos, sin](b / 10000^(i / (half - 1)))``, in float32 as in diffusers' ``Timesteps`` with a shift of 1."""
    half = width // 2
    exponent = -math.log(1e4) * torch.arange(half, dtype=torch.float32, device=bucket.device) / (half - 1)
    angle = bucket.unsqueeze(-1) * exponent.exp()
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def _modulated(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """Layer norm without weights in float32, then scale and shift."""
    return torch.addcmul(shift, functional.layer_norm(x.float(), x.shape[-1:], eps=eps).to(x.dtype), 1 + scale)
