"""A tower without layers: what its codecs deliver is what other towers read.

Published video models read the words of a frozen language encoder (UMT5 for Wan, arXiv 2503.20314), and Fast-WAM
(arXiv 2603.16666) appends the robot state to those words as one more token of the same width; nothing runs in between.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from crossroads.errors import InputError
from crossroads.towers.spec import Context, Crossed, Heads, Places


@dataclass(frozen=True, kw_only=True)
class Given:
    """Tokens of ``width``, handed on as they are."""

    width: int

    @property
    def geometry(self) -> Heads:
        return Heads(depth=0, heads=0, kv_heads=0, head_dim=0)

    def num_parameters(self) -> int:
        return 0

    def layer_flops(self, num_tokens: int, context: Crossed) -> int:
        return 0

    def key_flops(self, num_tokens: int) -> int:
        return 0

    def frame_flops(self, num_levels: int, context: Crossed) -> int:
        return 0


class GivenFrame(nn.Module):
    """Nothing on entry, nothing at the end."""

    def __init__(self, spec: Given) -> None:
        super().__init__()
        self.spec = spec

    def condition(
        self,
        level: Tensor,
        counts: tuple[int, ...],
        places: Places,
        contexts: tuple[Context, ...],
        modulation: Tensor | None,
    ) -> None:
        if contexts or modulation is not None:
            raise InputError(
                where="Given tower",
                expected="no edges into a tower without layers",
                got="a cross or modulate edge",
                do="Read the other group from a tower that has layers.",
            )

    def enter(self, x: Float[Tensor, "b n w"], condition: None) -> Float[Tensor, "b n w"]:
        return x

    def finish(self, x: Float[Tensor, "b n w"], condition: None) -> Float[Tensor, "b n w"]:
        return x
