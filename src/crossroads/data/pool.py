"""Training without a cache: episodes are decoded whole, once per epoch, and their windows mixed as they pass by.

Reading windows one by one decodes each picture as often as windows overlap it. Here the episodes are shuffled and pass
through memory, some at a time: one more enters at each turn, and gives a part of its windows, drawn at random, to each
turn until it leaves. Threads that share the memory decode the next ones meanwhile. The price is told by `sameness`: two
samples of a batch are of one episode more often than if all windows were shuffled, and the first and last turns of an
epoch mix fewer. (RLDS and WebDataset mix shards likewise; Robo-DM, 2505.15558, decodes sequentially.)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import lru_cache
from threading import Lock
from typing import Protocol

import numpy as np

from crossroads.data.direct import Request, threads
from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.resize import resize
from crossroads.data.window import Windows
from crossroads.errors import InputError
from crossroads.types import Batch

_AHEAD = 2
"""Episodes that are decoded before they are needed."""


class Placed(Protocol):
    """An order of samples (`crossroads.data.order.Order`)."""

    def at(self, positions: np.ndarray) -> np.ndarray: ...


class Served(Protocol):
    """Random access to windows (`crossroads.data.window.Windows`, or something around them)."""

    def batch(self, indices: Sequence[int] | np.ndarray) -> Batch: ...


class PoolOrder:
    """Each window once per epoch; at any time, those of `pool_episodes` episodes are mixed.

    A function of seed, epoch and position alone.
    """

    def __init__(self, windows: Windows, *, pool_episodes: int, seed: int) -> None:
        if pool_episodes < 1 or not len(windows):
            raise InputError(
                where="order in pools",
                expected="at least one window, and one episode in a pool",
                got=f"{len(windows)} windows, pools of {pool_episodes}",
                do="Give some.",
            )
        self.windows, self.seed = windows, seed
        self._counts = np.diff(windows.ends, prepend=0)
        self.pool_episodes = min(pool_episodes, len(self._counts))
        self._epoch = lru_cache(maxsize=2)(self._make_epoch)
        self._turn = lru_cache(maxsize=4)(self._make_turn)

    def at(self, positions: np.ndarray) -> np.ndarray:
        """The windows at these positions, which count on through the epochs."""
        positions = np.asarray(positions, np.int64)
        found = np.empty(positions.shape, np.int64)
        for epoch, turn, here, inside in self._located(positions):
            found[here] = self._turn(epoch, turn)[inside]
        return found

    def episodes(self, positions: np.ndarray, *, ahead: int) -> list[int]:
        """The episodes that are in memory at these positions, and so many that enter next."""
        found: list[int] = []
        epoch, last = 0, 0
        for epoch, last, _, _ in self._located(np.asarray(positions, np.int64)):
            found += self._epoch(epoch)[0][max(0, last - self.pool_episodes + 1) : last + 1].tolist()
        coming = self._epoch(epoch)[0][last + 1 : last + 1 + ahead].tolist()
        if len(coming) < ahead:
            coming += self._epoch(epoch + 1)[0][: ahead - len(coming)].tolist()
        return self.windows.episodes[list(dict.fromkeys(found + coming))].tolist()

    def _located(self, positions: np.ndarray) -> Iterable[tuple[int, int, np.ndarray, np.ndarray]]:
        """Epoch and turn, which of the positions are in it, and their places there."""
        epochs, places = np.divmod(positions, len(self.windows))
        for epoch in np.unique(epochs).tolist():
            ends = self._epoch(epoch)[1]
            turns = np.where(epochs == epoch, np.searchsorted(ends, places, side="right"), -1)
            for turn in np.unique(turns[turns >= 0]).tolist():
                here = turns == turn
                yield epoch, turn, here, places[here] - (ends[turn - 1] if turn else 0)

    def _make_epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """In which order episodes enter, and how many windows there are up to the end of each turn."""
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self._counts))
        counts = self._counts[order]
        sizes = np.zeros(len(order) + self.pool_episodes - 1, np.int64)
        for age in range(self.pool_episodes):
            sizes[age : age + len(order)] += self._given(counts, age + 1) - self._given(counts, age)
        return order, np.cumsum(sizes)

    def _given(self, counts: np.ndarray, turns: int | np.ndarray) -> np.ndarray:
        """How many of its windows an episode has given after so many turns."""
        return counts * turns // self.pool_episodes

    def _make_turn(self, epoch: int, turn: int) -> np.ndarray:
        """The windows of one turn: each episode in memory gives those that its age tells, of its own random order."""
        order, parts = self._epoch(epoch)[0], []
        for place in range(max(0, turn - self.pool_episodes + 1), min(turn + 1, len(order))):
            one = order[place]
            own = np.random.default_rng((self.seed, epoch, place, 0)).permutation(self._counts[one])
            given = self._given(np.full(2, len(own)), turn - place + np.arange(2))
            parts.append(self.windows.ends[one] - len(own) + own[given[0] : given[1]])
        return np.random.default_rng((self.seed, epoch, turn, 1)).permutation(np.concatenate(parts))


def sameness(order: Placed, windows: Windows, *, batch_size: int, num_batches: int) -> float:
    """How often two samples of one batch are of one episode, over the first batches of an order."""
    episode = windows.locate(order.at(np.arange(batch_size * num_batches)))[0].reshape(num_batches, batch_size)
    same = (episode[:, :, None] == episode[:, None]).sum() - episode.size
    return float(same / (num_batches * batch_size * (batch_size - 1)))


@dataclass(kw_only=True)
class FramePool:
    """The pictures of the episodes that were asked for last, in memory; several are decoded at once."""

    dataset: LeRobotDataset
    cameras: tuple[str, ...]
    image_hw: tuple[int, int]
    max_episodes: int
    _held: OrderedDict[tuple[str, int], Future[np.ndarray]] = field(default_factory=OrderedDict)
    _lock: Lock = field(default_factory=Lock)

    def read(self, requests: Sequence[Request]) -> None:
        """Fill what is asked for, decoding the whole of each episode that is not held."""
        needed = [(one, episode) for one in requests for episode in np.unique(one.episode).tolist()]
        held = [self._hold(one.camera, episode) for one, episode in needed]
        for (one, episode), pictures in zip(needed, held, strict=True):
            here = one.episode == episode
            one.out[here] = pictures.result()[one.frame[here]]

    def prepare(self, episodes: Iterable[int]) -> None:
        """Hold these, decoding in the background what is not held."""
        for episode in episodes:
            for camera in self.cameras:
                self._hold(camera, episode)

    def _hold(self, camera: str, episode: int) -> Future[np.ndarray]:
        key = (camera, episode)
        with self._lock:
            if key not in self._held:
                self._held[key] = threads().submit(self._decode, camera, episode)
                while len(self._held) > self.max_episodes * len(self.cameras):
                    self._held.popitem(last=False)
            self._held.move_to_end(key)
            return self._held[key]

    def _decode(self, camera: str, episode: int) -> np.ndarray:
        return resize(self.dataset.frames(episode, camera, None), self.image_hw)


@dataclass(frozen=True, kw_only=True)
class PooledSource:
    """Batches as a function of the step, from pools that are decoded ahead; make one with `of`."""

    windows: Served
    order: PoolOrder
    pool: FramePool
    batch_size: int

    @classmethod
    def of(cls, windows: Windows, *, batch_size: int, seed: int, pool_episodes: int = 16) -> PooledSource:
        """The same windows, read through a pool instead of what they were made with."""
        window = windows.window
        pool = FramePool(
            dataset=windows.dataset,
            cameras=tuple(window.cameras),
            image_hw=(window.image_hw[0], window.image_hw[1]),
            max_episodes=pool_episodes + _AHEAD + 1,
        )
        pooled = windows.through(pool)
        order = PoolOrder(pooled, pool_episodes=pool_episodes, seed=seed)
        return cls(windows=pooled, order=order, pool=pool, batch_size=batch_size)

    def batch(self, step: int) -> Batch:
        """The batch of a step; what follows is being decoded when it is there."""
        positions = step * self.batch_size + np.arange(self.batch_size)
        batch = self.windows.batch(self.order.at(positions))
        self.pool.prepare(self.order.episodes(positions, ahead=_AHEAD))
        return batch
