"""In which order samples are seen: a function of seed, epoch and step alone, however many there are.

A shuffled list of a billion windows is 8 GB in every process, and a random draw with replacement sees a third of them
never and a quarter of them more than once in an epoch. Here a position is *computed*: a small cipher permutes the
positions of an epoch (Feistel rounds, Luby and Rackoff 1988, on a rectangle just larger than the range, walking along a
cycle until it is back inside: Black and Rogaway 2002, "Ciphers with Arbitrary Finite Domains"). So nothing is kept;
workers, continued runs and other ranks agree without talking; and the cost does not depend on the number of samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from crossroads.errors import InputError

_ROUNDS = 6
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
"""The multipliers of SplitMix64 (Steele, Lea and Flood 2014)."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """An order of `num_samples` samples, another one in each epoch."""

    num_samples: int
    seed: int

    def __post_init__(self) -> None:
        if self.num_samples < 1:
            raise InputError(
                where="order of samples", expected="at least one sample", got=str(self.num_samples), do="Give some."
            )

    def at(self, positions: np.ndarray) -> np.ndarray:
        """The samples at these positions, which count on through the epochs: each is seen once per epoch."""
        positions = np.asarray(positions, np.int64)
        epochs, places = np.divmod(positions, self.num_samples)
        found = np.empty(positions.shape, np.int64)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            found[here] = self._permuted(places[here], int(epoch))
        return found

    def _permuted(self, places: np.ndarray, epoch: int) -> np.ndarray:
        keys = np.random.SeedSequence([self.seed, epoch]).generate_state(_ROUNDS, np.uint64)
        found, out = places.astype(np.uint64), np.arange(len(places))
        while len(out):  # the rectangle is larger than the range by less than one of its sides
            found[out] = _encipher(found[out], self.num_samples, keys)
            out = out[found[out] >= self.num_samples]
        return found.astype(np.int64)


def _encipher(values: np.ndarray, num: int, keys: np.ndarray) -> np.ndarray:
    """A permutation of the numbers below the area of the smallest rectangle with a side of sqrt(num) that holds num."""
    side = math.isqrt(num - 1) + 1
    sides = (np.uint64(side), np.uint64(-(-num // side)))
    left, right = values % sides[0], values // sides[0]
    for turn, key in enumerate(keys):
        if turn % 2:
            right = (right + _mixed(left, key)) % sides[1]
        else:
            left = (left + _mixed(right, key)) % sides[0]
    return right * sides[0] + left


def _mixed(values: np.ndarray, key: np.uint64) -> np.ndarray:
    """32 bits that depend on all bits of both."""
    mixed = values + key
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX[0]
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX[1]
    return mixed >> np.uint64(32)


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one of several processes takes of each step's samples; no two take the same."""

    rank: int = 0
    num_ranks: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.num_ranks:
            raise InputError(
                where="share of the samples",
                expected=f"a rank from 0 to {self.num_ranks - 1}",
                got=str(self.rank),
                do="Number the processes from 0.",
            )

    def positions(self, step: int, batch_size: int) -> np.ndarray:
        """The positions of this process's samples of one step, in an order that all processes share."""
        return (step * self.num_ranks + self.rank) * batch_size + np.arange(batch_size)


ALONE = Share()
"""The share of a single process."""
