"""Ridge read-outs: how much of one thing a linear map can tell from another, on rows that it was not fitted on."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

PENALTIES = (10.0, 100.0, 1e3, 1e4, 1e5, 1e6)
FURTHEST = 5.0
"""Standard deviations at which inputs are cut: what hardly varied while fitting must not decide elsewhere."""


def ridge(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n k"], at: Float[np.ndarray, "m d"]
) -> Float[np.ndarray, "m k"]:
    """Predictions at ``at`` of a ridge regression fitted on ``x`` and ``y``; penalty chosen on ``x``'s second half.

    Inputs are standardised by ``x``. Rows of one episode should be neighbours, so that the two halves share none.
    """
    centre, spread = x.mean(axis=0), x.std(axis=0) + 1e-3
    x, at = ((part - centre) / spread for part in (x, at))
    at = at.clip(-FURTHEST, FURTHEST)
    half = len(x) // 2
    errors = [((_fitted(x[:half], y[:half], p, x[half:]) - y[half:]) ** 2).sum() for p in PENALTIES]
    return _fitted(x, y, PENALTIES[int(np.argmin(errors))], at)


def ridge_r2(
    x: Float[np.ndarray, "n d"],
    y: Float[np.ndarray, "n k"],
    x_held: Float[np.ndarray, "m d"],
    y_held: Float[np.ndarray, "m k"],
) -> float:
    """`r2` of a ridge regression's predictions on rows that were held out, about the fitted rows' mean."""
    return r2(ridge(x, y, x_held), y_held, y.mean(axis=0))


def r2(guess: Float[np.ndarray, "m k"], truth: Float[np.ndarray, "m k"], mean: Float[np.ndarray, " k"]) -> float:
    """1 - squared error / squared distance from ``mean``; at most 1, negative when ``mean`` is the better guess."""
    return float(1 - ((guess - truth) ** 2).sum() / max(((truth - mean) ** 2).sum(), 1e-12))


def _fitted(a: np.ndarray, b: np.ndarray, penalty: float, at: np.ndarray) -> np.ndarray:
    """In the dual: there are fewer rows than pixels."""
    dual = np.linalg.solve(a @ a.T + penalty * np.eye(len(a)), b - b.mean(axis=0))
    return at @ (a.T @ dual) + b.mean(axis=0)
