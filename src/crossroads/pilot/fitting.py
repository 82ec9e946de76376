"""Fits to a data set what a policy measures on data before it is trained: normalisers, then tokenisers of actions."""

from __future__ import annotations

from collections.abc import Sequence

from crossroads.build import fit_normalisers, fit_tokenisers
from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.window import action_chunks
from crossroads.policy import StreamPolicy


def fit_to(policy: StreamPolicy, dataset: LeRobotDataset, episodes: Sequence[int]) -> None:
    """On the labelled episodes that the policy may see."""
    fit_normalisers(policy, state=dataset.statistics("state", episodes), actions=dataset.statistics("action", episodes))
    fit_tokenisers(policy, lambda: action_chunks(dataset, episodes, policy.recipe.window.num_actions))
