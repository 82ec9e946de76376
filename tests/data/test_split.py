"""Hold-outs keep sessions apart; subsets are nested and balanced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossroads.data.columns import Columns, Episodes
from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.split import hold_out, nested_subsets
from crossroads.errors import InputError


def with_episodes(dataset: LeRobotDataset, described: Sequence[tuple[str, int, bool]]) -> LeRobotDataset:
    """The same folder, but with episodes of these texts, sessions and labels (splitting reads nothing else)."""
    texts = sorted({text for text, _, _ in described})
    num = len(described)
    columns = Columns(
        length=np.full(num, 10),
        start=10 * np.arange(num),
        task=np.array([texts.index(text) for text, _, _ in described]),
        session=np.array([session for _, session, _ in described]),
        action_free=np.array([free for _, _, free in described]),
        finite=np.ones(num, bool),
        told=np.ones(num, bool),
    )
    return replace(dataset, episodes=Episodes(columns, tuple(texts)))


described = st.lists(
    st.tuples(st.sampled_from(["push", "pull", "stack"]), st.integers(0, 4), st.booleans()), min_size=3, max_size=40
)


@settings(max_examples=30, deadline=None)
@given(described=described, seed=st.integers(0, 9), data=st.data())
def test_subsets_are_nested_labelled_sized_as_asked_and_balanced(
    dataset: LeRobotDataset, described: list[tuple[str, int, bool]], seed: int, data: st.DataObject
) -> None:
    many = with_episodes(dataset, described)
    labelled = [episode for episode in many.episodes if not episode.action_free]
    if not labelled:
        return
    sizes = data.draw(st.lists(st.integers(1, len(labelled)), min_size=1, max_size=4))
    subsets = nested_subsets(many, sizes, seed)
    assert {size: len(chosen) for size, chosen in subsets.items()} == {size: size for size in sizes}
    ordered = [set(subsets[size]) for size in sorted(subsets)]
    assert all(small <= large for small, large in pairwise(ordered))
    assert ordered[-1] <= {episode.index for episode in labelled}
    available = Counter(episode.text for episode in labelled)
    for chosen in subsets.values():
        counts = Counter(many.episodes[index].text for index in chosen)
        most = max(counts.values())
        for text, number in available.items():
            assert counts[text] >= min(most - 1, number), "no instruction falls behind while it has episodes left"


@settings(max_examples=30, deadline=None)
@given(described=described, seed=st.integers(0, 9), fraction=st.floats(0.05, 0.9))
def test_a_hold_out_never_shares_a_session_and_leaves_both_sides_something(
    dataset: LeRobotDataset, described: list[tuple[str, int, bool]], seed: int, fraction: float
) -> None:
    many = with_episodes(dataset, described)
    train, held = hold_out(many, fraction, seed)
    assert sorted((*train, *held)) == list(range(len(described)))
    assert train
    assert held
    sessions = [{many.episodes[index].session for index in side} for side in (train, held)]
    if len(sessions[0] | sessions[1]) >= 2:
        assert not sessions[0] & sessions[1]


def test_with_one_session_about_the_fraction_asked_for_is_held_out(dataset: LeRobotDataset) -> None:
    many = with_episodes(dataset, [("push", 0, False)] * 50)
    assert len(hold_out(many, 0.2, 0)[1]) == 10
    assert hold_out(many, 0.2, 0) == hold_out(many, 0.2, 0)
    assert hold_out(many, 0.2, 0) != hold_out(many, 0.2, 1)


def test_early_subsets_spread_over_sessions_and_families(dataset: LeRobotDataset) -> None:
    many = with_episodes(dataset, [(f"push the {index % 8}", index // 10, False) for index in range(40)])
    chosen = nested_subsets(many, [4], 0, family=lambda episode: episode.text.split()[0])[4]
    assert {many.episodes[index].session for index in chosen} == {0, 1, 2, 3}


def test_among_restricts_both(dataset: LeRobotDataset) -> None:
    train, held = hold_out(dataset, 0.3, 0, among=range(9))
    assert set(train) | set(held) == set(range(9))
    assert set(nested_subsets(dataset, [3], 0, among=train)[3]) <= set(train)


def test_a_dataset_too_small_for_the_split_is_refused(dataset: LeRobotDataset) -> None:
    single = with_episodes(dataset, [("push", 0, False)])
    with pytest.raises(InputError, match="at least 2 episodes"):
        hold_out(single, 0.2, 0)
    labelled = int(np.sum([not episode.action_free for episode in dataset.episodes]))
    with pytest.raises(InputError, match=f"sizes from 1 to {labelled}"):
        nested_subsets(dataset, [2, labelled + 1], 0)
    with pytest.raises(InputError, match="between 0 and 1"):
        hold_out(dataset, 1.0, 0)
