"""What is in a labelled list, as all who learn from it or judge by it read it."""

import math
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from online_models.engine import inputs
from state.records import Example


def values_of(example: Example) -> NDArray[np.float32] | None:
    """Return the ranker's inputs as logged, shape (n + 1, n_inputs): of the n items, and the mean over all candidates.

    None for an example without inputs, or with those of another definition, or with values that are no numbers.
    """
    n_rows = len(example.items) + 1
    if example.feature_set != inputs.FEATURE_SET or len(example.features) != 4 * n_rows * inputs.N_INPUTS:
        return None
    values = np.frombuffer(example.features, np.float32).reshape(n_rows, inputs.N_INPUTS)
    return values if np.isfinite(values).all() else None


def examination_weight(position: int) -> float:
    """Return how much a positive at this position (from 0) counts: the inverse of how likely it was looked at.

    p(position) = (position + 1) ** -0.5, weights clipped at 4 and scaled so that the first position counts 1.

    References
    ----------
    Joachims, Swaminathan, Schnabel (2017), Unbiased learning-to-rank with biased feedback.
    """
    return min(4.0, math.sqrt(position + 1.0))


def hashed_id(example_id: str) -> int:
    """Return 64 bits of an id."""
    return int.from_bytes(blake2b(example_id.encode(), digest_size=8).digest(), signed=True)
