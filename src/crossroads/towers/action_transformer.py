"""Diffusion Policy's transformer: a decoder over a chunk of actions that reads the process' step and what was seen.

Chi et al. 2023, arXiv 2303.04137, section 4.1 (``TransformerForDiffusion``, MIT). Pre-norm layers with GELU. What is
read is one sequence, the step first and then one token for each observed step; an action reads no later action, and of
what was observed nothing later than itself. Without a sequence to read, the step goes before the actions instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.diffusion import step_at
from crossroads.errors import InputError
from crossroads.towers.forward import ForwardFrame, ForwardTower, Told
from crossroads.towers.observed_steps import ObservedSteps, step_wave


@dataclass(frozen=True, kw_only=True)
class ActionTransformer(ForwardTower):
    """Sizes. ``reading_depth``: layers over what is read; 0: a perceptron for each of its tokens alone. ``causal``: no
    action reads later ones. ``step_read``: the step of the process is read; else it is a token before the actions, and
    nothing is read. ``num_steps``: of the process."""

    width: int  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]
    depth: int
    heads: int
    num_actions: int
    seen: ObservedSteps | None
    reading_depth: int = 0
    causal: bool = True
    step_read: bool = True
    num_steps: int = 100

    def __post_init__(self) -> None:
        if self.seen and not self.step_read:
            raise InputError(
                where="ActionTransformer tower",
                expected="the step among what is read, where anything is observed",
                got="step_read False",
                do="Leave out seen, or read the step.",
            )

    @property
    def num_read(self) -> int:
        """Tokens that are read: the step, and one for each that was observed."""
        return (1 if self.step_read else 0) + (self.seen.num if self.seen else 0)

    @property
    def num_taps(self) -> int:
        return 0

    def tap_width(self, tap: int) -> int:
        return self.width

    def tap_tokens(self, num_tokens: int, tap: int) -> int:
        return num_tokens

    def frame(self) -> ActionTransformerFrame:
        return ActionTransformerFrame(self)


class Heads(nn.Module):
    """Attention of one sequence to another."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        nn.init.normal_(self.qkv.weight, std=0.02)

    def forward(
        self, x: Float[Tensor, "b n w"], read: Float[Tensor, "b m w"], mask: Bool[Tensor, "n m"] | None
    ) -> Float[Tensor, "b n w"]:
        weights, biases = self.qkv.weight.chunk(3), self.qkv.bias.chunk(3)
        q, k, v = (
            rearrange(functional.linear(part, weight, bias), "b n (h d) -> b h n d", h=self.heads)
            for part, weight, bias in zip((x, read, read), weights, biases, strict=True)
        )
        attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(rearrange(attended, "b h n d -> b n (h d)"))


class PreNormLayer(nn.Module):
    """Reads its own sequence, then perhaps another; then a perceptron four times as wide."""

    def __init__(self, width: int, heads: int, *, reads: bool = False, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm_own, self.own = nn.LayerNorm(width, eps=eps), Heads(width, heads)
        if reads:
            self.norm_read, self.read = nn.LayerNorm(width, eps=eps), Heads(width, heads)
        self.norm_mlp = nn.LayerNorm(width, eps=eps)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(
        self,
        x: Float[Tensor, "b n w"],
        mask: Bool[Tensor, "n n"] | None = None,
        read: Float[Tensor, "b m w"] | None = None,
        seen: Bool[Tensor, "n m"] | None = None,
    ) -> Float[Tensor, "b n w"]:
        own = self.norm_own(x)
        x = x + self.own(own, own, mask)
        if read is not None:
            x = x + self.read(self.norm_read(x), read, seen)
        return x + self.down(functional.gelu(self.up(self.norm_mlp(x))))


class ActionTransformerFrame(ForwardFrame):
    """The module of :class:`ActionTransformer`."""

    def __init__(self, spec: ActionTransformer) -> None:
        super().__init__()
        self.spec = spec
        w = spec.width
        self.places = nn.Parameter(0.02 * torch.randn(spec.num_actions + (0 if spec.step_read else 1), w))
        self.layers = nn.ModuleList(PreNormLayer(w, spec.heads, reads=spec.step_read) for _ in range(spec.depth))
        self.norm = nn.LayerNorm(w)
        if spec.step_read:
            self.read_places = nn.Parameter(0.02 * torch.randn(spec.num_read, w))
            layers = [PreNormLayer(w, spec.heads) for _ in range(spec.reading_depth)]
            if not spec.reading_depth:
                self.read_in, self.read_out = nn.Linear(w, 4 * w), nn.Linear(4 * w, w)
            self.read_layers = nn.ModuleList(layers)
        if spec.seen:
            self.seen = nn.Linear(spec.seen.width, w)

    def enter(self, x: Float[Tensor, "b n w"], condition: Told) -> Float[Tensor, "b n w"]:
        seen = self.spec.seen
        told = None if seen is None else seen.of(condition.contexts).to(x.dtype)
        return self.answer(x, step_at(condition.level[:, 0], self.spec.num_steps), told)

    def answer(
        self, x: Float[Tensor, "b n w"], step: Tensor, seen: Float[Tensor, "b t c"] | None
    ) -> Float[Tensor, "b n w"]:
        """The last states of some actions, at a step of the process."""
        told = step_wave(step, self.spec.width).to(x.dtype).unsqueeze(1)
        if not self.spec.step_read:
            return self.decoded(torch.cat([told, x], dim=1), None)[:, 1:]
        return self.decoded(x, self.what_is_read(told, seen))

    def what_is_read(self, told: Float[Tensor, "b 1 w"], seen: Float[Tensor, "b t c"] | None) -> Float[Tensor, "b m w"]:
        """The step and what was observed, as the actions read them."""
        tokens = told if seen is None else torch.cat([told, self.seen(seen)], dim=1)
        read = tokens + self.read_places
        if not self.spec.reading_depth:
            return self.read_out(functional.mish(self.read_in(read)))
        for layer in self.read_layers:
            read = layer(read, None)
        return read

    def decoded(self, x: Float[Tensor, "b n w"], read: Float[Tensor, "b m w"] | None) -> Float[Tensor, "b n w"]:
        """The actions through all layers."""
        x = x + self.places[: x.shape[1]]
        own, seen = (mask if mask is None else mask.to(x.device) for mask in self.masks(x.shape[1]))
        for layer in self.layers:
            x = layer(x, own, read, seen)
        return self.norm(x)

    def masks(self, num: int) -> tuple[Bool[Tensor, "n n"] | None, Bool[Tensor, "n m"] | None]:
        """What the tokens of a sequence of ``num`` may read, of their own and of what was observed: everything where
        None. Token 0 of what is read is the step; token i + 1 was observed when action i was made."""
        if not self.spec.causal:
            return None, None
        own = torch.ones(num, num, dtype=torch.bool).tril()
        if self.spec.seen is None:
            return own, None
        return own, torch.ones(num, self.spec.num_read, dtype=torch.bool).tril(1)
