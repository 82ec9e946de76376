"""Rotary positions of decoders and of the vision towers before them: halves of a head turned against each other.

Su et al. 2021, arXiv 2104.09864, in the order of channels that GPT-NeoX, Llama, Gemma and Qwen have.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


def frequencies(size: int, theta: float, device: torch.device | None = None) -> Float[Tensor, " half"]:
    """``theta^(-2 i / size)`` for half as many angles as there are channels."""
    return theta ** (-torch.arange(0, size, 2, dtype=torch.float32, device=device) / size)


@dataclass(frozen=True, kw_only=True)
class HalfTurns:
    """The rotation of the first half of the channels against the second, computed once and used by every layer:
    ``[cos, cos]`` and ``[-sin, sin]``, the same for all heads."""

    cos: Float[Tensor, "*b n 1 d"]
    sin: Float[Tensor, "*b n 1 d"]

    @classmethod
    def of(cls, angle: Float[Tensor, "*b n half"]) -> HalfTurns:
        cos, sin = angle.cos().unsqueeze(-2), angle.sin().unsqueeze(-2)
        return cls(cos=torch.cat([cos, cos], dim=-1), sin=torch.cat([-sin, sin], dim=-1))


def rotate_halves(x: Float[Tensor, "b n h d"], turns: HalfTurns) -> Float[Tensor, "b n h d"]:
    """Rotate the first half of the channels against the second (Gemma, Llama): with the halves of ``x`` exchanged, one
    product and one sum of products."""
    exchanged = x.roll(x.shape[-1] // 2, dims=-1)
    return torch.addcmul(x * turns.cos.to(x.dtype), exchanged, turns.sin.to(x.dtype))
