"""What a policy saw at its last few steps, read across: pictures and state step by step, as Diffusion Policy does.

Chi et al. 2023, arXiv 2303.04137 (MIT): the features of all cameras and the state of one step are one vector; the
policy is told those of the last steps, and the step of its process by a wave and two linear maps or by one more token.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from crossroads.errors import InputError
from crossroads.towers.spec import Context, context_of


@dataclass(frozen=True, kw_only=True)
class ObservedSteps:
    """``num`` steps, at each of them the features of ``cameras`` (``image_width`` numbers each), a state of
    ``state_width`` and an instruction of ``words_width``, the same at each; any may be missing. They are told apart by
    their widths."""

    num: int
    cameras: int = 0
    image_width: int = 0
    state_width: int = 0
    words_width: int = 0

    def __post_init__(self) -> None:
        widths = self.widths
        if bool(self.cameras) != bool(self.image_width) or not widths or len(set(widths)) < len(widths):
            raise InputError(
                where="ObservedSteps",
                expected="pictures, a state or words, each of another width",
                got=f"{self.cameras} cameras of {self.image_width} numbers, a state of {self.state_width}, words of "
                f"{self.words_width}",
                do="Change one of the widths.",
            )

    @property
    def widths(self) -> tuple[int, ...]:
        """Of what there is to read."""
        return tuple(width for width in (self.image_width, self.state_width, self.words_width) if width)

    @property
    def width(self) -> int:
        """Numbers of one step."""
        return self.cameras * self.image_width + self.state_width + self.words_width

    def of(self, contexts: tuple[Context, ...]) -> Float[Tensor, "b t c"]:
        """One vector for each step.

        Raises:
            InputError: an edge from one of them is missing, or has other tokens.
        """
        wanted = {self.image_width: self.num * self.cameras, self.state_width: self.num, self.words_width: 1}
        parts = []
        for width, num in wanted.items():
            if not width:
                continue
            context = context_of(contexts, width)
            if context is None or context.hidden.shape[1] != num:
                raise InputError(
                    where="observed steps",
                    expected=f"{num} tokens of {width} numbers, read by a cross edge",
                    got="none" if context is None else f"{context.hidden.shape[1]} tokens",
                    do="Add the cross edge, or correct the sizes.",
                )
            shown = context.hidden * context.valid.unsqueeze(-1)
            steps = shown.expand(-1, self.num, -1) if width == self.words_width else shown
            parts.append(rearrange(steps, "b (t v) c -> b t (v c)", t=self.num))
        return torch.cat(parts, dim=-1)


def step_wave(step: Tensor, width: int) -> Float[Tensor, "*b w"]:
    """``[sin, cos](t / 10000^(i / (half - 1)))``, the first frequency 1 and the last 1 / 10000 (``SinusoidalPosEmb`` of
    Diffusion Policy and of VPP's denoiser)."""
    half = width // 2
    place = torch.arange(half, dtype=torch.float64, device=step.device) * (-math.log(1e4) / (half - 1))
    angle = step.double().unsqueeze(-1) * place.exp()
    return torch.cat([angle.sin(), angle.cos()], dim=-1).float()
