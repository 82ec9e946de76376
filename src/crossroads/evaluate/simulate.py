"""Synthetic paired experiments with a known truth: what intervals and verdict rules are tested on, and plans tried on.

Success is a probit: a run succeeds in a scene where the scene's difficulty (shared by all arms), the arm's taste for
the scene (shared by its runs) and the luck of the trial, normals whose variances sum to one, stay under the run's own
quantile. So an arm's mean success over scenes and runs is exactly ``share`` whatever the weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri

from crossroads.errors import InputError


def experiments(
    generator: np.random.Generator,
    *,
    num: int,
    runs: int,
    scenes: int,
    shares: Sequence[float],
    run_std: float = 0.0,
    difficulty: float = 0.3,
    taste: float = 0.2,
) -> list[Float[np.ndarray, "num runs scenes"]]:
    """Successes (0 or 1) of one array per arm, all on the same scenes; ``num`` experiments at once.

    ``run_std`` is the standard deviation of success between runs of one recipe (a beta distribution round the arm's
    share); ``difficulty`` and ``taste`` are the shares of variance that scene, and scene and arm together, explain: the
    larger the first, the fewer scenes two arms disagree on.
    """
    rest = 1 - difficulty - taste
    widest = min(share * (1 - share) for share in shares)
    if min(difficulty, taste, rest) < 0 or not all(0 < share < 1 for share in shares) or run_std**2 >= widest:
        raise InputError(
            where="experiments",
            expected="shares between 0 and 1, run_std^2 < share (1 - share), difficulty + taste <= 1",
            got=f"shares {list(shares)}, run_std {run_std}, difficulty {difficulty}, taste {taste}",
            do="A share near 0 or 1 leaves no room for runs that differ much.",
        )
    common = np.sqrt(difficulty) * generator.normal(size=(num, 1, scenes))
    arms = []
    for share in shares:
        of_runs = np.full((num, runs), share)
        if run_std > 0:
            concentration = share * (1 - share) / run_std**2 - 1
            size = (num, runs)
            of_runs = generator.beta(share * concentration, (1 - share) * concentration, size=size)
        own = np.sqrt(taste) * generator.normal(size=(num, 1, scenes))
        luck = np.sqrt(rest) * generator.normal(size=(num, runs, scenes))
        arms.append((common + own + luck < ndtri(of_runs)[..., None]).astype(np.float64))
    return arms
