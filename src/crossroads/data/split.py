"""Splits episodes: what is held out, and nested subsets of the labelled rest.

Frames of one session share light, table and person, so a session is never on both sides of a hold-out. Subsets of
growing size are nested (each holds the one before) and balanced over the instructions, so that a learning curve
compares amounts of data and not luck.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from crossroads.data.lerobot import Episode, LeRobotDataset
from crossroads.errors import InputError


def _text(episode: Episode) -> str:
    return episode.text


def hold_out(
    dataset: LeRobotDataset, fraction: float, seed: int, *, among: Sequence[int] | None = None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Episodes to train on, and episodes kept back: whole sessions when there are two or more, else single episodes.

    At least `fraction` of the frames of `among` (default: all episodes) is kept back, as little more as the units
    allow. Raises `InputError` when nothing would remain on one side.
    """
    if not 0 < fraction < 1:
        raise InputError(where="hold_out", expected="a fraction between 0 and 1", got=str(fraction), do="Choose one.")
    chosen = [dataset.episode(index) for index in (among if among is not None else range(len(dataset.episodes)))]
    sessions = {episode.session for episode in chosen}
    units: dict[int, list[Episode]] = defaultdict(list)
    for episode in chosen:
        units[episode.session if len(sessions) >= 2 else episode.index].append(episode)
    kind = "sessions" if len(sessions) >= 2 else "episodes"
    if len(units) < 2:
        raise InputError(
            where=f"{dataset.path}: hold-out",
            expected=f"at least 2 {kind}",
            got=str(len(units)),
            do="Record more: with a single one nothing can be kept back for measuring.",
        )
    order = np.random.default_rng(seed).permutation(sorted(units)).tolist()
    wanted = fraction * sum(episode.length for episode in chosen)
    kept: list[Episode] = []
    for unit in order[:-1]:
        if sum(episode.length for episode in kept) >= wanted:
            break
        kept += units[unit]
    back = {episode.index for episode in kept}
    train = tuple(sorted(episode.index for episode in chosen if episode.index not in back))
    return train, tuple(sorted(back))


def nested_subsets(
    dataset: LeRobotDataset,
    sizes: Sequence[int],
    seed: int,
    *,
    among: Sequence[int] | None = None,
    family: Callable[[Episode], str] = _text,
) -> dict[int, tuple[int, ...]]:
    """For each size that many labelled episodes of `among` (default: all), each subset inside the next.

    Every prefix is balanced: episodes are dealt round by round, one per `family` (default: per instruction), and within
    a family one session after the other. Raises `InputError` when there are fewer labelled episodes than asked for.
    """
    chosen = [dataset.episode(index) for index in (among if among is not None else range(len(dataset.episodes)))]
    labelled = [episode for episode in chosen if not episode.action_free]
    if not sizes or min(sizes) < 1 or max(sizes) > len(labelled):
        raise InputError(
            where=f"{dataset.path}: nested subsets",
            expected=f"sizes from 1 to {len(labelled)}, the number of episodes with actions",
            got=str(list(sizes)),
            do="Ask for smaller subsets or record more demonstrations.",
        )
    generator = np.random.default_rng(seed)
    order = _dealt(labelled, family, generator)
    return {size: tuple(sorted(order[:size])) for size in sorted(set(sizes))}


def _dealt(episodes: Sequence[Episode], family: Callable[[Episode], str], generator: np.random.Generator) -> list[int]:
    """All episodes in an order of which every beginning is balanced over families and, within one, over sessions."""
    piles: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for episode in episodes:
        piles[family(episode)][episode.session].append(episode.index)
    queues = {}
    for name in sorted(piles):
        by_session = [generator.permutation(piles[name][session]).tolist() for session in sorted(piles[name])]
        generator.shuffle(by_session)
        queues[name] = _round_robin(by_session)
    names = generator.permutation(sorted(queues)).tolist()
    return _round_robin([queues[name] for name in names])


def _round_robin(piles: Sequence[Sequence[int]]) -> list[int]:
    longest = max(len(pile) for pile in piles)
    return [pile[turn] for turn in range(longest) for pile in piles if turn < len(pile)]
