"""How far two models agree on the order of one list: pure."""

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def kendall(one: Values, other: Values) -> float:
    """Return Kendall's tau-b of two models' scores of the same items; 0 where one of them tells nothing apart.

    References
    ----------
    Kendall (1945), The treatment of ties in ranking problems.
    """
    pairs = np.triu_indices(len(one), 1)
    a, b = (np.sign(scores[:, None] - scores[None, :])[pairs] for scores in (one, other))
    scale = float(np.sqrt(np.count_nonzero(a) * np.count_nonzero(b)))
    return float(a @ b) / scale if scale else 0.0


def spearman(one: Values, other: Values) -> float:
    """Return the correlation of ranks, ties at their mean; 0 where one of the two tells nothing apart."""
    a, b = _ranks(one), _ranks(other)
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale else 0.0


def overlap(one: Values, other: Values, k: int = 10) -> float:
    """Return the share of the first `k` of the one that are among the first `k` of the other; ties in their order."""
    k = min(k, len(one))
    first = [set(np.argsort(-scores, kind="stable")[:k].tolist()) for scores in (one, other)]
    return len(first[0] & first[1]) / k


def distance(one: Values, other: Values) -> float:
    """Return the total variation between two models' chances of the same items, each summing to 1: 0 to 1."""
    return float(np.abs(one - other).sum() / 2.0)


def _ranks(scores: Values) -> Values:
    """Rank from 1, ties at the mean of their places."""
    below = (scores[:, None] > scores[None, :]).sum(axis=1)
    same = (scores[:, None] == scores[None, :]).sum(axis=1)
    return np.asarray(below + (same + 1) / 2.0, np.float64)
