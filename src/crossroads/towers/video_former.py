"""VPP's Video Former: a few learned tokens of every frame gather what a video network's feature maps hold.

Hu et al. 2024, arXiv 2412.14803 (MIT code, ``Video_Former_3D``): in each layer the tokens of a frame read that frame's
features and themselves, then the tokens of one number read each other over time, then a feed-forward network.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.errors import InputError
from crossroads.towers.forward import ForwardFrame, ForwardTower, Told
from crossroads.towers.spec import context_of


@dataclass(frozen=True, kw_only=True)
class VideoFormer(ForwardTower):
    """Sizes.

    ``frames`` of ``per_frame`` tokens, which the tower's stream holds frame by frame. ``context_width``: of the
    features. ``head_dim``: of the heads that read them; over time ``width`` is shared among as many. ``over_time``:
    whether tokens read each other over time. ``cameras``: of as many the features hold a clip each.
    ``num_places``: learned places in time (0: one for each frame).
    """

    width: int  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]
    depth: int
    heads: int
    head_dim: int
    context_width: int
    frames: int
    per_frame: int
    cameras: int = 1
    over_time: bool = True
    num_places: int = 0

    @property
    def num_taps(self) -> int:
        return 0

    def tap_width(self, tap: int) -> int:
        return self.width

    def tap_tokens(self, num_tokens: int, tap: int) -> int:
        return num_tokens

    def frame(self) -> VideoFormerFrame:
        return VideoFormerFrame(self)


class FrameReading(nn.Module):
    """Tokens of a frame read its features and themselves; no biases."""

    def __init__(self, spec: VideoFormer) -> None:
        super().__init__()
        w, inner = spec.width, spec.heads * spec.head_dim
        self.heads = spec.heads
        self.norm_read, self.norm_own = nn.LayerNorm(w), nn.LayerNorm(w)
        self.q, self.k, self.v = (nn.Linear(w, inner, bias=False) for _ in range(3))
        self.out = nn.Linear(inner, w, bias=False)

    def forward(self, x: Float[Tensor, "b n w"], read: Float[Tensor, "b m w"]) -> Float[Tensor, "b n w"]:
        own = self.norm_own(x)
        keys = torch.cat([self.norm_read(read), own], dim=1)
        return self.out(_attended(self.q(own), self.k(keys), self.v(keys), self.heads))


class TimeReading(nn.Module):
    """Tokens of one number read each other; no norm before."""

    def __init__(self, spec: VideoFormer) -> None:
        super().__init__()
        self.heads = spec.heads
        self.qkv, self.out = nn.Linear(spec.width, 3 * spec.width), nn.Linear(spec.width, spec.width)

    def forward(self, x: Float[Tensor, "b t w"]) -> Float[Tensor, "b t w"]:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return self.out(_attended(q, k, v, self.heads))


class VideoFormerLayer(nn.Module):
    """One layer, over ``b t q w``."""

    def __init__(self, spec: VideoFormer) -> None:
        super().__init__()
        w = spec.width
        self.read = FrameReading(spec)
        self.over_time = TimeReading(spec) if spec.over_time else None
        self.norm = nn.LayerNorm(w)
        self.up, self.down = nn.Linear(w, 4 * w, bias=False), nn.Linear(4 * w, w, bias=False)

    def forward(self, x: Float[Tensor, "b t q w"], read: Float[Tensor, "bt m w"]) -> Float[Tensor, "b t q w"]:
        batch, num = x.shape[0], x.shape[2]
        frames = rearrange(x, "b t q w -> (b t) q w")
        frames = frames + self.read(frames, read)
        if self.over_time is not None:
            apart = rearrange(frames, "(b t) q w -> (b q) t w", b=batch)
            apart = apart + self.over_time(apart)
            frames = rearrange(apart, "(b q) t w -> (b t) q w", q=num)
        frames = frames + self.down(functional.gelu(self.up(self.norm(frames))))
        return rearrange(frames, "(b t) q w -> b t q w", b=batch)


class VideoFormerFrame(ForwardFrame):
    """The module of :class:`VideoFormer`; its learned tokens are its stream's."""

    def __init__(self, spec: VideoFormer) -> None:
        super().__init__()
        self.spec = spec
        w = spec.width
        self.enter_in, self.enter_out = nn.Linear(spec.context_width, 2 * w), nn.Linear(2 * w, w)
        self.time = nn.Parameter(torch.randn(spec.num_places or spec.frames, 1, w))
        self.layers = nn.ModuleList(VideoFormerLayer(spec) for _ in range(spec.depth))
        self.norm = nn.LayerNorm(w)

    def enter(self, x: Float[Tensor, "b n w"], condition: Told) -> Float[Tensor, "b n w"]:
        features = context_of(condition.contexts, self.spec.context_width)
        if features is None:
            raise InputError(
                where="VideoFormer tower",
                expected=f"features {self.spec.context_width} wide that are read by a cross edge",
                got="none",
                do="Read the video network across, at a tap.",
            )
        spec = self.spec  # the clips of several cameras lie one behind the other
        by_frame = rearrange(features.hidden, "b (k t m) w -> b t (k m) w", k=spec.cameras, t=spec.frames)
        return self.gathered(rearrange(x, "b (t q) w -> b t q w", t=spec.frames), by_frame)

    def gathered(
        self, x: Float[Tensor, "b t q w"], features: Float[Tensor, "b t m c"], beside: Tensor | None = None
    ) -> Float[Tensor, "b n w"]:
        """The tokens of all frames, frame by frame. ``beside``: more to read in each frame, as wide as the tower."""
        read = self.enter_out(functional.gelu(self.enter_in(features)))
        if beside is not None:
            read = torch.cat([read, beside[:, None].expand(-1, read.shape[1], -1, -1)], dim=2)
        read = rearrange(read + self.time[: read.shape[1]], "b t m w -> (b t) m w")
        for layer in self.layers:
            x = layer(x, read)
        return self.norm(rearrange(x, "b t q w -> b (t q) w"))


def _attended(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Float[Tensor, "b n e"]:
    q, k, v = (rearrange(flat, "b n (h d) -> b h n d", h=heads) for flat in (q, k, v))
    return rearrange(functional.scaled_dot_product_attention(q, k, v), "b h n d -> b n (h d)")
