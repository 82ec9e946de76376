"""Several datasets in one batch, by weight: which sample of which dataset stands at a place is computed, not drawn.

A place of the mixture is given to a dataset by halving: so many of the first n places are the first dataset's as its
share of n, rounded; of those that are left so many are the second's, and so on. So after any number of samples each
dataset has given its share to within one sample for each dataset before it, and how many that were is a formula, not a
count that a killed run could lose. A dataset's samples are all seen once before one is seen twice (`data/order.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from crossroads.data.order import ALONE, Order, Share
from crossroads.errors import InputError
from crossroads.types import Batch, Observation


class Samples(Protocol):
    """Random access to training samples (`data/window.py`)."""

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int] | np.ndarray) -> Batch: ...


def shares(sizes: Sequence[int], weights: Sequence[float], temperature: float) -> tuple[float, ...]:
    """What part of all samples each dataset gives: ``(weight * size) ** (1 / temperature)``, scaled to a sum of one.

    At a temperature of 1 and equal weights every sample of every dataset is as likely; the higher it is, the more equal
    are the datasets (Devlin et al., multilingual BERT 2018; pi0, arXiv 2410.24164, takes size to the power 0.43).
    """
    if len(weights) != len(sizes) or not sizes or min(weights) <= 0 or not 0 < temperature < float("inf"):
        raise InputError(
            where="mixture of datasets",
            expected=f"a weight above zero for each of {len(sizes)} datasets, and a temperature above zero",
            got=f"weights {tuple(weights)}, temperature {temperature:g}",
            do="Give one weight per dataset, or none.",
        )
    powers = np.exp((np.log(np.array(weights, float)) + np.log(np.array(sizes, float))) / temperature)
    return tuple((powers / powers.sum()).tolist())


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Which samples a step takes, of datasets of these sizes laid behind each other."""

    sizes: tuple[int, ...]
    shares: tuple[float, ...]
    seed: int
    batch_size: int
    share: Share = ALONE

    def rows(self, step: int) -> np.ndarray:
        """The samples of this process's batch of one step."""
        which, places = self._turns(self.share.positions(step, self.batch_size))
        starts = np.cumsum(self.sizes) - self.sizes
        found = np.empty(self.batch_size, np.int64)
        for index in np.unique(which):
            here = which == index
            order = Order(num_samples=self.sizes[index], seed=_seed(self.seed, int(index)))
            found[here] = starts[index] + order.at(places[here])
        return found

    def seen(self, steps: int) -> tuple[int, ...]:
        """How many samples of each dataset all processes together have seen after so many steps; exact."""
        total = np.array([steps * self.batch_size * self.share.num_ranks])
        return tuple(int(number) for number in self._counts(total)[0])

    def _turns(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The dataset of each position, and how many samples that one has given before."""
        before, after = self._counts(positions), self._counts(positions + 1)
        which = np.argmax(after - before, axis=1)
        return which, before[np.arange(len(which)), which]

    def _counts(self, totals: np.ndarray) -> np.ndarray:
        """How many of the first so many places belong to each dataset, ``[totals, datasets]``."""
        left, rest = totals.astype(np.int64), 1.0
        counts = np.zeros((len(left), len(self.shares)), np.int64)
        for index, part in enumerate(self.shares[:-1]):
            counts[:, index] = np.minimum(np.floor(left * (part / rest) + 0.5).astype(np.int64), left)
            left, rest = left - counts[:, index], rest - part
        counts[:, -1] = left
        return counts


def _seed(seed: int, index: int) -> int:
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0])


@dataclass(frozen=True, kw_only=True)
class Joined:
    """Sources laid behind each other; their samples have the same cameras, sizes and numbers."""

    sources: tuple[Samples, ...]

    def __len__(self) -> int:
        return sum(len(source) for source in self.sources)

    def batch(self, indices: Sequence[int] | np.ndarray) -> Batch:
        """Samples of one or several sources, in the order asked for."""
        chosen = np.asarray(indices, np.int64)
        ends = np.cumsum([len(source) for source in self.sources])
        if len(chosen) and not (chosen.min() >= 0 and chosen.max() < ends[-1]):
            raise IndexError(f"Joined.batch: expected indices from 0 to {ends[-1] - 1}, got {chosen.tolist()}.")
        which = np.searchsorted(ends, chosen, side="right")
        parts, order = [], []
        for index in np.unique(which):
            here = np.flatnonzero(which == index)
            source = self.sources[index]
            parts.append(source.batch(chosen[here] - (ends[index] - len(source))))
            order.append(here)
        if len(parts) == 1:
            return parts[0]
        return _together(parts, torch.from_numpy(np.argsort(np.concatenate(order), kind="stable")))


def _together(parts: Sequence[Batch], order: Tensor) -> Batch:
    """Batches as one, its samples in this order of the parts' laid behind each other."""
    first, chosen = parts[0], order.tolist()
    texts = [text for part in parts for text in part.answer]
    tensors = {
        one.name: torch.cat([getattr(part, one.name) for part in parts])[order]
        for one in fields(Batch)
        if isinstance(getattr(first, one.name), Tensor)
    }
    future = {name: torch.cat([part.future[name] for part in parts])[order] for name in first.future}
    seen = [part.obs for part in parts]
    obs = Observation(
        images={name: torch.cat([one.images[name] for one in seen])[order] for name in first.obs.images},
        state=torch.cat([one.state for one in seen])[order],
        text=tuple([text for one in seen for text in one.text][row] for row in chosen),
        robot=tuple([robot for one in seen for robot in one.robot][row] for row in chosen),
        time_s=torch.cat([one.time_s for one in seen])[order],
    )
    return replace(first, obs=obs, future=future, answer=tuple(texts[row] for row in chosen), **tensors)
