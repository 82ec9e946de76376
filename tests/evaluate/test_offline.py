"""Offline figures: an error's interval holds for new episodes, not only for new windows of the same ones."""

from __future__ import annotations

import numpy as np
import pytest

from crossroads.errors import InputError
from crossroads.evaluate.offline import root_mean_square_interval


def errors(rng: np.random.Generator, episodes: int, windows: int, spread: float) -> np.ndarray:
    own = np.exp(spread * rng.normal(size=(episodes, 1)) - spread**2 / 2)
    return (own * rng.chisquare(8, size=(episodes, windows)) / 8).ravel()


def test_the_interval_covers_when_episodes_differ_and_windows_alone_would_not() -> None:
    rng = np.random.default_rng(0)
    groups, counted = np.repeat(np.arange(40), 6), np.ones(240)
    drawn = [errors(rng, 40, 6, 0.6) for _ in range(1500)]
    by_episode = [root_mean_square_interval(x, counted, groups).contains(1.0) for x in drawn]
    by_window = [root_mean_square_interval(x, counted, np.arange(240)).contains(1.0) for x in drawn]
    assert 0.92 <= np.mean(by_episode) <= 0.97
    assert np.mean(by_window) < 0.85


def test_the_interval_holds_the_error_that_it_is_of() -> None:
    squared = np.array([1.0, 4.0, 9.0, 0.0])
    interval = root_mean_square_interval(squared, np.full(4, 2.0), np.arange(4))
    assert interval.low < np.sqrt(14 / 8) < interval.high
    assert root_mean_square_interval(np.zeros(4), np.ones(4), np.arange(4)).high == 0.0
    alone = root_mean_square_interval(np.array([0.0, 5.0]), np.ones(2), np.arange(2))
    assert np.isfinite(alone.high)
    with pytest.raises(InputError, match="Hold out more episodes"):
        root_mean_square_interval(np.ones(3), np.ones(3), np.zeros(3))
