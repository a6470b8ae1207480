"""Arrays that grow by row, and reproducible noise."""

from collections.abc import Iterable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Slots = NDArray[np.int32]
"""Items as row numbers."""

_Scalar = TypeVar("_Scalar", bound=np.generic)
_MIN_ROWS = 1024


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

    An unstable sort is many times faster, and right where no two values are equal.
    """
    order = np.argsort(-values)
    ordered = values[order]
    if len(values) > 1 and np.equal(ordered[1:], ordered[:-1]).any():
        order = np.argsort(-values, kind="stable")
    return order


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
