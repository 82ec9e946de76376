"""A clip of tokens in which masked ones are guessed all at once, and a frame written in a few such guesses (MaskGIT).

Genie's dynamics model (Bruce et al. 2024, arXiv 2402.15391, section 2.2), as 1X's open STMaskGIT has it (``1xgpt``,
Apache-2.0): a token's number is written in digits, each with a table and a head of its own; the schedule of guesses is
MaskGIT's cosine (Chang et al. 2022, arXiv 2202.04200).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from crossroads.codecs.space_time import SpaceTime, SpaceTimeNet
from crossroads.errors import InputError
from crossroads.streams import linear_flops, linear_parameters


@dataclass(frozen=True, kw_only=True)
class MaskedClip:
    """``num_frames`` of ``num_tokens`` out of ``base ** num_digits``; the number behind the last one is the mask."""

    num_frames: int
    num_tokens: int
    base: int
    num_digits: int
    blocks: SpaceTime

    @property
    def mask(self) -> int:
        return self.base**self.num_digits

    def num_parameters(self) -> int:
        w, out = self.blocks.width, self.base * self.num_digits
        tables = (out + 1 + self.num_frames * self.num_tokens) * w
        return tables + self.blocks.num_parameters() + linear_parameters(w, out)

    def flops(self) -> int:
        """One guess of a clip."""
        read = linear_flops(self.num_frames * self.num_tokens, self.blocks.width, self.base * self.num_digits)
        return self.blocks.flops(self.num_frames, self.num_tokens) + read

    def digits(self, tokens: Int[Tensor, "*b"]) -> Int[Tensor, "*b digits"]:
        """The lowest digit first."""
        powers = self.base ** torch.arange(self.num_digits, device=tokens.device)
        return tokens.unsqueeze(-1) // powers % self.base

    def number(self, digits: Int[Tensor, "*b digits"]) -> Int[Tensor, "*b"]:
        """The way back from :meth:`digits`."""
        return (digits * self.base ** torch.arange(self.num_digits, device=digits.device)).sum(dim=-1)

    def masked_after(self, step: int, steps: int) -> int:
        """How many tokens of a frame are masked again after one of so many guesses but the last."""
        return math.ceil(math.cos(math.pi / 2 * (step + 1) / steps) * self.num_tokens)


class MaskedClipNet(nn.Module):
    """The module of :class:`MaskedClip`."""

    def __init__(self, spec: MaskedClip) -> None:
        super().__init__()
        self.spec = spec
        w = spec.blocks.width
        self.tables = nn.ModuleList(nn.Embedding(spec.base, w) for _ in range(spec.num_digits))
        self.mask = nn.Parameter(torch.zeros(w))
        self.places = nn.Parameter(torch.zeros(spec.num_frames, spec.num_tokens, w))
        self.blocks = SpaceTimeNet(spec.blocks)
        self.scores = nn.Linear(w, spec.base * spec.num_digits)

    def forward(
        self, tokens: Int[Tensor, "b t n"], actions: Float[Tensor, "b t d"] | None = None
    ) -> Float[Tensor, "b t n digits base"]:
        """Scores of every digit of every token; ``actions`` are added to all tokens of a frame (Genie, section 2.2)."""
        hidden = tokens == self.spec.mask
        digits = self.spec.digits(tokens.masked_fill(hidden, 0))
        known = torch.stack([table(digits[..., index]) for index, table in enumerate(self.tables)]).sum(dim=0)
        x = torch.where(hidden[..., None], self.mask, known) + self.places
        if actions is not None:
            x = x + actions[:, :, None]
        return self.scores(self.blocks(x)).unflatten(-1, (self.spec.num_digits, self.spec.base))

    def errors(
        self, scores: Float[Tensor, "b t n digits base"], tokens: Int[Tensor, "b t n"]
    ) -> tuple[Float[Tensor, "b t n"], Bool[Tensor, "b t n"]]:
        """Cross-entropy of each token, summed over its digits; and whether all of them are found."""
        digits = self.spec.digits(tokens)
        error = functional.cross_entropy(scores.movedim(-1, 1).float(), digits, reduction="none")
        return error.sum(dim=-1), (scores.argmax(dim=-1) == digits).all(dim=-1)

    @torch.no_grad()
    def write(
        self,
        tokens: Int[Tensor, "b t n"],
        frame: int,
        steps: int,
        order: Callable[[Float[Tensor, "b n"]], Float[Tensor, "b n"]],
        actions: Float[Tensor, "b t d"] | None = None,
    ) -> Int[Tensor, "b n"]:
        """A masked frame in ``steps`` guesses. ``order``: confidences, of which ``order`` may make others; after each
        guess the tokens with the lowest are masked again. What was kept once stays.

        Raises ``InputError`` for a frame that is not masked, or the first.
        """
        if not (0 < frame < tokens.shape[1] and bool((tokens[:, frame:] == self.spec.mask).all())):
            raise InputError(
                where=f"masked clip, frame {frame}",
                expected="a masked frame with masked ones behind it, and a known one before",
                got="another",
                do="Write the frames one after the other.",
            )
        tokens = tokens.clone()
        kept = torch.zeros_like(tokens[:, frame], dtype=torch.bool)
        for step in range(steps):
            sure, digits = self(tokens, actions)[:, frame].softmax(dim=-1).max(dim=-1)
            found = torch.where(kept, tokens[:, frame], self.spec.number(digits))
            if step == steps - 1:
                return found
            confidence = order(sure.prod(dim=-1)).masked_fill(kept, math.inf)
            hidden = confidence.argsort(dim=1)[:, : self.spec.masked_after(step, steps)]
            kept = torch.ones_like(kept).scatter(1, hidden, False)
            tokens[:, frame] = found.scatter(1, hidden, self.spec.mask)
        raise InputError(where="masked clip", expected="at least one guess", got=str(steps), do="Take 2 or more.")
