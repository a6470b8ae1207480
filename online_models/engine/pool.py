"""Lists of different lengths in one array: blocks of 8, 16, ... entries with a free list per size.

A list that outgrows its block moves to one twice as large. So memory follows what is stored, and has one bound.
"""

import numpy as np
from numpy.typing import NDArray

from online_models.engine.jit import jit_bare

SMALLEST = 8
"""Entries of the smallest block."""

LARGEST = SMALLEST << 5
"""Entries of the largest block where nothing else is said, 256."""

_FIRST = 1 << 16
"""Entries that a pool begins with."""

_RESERVED = 16
"""One in so many entries of a full pool is kept for smallest blocks, so that new lists still begin."""


@jit_bare
def allocate(ids: NDArray[np.int32], heads: NDArray[np.int64], top: NDArray[np.int64], size: int) -> int:
    """Return the start of a block of `size` entries, -1 if there is none. A free block's first entry links the next."""
    which = 0
    while SMALLEST << which < size:
        which += 1
    start = int(heads[which])
    if start >= 0:
        heads[which] = ids[start]
        return start
    usable = ids.size if which == 0 else ids.size - ids.size // _RESERVED
    if top[0] + size <= usable:
        start = int(top[0])
        top[0] += size
        return start
    larger = which + 1
    while larger < heads.size and heads[larger] < 0:
        larger += 1
    if larger == heads.size:
        return -1
    start = int(heads[larger])
    heads[larger] = ids[start]
    while larger > which:  # split; the upper halves stay free
        larger -= 1
        release(ids, heads, start + (SMALLEST << larger), SMALLEST << larger)
    return start


@jit_bare
def release(ids: NDArray[np.int32], heads: NDArray[np.int64], start: int, size: int) -> None:
    """Give a block back."""
    which = 0
    while SMALLEST << which < size:
        which += 1
    ids[start] = heads[which]
    heads[which] = start


@jit_bare
def find(ids: NDArray[np.int32], wanted: int) -> int:
    """Return where a number is among distinct ones, -1 if it is not there.

    To look at all, many at once, takes a tenth of the time of a loop that ends when it has found it.
    """
    at, of_type = np.int32(-1), np.int32(wanted)
    for k in range(ids.size):
        at = max(at, np.int32(k) if ids[k] == of_type else np.int32(-1))
    return int(at)


@jit_bare
def wants_more(n_entries: int, top: NDArray[np.int64]) -> bool:
    """Whether little is left of an array of `n_entries` and its bound, `top[1]`, is not reached."""
    left = n_entries - n_entries // _RESERVED - top[0]
    return bool(left < min(_FIRST, top[1]) // 4 and n_entries < top[1])


class Pool:
    """One int32 per entry; what else an entry has lies in arrays of the same length.

    Parameters
    ----------
    max_entries
        Bound of the array, below 2^31. When it is used up, lists do not grow.
    largest
        Entries of the largest block, a power of two.
    """

    def __init__(self, max_entries: int, largest: int = LARGEST) -> None:
        self.max_entries = max_entries
        self.ids = np.zeros(min(_FIRST, max_entries), np.int32)
        self.heads = np.full((largest // SMALLEST).bit_length(), -1, np.int64)
        self.top = np.array([0, max_entries], np.int64)
        """Where the never used entries begin, and the bound."""

    @property
    def wants_more(self) -> bool:
        """Whether little is left and the bound is not reached: the owner then doubles its arrays."""
        return bool(wants_more(len(self.ids), self.top))

    def grow(self) -> int:
        """Double the array up to the bound and return its new length."""
        larger = np.zeros(min(2 * len(self.ids), self.max_entries), np.int32)
        larger[: len(self.ids)] = self.ids
        self.ids = larger
        return len(larger)

    @property
    def n_free(self) -> int:
        """Entries in free blocks and behind the last block; walks the free lists."""
        free = len(self.ids) - int(self.top[0])
        for which, start in enumerate(self.heads.tolist()):
            while start >= 0:
                free += SMALLEST << which
                start = int(self.ids[start])
        return free
