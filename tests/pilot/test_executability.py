"""Executability: equal motion is no error, the unit is the error on real frames, and correlations follow the ranks."""

from __future__ import annotations

import numpy as np
import pytest

from crossroads.pilot.executability import Clips, chunk_error, summarise


def test_the_error_counts_valid_steps_and_moving_dimensions_alone() -> None:
    read, done = np.zeros((1, 4, 3)), np.zeros((1, 4, 3))
    done[0, :, 0] = 0.2
    done[0, 3, 1] = 100.0
    done[0, :, 2] = 5.0
    valid = np.array([[True, True, True, False]])
    found = chunk_error(read, done, valid, np.array([0.1, 0.1, np.inf]))
    np.testing.assert_allclose(found, [4 / 2])
    assert chunk_error(done, done, valid, np.ones(3)) == pytest.approx([0.0])


def clips(squared, pixels, failed) -> Clips:
    num = len(failed)
    return Clips(
        episode=np.repeat(np.arange(num), 2),
        squared=np.repeat(np.asarray(squared, float), 2),
        pixels=np.repeat(np.asarray(pixels, float), 2),
        failed=np.asarray(failed, float),
    )


def test_the_ratio_is_one_where_imagined_clips_read_like_real_ones_and_two_at_twice_the_error() -> None:
    rng = np.random.default_rng(0)
    error = rng.uniform(0.5, 1.5, 40)
    same = summarise(clips(error, error, rng.integers(2, size=40)), error)
    twice = summarise(clips(4 * error, error, rng.integers(2, size=40)), error)
    assert same.ratio == pytest.approx(1.0)
    assert twice.ratio == pytest.approx(2.0)
    assert same.interval.low < 1 < same.interval.high
    assert twice.interval.low > 1.5


def test_correlations_have_the_sign_of_the_ranks_and_are_absent_where_nothing_varies() -> None:
    rising, failed = np.arange(1.0, 21.0), np.arange(20) >= 10
    found = summarise(clips(rising**3, rising, failed), np.ones(5))
    assert found.video_against_action is not None
    assert found.video_against_failure is not None
    assert found.video_against_action.value == pytest.approx(1.0)
    assert found.video_against_failure.value > 0.8
    assert 0 < found.video_against_failure.interval.low < found.video_against_failure.value
    assert summarise(clips(rising, rising, np.ones(20)), np.ones(5)).video_against_failure is None


def test_intervals_cover_the_true_ratio() -> None:
    hits = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        imagined = rng.gamma(2.0, 2.0, 60)  # mean 4: the true ratio is 2
        real = rng.gamma(2.0, 0.5, 120)
        found = summarise(clips(imagined, imagined, rng.integers(2, size=60)), real)
        hits += found.interval.low <= 2 <= found.interval.high
    assert hits >= 0.90 * 200  # 20 and more clips: a percentile bootstrap of a root is a little narrow
