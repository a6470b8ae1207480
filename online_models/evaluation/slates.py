"""What a list is like, apart from whether anybody took something of it."""

import math

import numpy as np
from numpy.typing import NDArray

from online_models.engine.jit import jit
from online_models.reranking.places import n_bits


def novelty(n_events: NDArray[np.float64], n_all: float) -> float:
    """Return the mean self-information of a list's items in bits: what hardly anybody takes is news.

    `n_events` are those of each item, shape (n > 0,), `n_all` those of all items; each item is given half an event.

    References
    ----------
    Zhou, Kuscsik, Liu, Medo, Wakeling, Zhang (2010), Solving the apparent diversity-accuracy dilemma of recommender
    systems.
    """
    known = n_events.tolist()
    n_all = max(n_all, sum(known)) + 1.0
    return sum(-math.log2((n + 0.5) / n_all) for n in known) / len(known)


def diversity(genres: NDArray[np.int32]) -> float | None:
    """Return the mean Jaccard distance of two of a list's items by genre, 0 to 1; None with less than two.

    `genres` are numbers, shape (n, width), padded with -1; items without any are left out. Those whose numbers are
    equal modulo 64 count as one.

    References
    ----------
    Ziegler, McNee, Konstan, Lausen (2005), Improving recommendation lists through topic diversification.
    """
    distance = mean_distance(genres)
    return None if math.isnan(distance) else distance


@jit
def mean_distance(labels: NDArray[np.int32]) -> float:
    """Return `diversity`, NaN with less than two items."""
    bits = np.zeros(len(labels), np.uint64)
    n = 0
    for m in range(len(labels)):
        for label in labels[m]:
            if label >= 0:
                bits[n] |= np.uint64(1) << np.uint64(label & 63)
        n += bits[n] > 0
    common = 0.0
    for one in range(n):
        for other in range(one):
            common += n_bits(bits[one] & bits[other]) / n_bits(bits[one] | bits[other])
    return 1.0 - common / (n * (n - 1) / 2) if n > 1 else np.nan
