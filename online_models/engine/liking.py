"""How much more, or less, than others a user likes what they take, by where it lies among the factors."""

import numpy as np
from numpy.typing import NDArray

from online_models.engine.als import RANK, add_four, solve
from online_models.engine.items import N_EVENTS, TOTAL
from online_models.engine.jit import jit

REGULARISATION = np.float32(3.0)
"""In events."""

NO_DIRECTION = np.float32(1e-6)
"""Added to a vector's square: a vector far shorter than the root of it has nearly no direction."""


@jit
def positive_share(n_positive: float, n_events: float) -> float:
    """Share of an item's events that were positive, two thirds for one without."""
    return float((n_positive + 1.0) / (n_events + 1.5))


@jit
def direction(vector: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Write the unit vector, 0 for that of an item without one."""
    square = NO_DIRECTION
    for r in range(RANK):
        square += vector[r] * vector[r]
    scale = np.float32(1.0) / np.sqrt(square)
    for r in range(RANK):
        out[r] = scale * vector[r]


@jit
def learn_liking(
    vectors: NDArray[np.float32],
    counts: NDArray[np.float32],
    history: NDArray[np.int32],
    positive: NDArray[np.bool_],
    out: NDArray[np.float32],
) -> None:
    """Write w, shape (RANK,): the ridge regression, over the history, of outcomes on the directions of the items.

    An outcome is 1 for a positive step and 0 for another one, less the item's share of positive events, less the mean
    of that over the history. The product of w with another item's direction is how much more the user will like it.
    """
    n = history.size
    a = np.zeros((RANK, RANK), np.float32)
    for r in range(RANK):
        a[r, r] = REGULARISATION
        out[r] = np.float32(0.0)
    outcomes = np.empty(n, np.float32)
    mean = np.float32(0.0)
    for x in range(n):
        row = counts[history[x]]
        outcomes[x] = np.float32((1.0 if positive[x] else 0.0) - positive_share(row[TOTAL], row[N_EVENTS]))
        mean += outcomes[x]
    mean /= np.float32(n) + REGULARISATION
    shares = np.zeros(4, np.float32)
    four = np.zeros((4, RANK), np.float32)
    for x in range(n):
        m = x % 4
        direction(vectors[history[x]], four[m])
        shares[m] = np.float32(1.0)
        for r in range(RANK):
            out[r] += four[m, r] * (outcomes[x] - mean)
        if m == 3 or x == n - 1:
            add_four(a, four, shares)
            shares[:] = np.float32(0.0)
    solve(a, out)
