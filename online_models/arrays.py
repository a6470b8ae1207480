"""Arrays that grow by row, and reproducible noise."""

from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from online_models.engine.jit import jit

Slots = NDArray[np.int32]
"""Items as row numbers."""

_Scalar = TypeVar("_Scalar", bound=np.generic)
_MIN_ROWS = 1024
_FEW_EQUAL = 64


def grown(array: NDArray[_Scalar], n_rows: int, fill: float) -> NDArray[_Scalar]:
    """Return the array, or a copy at least twice as long whose new rows are `fill`, so that it has `n_rows` rows."""
    if n_rows <= len(array):
        return array
    bigger = np.full((max(n_rows, 2 * len(array), _MIN_ROWS), *array.shape[1:]), fill, dtype=array.dtype)
    bigger[: len(array)] = array
    return bigger


def as_slots(slots: Iterable[int]) -> Slots:
    """Return the slots as an array."""
    return np.fromiter(slots, dtype=np.int32)


def descending(values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the positions of the values, highest first, equal ones in order. No value may be NaN.

    An unstable sort is several times faster, and wrong among equal values only: a few of them are put in order then.
    """
    order = np.argsort(-values)
    ordered = values[order]
    n_equal = np.count_nonzero(ordered[1:] == ordered[:-1])
    if n_equal > _FEW_EQUAL:
        return np.argsort(-values, kind="stable")
    if n_equal:
        settle(order, ordered)
    return order


def highest(values: NDArray[np.floating[Any] | np.signedinteger[Any]], k: int) -> NDArray[np.intp]:
    """Return the positions of the k highest values, highest first, equal ones in order. No value may be NaN."""
    places = np.arange(len(values))
    if k <= 0:
        return places[:0]
    if k < len(values):
        least = np.partition(values, len(values) - k)[len(values) - k]
        above = np.flatnonzero(values > least)
        places = np.concatenate([above, np.flatnonzero(values == least)[: k - len(above)]])
    return np.asarray(places[np.lexsort((places, -values[places]))])


@jit
def settle(order: NDArray[np.intp], values: NDArray[np.float64]) -> None:
    """Put positions of equal values in order, in place; the values are sorted."""
    for k in range(1, order.size):
        m = k
        while m > 0 and values[m - 1] == values[m] and order[m - 1] > order[m]:
            order[m - 1], order[m] = order[m], order[m - 1]
            m -= 1


class Noise:
    """A stream of seeded random numbers whose whole state is the number already drawn.

    Numbers come from blocks that depend on seed and block number only, so a restored stream goes on identically.
    """

    BLOCK = 4096

    def __init__(self, seed: int, drawn: int = 0) -> None:
        self._seed = seed
        self.drawn = drawn
        self._block_number = -1
        self._block: NDArray[np.float64] = np.empty(0)

    def uniform(self, n: int) -> NDArray[np.float64]:
        """Return the next n numbers in [0, 1), the same ones in whatever portions they are drawn."""
        drawn = np.empty(n)
        filled = 0
        while filled < n:
            number, position = divmod(self.drawn, self.BLOCK)
            if number != self._block_number:
                self._block = np.random.default_rng([self._seed, number]).random(self.BLOCK)
                self._block_number = number
            some = self._block[position : position + n - filled]
            drawn[filled : filled + len(some)] = some
            filled += len(some)
            self.drawn += len(some)
        return drawn
