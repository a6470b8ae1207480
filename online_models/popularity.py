"""Popularity at several half-lives, exact for events in any order."""

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import Slots, grown
from online_models.features import HALF_LIVES

_MAX_LOG2 = 64.0
"""Of a count that is read: events long after the moment of reading would overflow."""


class DecayedPopularity:
    """Exponentially decayed event counts per item.

    p_k(i, now) = sum over events e of i: w_e 2^-((now - t_e) / h_k)

    Kept as log2 of the sum of w_e 2^(t_e / h_k), which does not depend on the moment of reading: nothing has to be
    rescaled, late events need no special care, any order of events gives the same sums, and the order of items is the
    same at every moment, so that top lists change only with events.

    Parameters
    ----------
    half_lives
        h_k; None is a plain count.

    References
    ----------
    Cormode, Shkapenyuk, Srivastava, Xu: Forward Decay, ICDE 2009.
    """

    def __init__(self, half_lives: Sequence[timedelta | None] = HALF_LIVES) -> None:
        self._per_ms = np.array([0.0 if h is None else timedelta(milliseconds=1) / h for h in half_lives])
        self.keys: NDArray[np.float64] = np.full((0, len(half_lives)), -np.inf)
        """log2 of the forward-decayed sums, shape (n_slots, n_half_lives)."""

    def reserve(self, n_slots: int) -> None:
        """Make room for slots below `n_slots`."""
        self.keys = grown(self.keys, n_slots, -np.inf)

    def learn_one(self, slot: int, ts_ms: int, weight: float = 1.0) -> None:
        """Count one event of positive weight."""
        keys = self.keys[slot]
        np.logaddexp2(keys, self._per_ms * ts_ms + np.log2(weight), out=keys)

    def predict_one(self, slot: int, now_ms: int) -> list[float]:
        """Return the decayed count at each half-life."""
        ages = zip(self.keys[slot], self._per_ms, strict=True)
        return [float(2.0 ** min(key - now_ms * rate, _MAX_LOG2)) for key, rate in ages]

    def predict_many(self, slots: Slots, now_ms: int) -> NDArray[np.float64]:
        """Return `predict_one` for each slot, shape (n, n_half_lives)."""
        return np.asarray(np.exp2(np.minimum(self.keys[slots] - self._per_ms * now_ms, _MAX_LOG2)))

    def row(self, slot: int) -> bytes:
        """Return the item's state."""
        row: bytes = self.keys[slot].tobytes()
        return row

    def restore(self, slot: int, row: bytes) -> None:
        self.keys[slot] = np.frombuffer(row, dtype=np.float64)

    def forget(self, slots: Slots) -> None:
        self.keys[slots] = -np.inf
