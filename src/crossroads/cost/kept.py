"""What the backward pass keeps, as numbers in two precisions."""

from __future__ import annotations

from dataclasses import dataclass

BOUND = 30
"""Numbers that the variational bound (``diffusion.Process.bound``) keeps of each that is answered; counted."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Numbers kept in the precision that matrix products run in (``narrow``), and in float32 (``wide``); ``cast``:
    copies of float32 numbers that a product makes for itself where it is narrower."""

    narrow: int = 0
    wide: int = 0
    cast: int = 0

    @classmethod
    def of(cls, counted: tuple[int, int]) -> Kept:
        """What a call was counted to keep."""
        return cls(narrow=counted[0], wide=counted[1])

    def __add__(self, other: Kept) -> Kept:
        return Kept(narrow=self.narrow + other.narrow, wide=self.wide + other.wide, cast=self.cast + other.cast)

    def times(self, count: int) -> Kept:
        """So many of the same."""
        return Kept(narrow=self.narrow * count, wide=self.wide * count, cast=self.cast * count)

    def bytes(self, narrow_bytes: int) -> int:
        return (self.narrow + (self.cast if narrow_bytes < 4 else 0)) * narrow_bytes + self.wide * 4


@dataclass(frozen=True, kw_only=True)
class Pass:
    """What one layer of a tower is given: its tokens, the runs of them with a level of their own, its context."""

    num_tokens: int
    num_levels: int
    num_context: int
