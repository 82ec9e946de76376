"""V-JEPA 2's action-conditioned predictor: a transformer over the features of frames, step by step in time.

Assran et al. 2025, arXiv 2506.09985, section 3 (``src/models/ac_predictor.py``, MIT); VLA-JEPA, arXiv 2602.10098, has
the same one with other tokens in front of each step. Pre-norm, exact GELU; which steps read which is a matter of edges.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.errors import InputError
from crossroads.streams import linear_flops, linear_parameters
from crossroads.towers.spec import QKV, Context, Crossed, Heads, Places, axis_angles, context_of

THETA = 10_000.0


@dataclass(frozen=True, kw_only=True)
class JepaPredictor:
    """Sizes. ``grid_hw``: rows and columns of a frame's patches; columns are counted in rows, as published.

    ``context_width``: of hidden states that stand for the tokens without a row and a column, one after the other,
    behind one linear map (VLA-JEPA's latent actions); 0: those tokens are their codecs' own.
    """

    width: int
    heads: int
    mlp: int
    depth: int
    grid_hw: tuple[int, int]
    context_width: int = 0
    eps: float = 1e-6

    @property
    def head_dim(self) -> int:
        return self.width // self.heads

    @property
    def attention_width(self) -> int:
        return self.width

    @property
    def geometry(self) -> Heads:
        return Heads(depth=self.depth, heads=self.heads, kv_heads=self.heads, head_dim=self.head_dim)

    @property
    def turned(self) -> int:
        """Channels of a head that one axis turns; the rest of a third is left alone."""
        return 2 * (self.head_dim // 3 // 2)

    def num_parameters(self) -> int:
        w = self.width
        layer = 4 * w + linear_parameters(w, 3 * w) + linear_parameters(w, w)
        layer += linear_parameters(w, self.mlp) + linear_parameters(self.mlp, w)
        read = linear_parameters(self.context_width, w) if self.context_width else 0
        return self.depth * layer + 2 * w + read

    def key_flops(self, num_tokens: int) -> int:
        """Queries come out of the same product."""
        return linear_flops(num_tokens, self.width, 3 * self.width)

    def layer_flops(self, num_tokens: int, context: Crossed) -> int:
        return linear_flops(num_tokens, self.width, 4 * self.width + 2 * self.mlp)

    def frame_flops(self, num_levels: int, context: Crossed) -> int:
        return linear_flops(context.get(self.context_width, 0), self.context_width, self.width)


@dataclass(frozen=True, kw_only=True)
class JepaCondition:
    """How each token's queries and keys are turned; which tokens stand for what is read across, and that."""

    cos: Float[Tensor, "n d"]
    sin: Float[Tensor, "n d"]
    stands: Bool[Tensor, " n"]
    read: Float[Tensor, "b m w"] | None


class JepaFrame(nn.Module):
    """What is read across on entry, a layer norm at the end."""

    def __init__(self, spec: JepaPredictor) -> None:
        super().__init__()
        self.spec = spec
        self.norm = nn.LayerNorm(spec.width, eps=spec.eps)
        if spec.context_width:
            self.read = nn.Linear(spec.context_width, spec.width)

    def condition(
        self,
        level: Tensor,
        counts: tuple[int, ...],
        places: Places,
        contexts: tuple[Context, ...],
        modulation: Tensor | None,
    ) -> JepaCondition:
        context = context_of(contexts, self.spec.context_width)
        if modulation is not None or len(contexts) != (context is not None):
            raise InputError(
                where="JepaPredictor",
                expected="joint edges, and cross edges from states of its context_width",
                got="another edge",
                do="Read the other group by one of these.",
            )
        cos, sin = tables(places.grid, self.spec)
        stands = places.grid[:, 1].isnan()
        read = None
        if context is not None:
            read = self.read(context.hidden)
            if int(stands.sum()) != read.shape[1]:
                raise InputError(
                    where="JepaPredictor",
                    expected=f"a state for each of the {int(stands.sum())} tokens without a row and a column",
                    got=str(read.shape[1]),
                    do="Give the stream that is read as many tokens.",
                )
        return JepaCondition(cos=cos, sin=sin, stands=stands, read=read)

    def enter(self, x: Float[Tensor, "b n w"], condition: JepaCondition) -> Float[Tensor, "b n w"]:
        if condition.read is None:
            return x
        order = condition.stands.long().cumsum(dim=0) - 1
        more = condition.read[:, order.clamp(min=0)] * condition.stands[:, None]
        return x + more

    def finish(self, x: Float[Tensor, "b n w"], condition: JepaCondition) -> Float[Tensor, "b n w"]:
        return self.norm(x)


class JepaBlock(nn.Module):
    """One layer, cut around the softmax."""

    def __init__(self, spec: JepaPredictor) -> None:
        super().__init__()
        w = spec.width
        self.heads = spec.heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(w, eps=spec.eps), nn.LayerNorm(w, eps=spec.eps)
        self.qkv, self.out = nn.Linear(w, 3 * w), nn.Linear(w, w)
        self.up, self.down = nn.Linear(w, spec.mlp), nn.Linear(spec.mlp, w)

    def before(self, x: Float[Tensor, "b n w"], condition: JepaCondition) -> tuple[QKV, None]:
        q, k, v = rearrange(self.qkv(self.norm_attention(x)), "b n (three h d) -> three b n h d", three=3, h=self.heads)
        return QKV(q=turned(q, condition), k=turned(k, condition), v=v), None

    def after(
        self, x: Float[Tensor, "b n w"], attended: Float[Tensor, "b n w"], carry: None, condition: JepaCondition
    ) -> Float[Tensor, "b n w"]:
        x = x + self.out(attended)
        return x + self.down(functional.gelu(self.up(self.norm_mlp(x))))


def tables(grid: Float[Tensor, "n 3"], spec: JepaPredictor) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
    """Cosine and sine by channel. The frequencies of an axis stand one after the other, twice, beside channels that
    are turned in adjacent pairs: so it was trained (``rotate_queries_or_keys`` of V-JEPA 2), and so it is here."""
    rows, columns = spec.grid_hw
    scaled = grid * torch.tensor([1.0, 1.0, rows / columns], device=grid.device)
    angle = axis_angles(scaled, (spec.turned,) * 3, THETA)
    tiled = [part.repeat(1, 2) for part in angle.chunk(3, dim=-1)]
    rest = angle.new_zeros(len(grid), spec.head_dim - 3 * spec.turned)
    whole = torch.cat([*tiled, rest], dim=-1)
    return whole.cos().float(), whole.sin().float()


def turned(x: Float[Tensor, "b n h d"], condition: JepaCondition) -> Float[Tensor, "b n h d"]:
    """Each channel with its neighbour."""
    size = x.shape[-1] // 2 * 2  # a head of odd size leaves its last channel alone
    even, odd = x[..., :size:2], x[..., 1:size:2]
    beside = functional.pad(torch.stack([-odd, even], dim=-1).flatten(-2), (0, x.shape[-1] - size))
    cos, sin = (part.to(x.dtype)[:, None] for part in (condition.cos, condition.sin))
    return x * cos + beside * sin
