"""Latency counts what is asked, ignores warm-up, and names its unit of waiting."""

from __future__ import annotations

import time

import pytest

from crossroads.errors import InputError
from crossroads.evaluate.latency import measure, summarise


def test_the_slow_warm_up_is_not_counted_and_the_rest_is() -> None:
    calls: list[int] = []

    def work() -> None:
        calls.append(1)
        time.sleep(0.05 if len(calls) <= 2 else 0.002)

    found = measure(work, repeats=6, warmup=2)
    assert len(calls) == 8
    assert found.repeats == 6
    assert 0.002 <= found.min_s <= found.median_s <= found.p95_s <= found.max_s
    assert found.median_s < 0.045


def test_percentiles_and_duty_are_those_of_the_times() -> None:
    found = summarise([0.1] * 19 + [0.9], device="cpu")
    assert found.median_s == pytest.approx(0.1)
    assert 0.1 < found.p95_s < 0.9
    assert found.duty(0.4) == pytest.approx(0.25)


def test_nothing_to_time_is_refused() -> None:
    with pytest.raises(InputError, match="repeats=0"):
        measure(lambda: None, repeats=0, warmup=0)
    with pytest.raises(InputError, match="at least one"):
        summarise([], device="cpu")
    with pytest.raises(InputError, match="longer than 0"):
        summarise([0.1], device="cpu").duty(0.0)
