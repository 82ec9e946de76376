"""What a group of tokens brings to a pass of its tower, and what it leaves behind for those that read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from jaxtyping import Bool, Float
from torch import Tensor

from crossroads.towers.spec import Places


@dataclass(frozen=True, kw_only=True)
class GroupInput:
    """A group's embedded tokens, their levels (each for as many tokens as the others) and which are real.

    ``start``: the number of the first token of the group that is there, cached or run; those before it are gone.
    ``heard``: levels of other streams that the tower is told as well. ``deep``: what the tower's first layers add to
    the tokens, layer by layer.
    """

    tokens: Float[Tensor, "b n w"]
    level: Float[Tensor, "b l"]
    valid: Bool[Tensor, "b n"]
    places: Places
    start: int = 0
    heard: Float[Tensor, "b o"] | None = None
    deep: Float[Tensor, "deep b n w"] | None = None


@dataclass(frozen=True, kw_only=True)
class GroupState:
    """What a group leaves behind: keys and values per layer, final hidden states (none of a group that was run for its
    keys alone), and hidden states at taps.

    ``start``: the number of the first of its tokens, where those before it have been forgotten. ``where``: vectors of
    the tokens' places, of towers that have such vectors. ``level``: that of the first of its
    tokens, for who hears it. ``index``: where its tokens stand in the running sequence, where a tower looks back only
    so far.
    """

    keys: tuple[Float[Tensor, "b n g d"], ...]
    values: tuple[Float[Tensor, "b n g d"], ...]
    hidden: Float[Tensor, "b _ w"]
    valid: Bool[Tensor, "b n"]
    taps: Mapping[int, Float[Tensor, "b _ _"]] = field(default_factory=dict)
    start: int = 0
    where: Float[Tensor, "b n w"] | None = None
    level: Float[Tensor, "b 1"] | None = None
    index: Float[Tensor, "b n"] | None = None

    def last(self, num: int) -> GroupState:
        """The same with all but the last ``num`` tokens forgotten."""
        gone = max(0, self.valid.shape[1] - num)
        return self._cut(slice(gone, None), self.start + gone)

    def first(self, num: int) -> GroupState:
        """The same without all but the first ``num`` tokens."""
        return self._cut(slice(num), self.start)

    def _cut(self, kept: slice, start: int) -> GroupState:
        return GroupState(
            keys=tuple(key[:, kept] for key in self.keys),
            values=tuple(value[:, kept] for value in self.values),
            hidden=self.hidden[:, kept],
            valid=self.valid[:, kept],
            taps={at: tap[:, kept] for at, tap in self.taps.items()},
            start=start,
            where=None if self.where is None else self.where[:, kept],
            index=None if self.index is None else self.index[:, kept],
            level=self.level,
        )

    def rows(self, rows: Tensor) -> GroupState:
        """The states of some samples."""
        return GroupState(
            keys=tuple(key[rows] for key in self.keys),
            values=tuple(value[rows] for value in self.values),
            hidden=self.hidden[rows],
            valid=self.valid[rows],
            taps={at: tap[rows] for at, tap in self.taps.items()},
            start=self.start,
            where=None if self.where is None else self.where[rows],
            index=None if self.index is None else self.index[rows],
            level=None if self.level is None else self.level[rows],
        )
