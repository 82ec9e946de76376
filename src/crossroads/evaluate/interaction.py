"""Does one change help more where the other is made too? The difference of differences of a 2 x 2 design.

Training runs and scenes are both noise here as they are for a plain difference (``sum_over_runs``).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Shaped

from crossroads.errors import InputError
from crossroads.evaluate.statistics import RunsDifference, sum_over_runs

SharedRuns = Literal["none", "second factor", "both factors"]


def interaction(
    both: Shaped[np.ndarray, "_ _"],
    only_first: Shaped[np.ndarray, "_ _"],
    only_second: Shaped[np.ndarray, "_ _"],
    neither: Shaped[np.ndarray, "_ _"],
    *,
    shared_runs: SharedRuns,
    confidence: float = 0.95,
) -> RunsDifference:
    """(both - only_first) - (only_second - neither): what the second change adds with the first beyond without it.

    All four are runs x scenes, two runs or more. ``shared_runs`` says which arms are the same trained policies, row by
    row: none (four trainings), across the second factor (a change at test time only: ``both`` and ``only_first`` are
    the same runs, ``only_second`` and ``neither`` too), or all four (two changes at test time). Simulated with three
    runs on 60 and 400 scenes: 94 to 97.5 % for the first two; with runs shared by all as ``sum_over_runs`` of one
    part.
    """
    cells = [np.asarray(cell, dtype=np.float64) for cell in (both, only_first, only_second, neither)]
    if len({cell.shape for cell in cells}) != 1 or shared_runs not in ("none", "second factor", "both factors"):
        raise InputError(
            where="interaction",
            expected="four arrays of the same runs x scenes, and shared_runs 'none', 'second factor' or 'both factors'",
            got=f"{[cell.shape for cell in cells]}, {shared_runs!r}",
            do="Evaluate the four arms with the same number of runs on the same scenes.",
        )
    a, b, c, d = cells
    if shared_runs == "none":
        parts = [a, -b, -c, d]
    elif shared_runs == "second factor":
        parts = [a - b, d - c]
    else:
        parts = [a - b - c + d]
    return sum_over_runs(parts, confidence)
