"""Statistics part by part are numpy's on the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as made

from crossroads.data import index
from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.running_statistics import summarise_parts, together
from crossroads.data.statistics import summarise

VALUES = made.arrays(
    np.float32,
    st.tuples(st.integers(1, 60), st.integers(1, 3)),
    elements=st.floats(-1e6, 1e6, width=32) | st.sampled_from([0.0, -0.0, 1.0]),
)


@settings(max_examples=12, deadline=None)
@given(values=VALUES, cuts=st.lists(st.integers(0, 60), max_size=4))
def test_parts_of_any_size_give_what_numpy_gives_on_the_whole(values: np.ndarray, cuts: list[int]) -> None:
    whole, parts = (
        summarise(values),
        summarise_parts(lambda: np.split(values, sorted(min(c, len(values)) for c in cuts))),
    )
    assert (parts.min, parts.max, parts.count) == (whole.min, whole.max, whole.count)
    np.testing.assert_allclose(parts.q01, whole.q01, rtol=1e-12, atol=0)
    np.testing.assert_allclose(parts.q99, whole.q99, rtol=1e-12, atol=0)
    scale = np.abs(values).max()
    np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-12, atol=1e-12 * scale)
    np.testing.assert_allclose(parts.std, whole.std, rtol=1e-9, atol=1e-12 * scale)


def test_stretches_come_in_parts_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crossroads.data.running_statistics._AT_ONCE", 5)
    values = np.arange(40.0).reshape(20, 2)
    found = list(together(values, [(0, 3), (7, 10), (12, 13)]))
    assert [len(part) for part in found] == [6, 1]
    np.testing.assert_array_equal(np.concatenate(found), values[[0, 1, 2, 7, 8, 9, 12]])


def test_a_mapped_dataset_has_the_statistics_of_one_that_was_read(
    folder: Path, dataset: LeRobotDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSROADS_CACHE", str(tmp_path))
    chosen = [0, 4, 7, 2]
    expected = [dataset.statistics(feature, chosen) for feature in ("state", "action")]
    monkeypatch.setattr(index, "MAPPED_FROM_FRAMES", 0)
    mapped = LeRobotDataset.open(folder)
    for feature, whole in zip(("state", "action"), expected, strict=True):
        found = mapped.statistics(feature, chosen)
        for name, value in vars(whole).items():
            np.testing.assert_allclose(getattr(found, name), value, rtol=1e-12, atol=1e-15)
