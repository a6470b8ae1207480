"""Which items of little exposure to try, and how probable each is to be chosen: exactly, so that it can be logged.

Thompson sampling takes the item with the highest draw from the posteriors of all. On a grid of rates the probability
of that can be computed, so it is, and the item is drawn from it: the same policy, with known propensities.

References
----------
Thompson (1933), On the likelihood that one unknown probability exceeds another in view of the evidence of two samples.
Chapelle, Li (2011), An empirical evaluation of Thompson sampling.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from online_models.engine.jit import jit

Strategy = Literal["thompson", "uniform"]

MAX_ARMS = 32
N_RATES = 256
PRIOR = (1.0, 9.0)
"""Positives and others that an item has before it has any: one in ten of those who try it like it."""

_RATES = (np.arange(N_RATES) + 0.5) / N_RATES
_LOGS = np.log(_RATES)
_LOGS_OF_REST = np.log1p(-_RATES)


@dataclass(frozen=True, slots=True)
class Arms:
    """Candidates that may be explored."""

    candidates: NDArray[np.int32]
    """(n_arms,) their positions."""
    chances: NDArray[np.float64]
    """(n_arms, N_RATES) probability of each rate; empty to choose evenly."""

    @classmethod
    def of(
        cls,
        candidates: NDArray[np.int32],
        positives: NDArray[np.float64],
        trials: NDArray[np.float64],
        strategy: Strategy = "thompson",
    ) -> "Arms":
        """Return the first `MAX_ARMS` of some candidates, of whose trials some were positive."""
        candidates = candidates[:MAX_ARMS]
        if strategy == "uniform":
            return cls(candidates, np.empty((0, N_RATES)))
        return cls(candidates, posterior(positives[:MAX_ARMS], trials[:MAX_ARMS]))


def posterior(positives: NDArray[np.float64], trials: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Beta posterior of each rate under `PRIOR` on a grid, shape (n, N_RATES); rows sum to 1."""
    a = PRIOR[0] + positives
    b = PRIOR[1] + np.maximum(trials - positives, 0.0)
    logs = np.outer(a - 1.0, _LOGS) + np.outer(b - 1.0, _LOGS_OF_REST)
    chances = np.exp(logs - logs.max(axis=1, keepdims=True, initial=-np.inf))
    return np.asarray(chances / chances.sum(axis=1, keepdims=True))


@jit
def win_chances(chances: NDArray[np.float64], left: NDArray[np.bool_], out: NDArray[np.float64]) -> None:
    """Write the probability that each of the arms that are `left` has the highest rate; others get 0.

    P(i) = sum over rates r of P(i = r) prod_{j < i} P(j < r) prod_{j > i} P(j <= r): of equal ones the first wins.
    Without chances (no rows) all are as probable.
    """
    if not len(chances):
        out[:] = left / left.sum()
        return
    out[:] = 0.0
    below = np.zeros(left.size)
    behind = np.ones(left.size + 1)
    for r in range(chances.shape[1]):
        for i in range(left.size - 1, -1, -1):
            behind[i] = behind[i + 1] * (below[i] + chances[i, r] if left[i] else 1.0)
        before = 1.0
        for i in range(left.size):
            if left[i]:
                out[i] += before * chances[i, r] * behind[i + 1]
                before *= below[i]
        below += chances[:, r]
    out /= out.sum()


@jit
def draw(chances: NDArray[np.float64], uniform: float) -> int:
    """Return the index that a number in [0, 1) stands for; chances sum to 1."""
    so_far = 0.0
    last = -1
    for i in range(chances.size):
        if chances[i] > 0.0:
            last = i
            so_far += chances[i]
            if uniform < so_far:
                return i
    return last
