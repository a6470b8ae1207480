"""What a list is like, apart from whether anybody took something of it."""

import numpy as np
from numpy.typing import NDArray

from online_models.reranking.rerank import bits_of


def novelty(n_events: NDArray[np.float64], n_all: float) -> float:
    """Return the mean self-information of a list's items in bits: what hardly anybody takes is news.

    `n_events` are those of each item, shape (n > 0,), `n_all` those of all items; each item is given half an event.

    References
    ----------
    Zhou, Kuscsik, Liu, Medo, Wakeling, Zhang (2010), Solving the apparent diversity-accuracy dilemma of recommender
    systems.
    """
    shares = (n_events + 0.5) / (max(n_all, float(n_events.sum())) + 1.0)
    return float(-np.log2(shares).mean())


def diversity(genres: NDArray[np.int32]) -> float | None:
    """Return the mean Jaccard distance of two of a list's items by genre, 0 to 1; None with less than two.

    `genres` are numbers, shape (n, width), padded with -1; items without any are left out. Those whose numbers are
    equal modulo 64 count as one.

    References
    ----------
    Ziegler, McNee, Konstan, Lausen (2005), Improving recommendation lists through topic diversification.
    """
    bits = bits_of(genres, len(genres))
    bits = bits[bits > 0]
    if len(bits) < 2:
        return None
    first, second = np.triu_indices(len(bits), 1)
    common, either = bits[first] & bits[second], bits[first] | bits[second]
    return float(1.0 - (np.bitwise_count(common) / np.bitwise_count(either)).mean())
