"""How long one call takes on this device: what a robot waits for a chunk of actions.

Median and 95th percentile after warm-up calls; on a CUDA device the clock is read only when the device has finished.
Duty = latency / duration of the chunk; at 1 or more the robot waits for its policy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from crossroads.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Seconds per call over ``repeats`` timed calls."""

    median_s: float
    p95_s: float
    min_s: float
    max_s: float
    repeats: int
    device: str

    def duty(self, chunk_s: float) -> float:
        """Median latency as a share of the time that the chunk lasts."""
        if chunk_s <= 0:
            raise InputError(
                where="Latency.duty",
                expected="a chunk longer than 0 s",
                got=f"{chunk_s} s",
                do="Pass executed steps / control rate.",
            )
        return self.median_s / chunk_s


def summarise(times_s: Sequence[float], *, device: str) -> Latency:
    """The same figures from times that were taken elsewhere (during rollouts, say)."""
    times = np.asarray(times_s, dtype=np.float64)
    if times.size == 0 or not np.isfinite(times).all() or times.min() < 0:
        raise InputError(
            where="summarise",
            expected="at least one finite time, none negative",
            got=f"{times.size} times",
            do="Time at least one call.",
        )
    return Latency(
        median_s=float(np.median(times)),
        p95_s=float(np.quantile(times, 0.95)),
        min_s=float(times.min()),
        max_s=float(times.max()),
        repeats=int(times.size),
        device=device,
    )


def measure(call: Callable[[], object], *, repeats: int, warmup: int, device: str = "cpu") -> Latency:
    """Time ``call`` after ``warmup`` calls that are not counted."""
    if repeats < 1 or warmup < 0:
        raise InputError(
            where="measure",
            expected="repeats >= 1 and warmup >= 0",
            got=f"repeats={repeats}, warmup={warmup}",
            do="Use at least 20 repeats for a 95th percentile that means something.",
        )
    wait: Callable[[], object] = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    for _ in range(warmup):
        call()
    times = []
    for _ in range(repeats):
        wait()
        start = time.perf_counter()
        call()
        wait()
        times.append(time.perf_counter() - start)
    return summarise(times, device=device)
