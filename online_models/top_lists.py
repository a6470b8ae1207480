"""The most popular items at each half-life, kept up to date without looking at all items."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import Slots
from online_models.popularity import DecayedPopularity

_REMADE_AFTER = 16


class TopLists:
    """The `length` items with the highest keys of `DecayedPopularity`, exactly, one list per half-life.

    Keys do not depend on the moment and only grow with events, so an item that is in no list and has no event stays
    out: an update looks at the lists and at what has changed. Forgotten items need a pass over all.

    Each list is brought up to date when it is read.

    Parameters
    ----------
    length
        Items per list.
    """

    def __init__(self, popularity: DecayedPopularity, length: int = 512) -> None:
        self._popularity = popularity
        self._length = length
        n_lists = popularity.keys.shape[1]
        self._lists: list[NDArray[np.int32] | None] = [None] * n_lists
        """None where a list has to be made from all items."""
        self._changed: list[set[int]] = [set() for _ in range(n_lists)]

    def changed(self, slots: Iterable[int]) -> None:
        """Say that these items had events."""
        slots = tuple(slots)
        for column, changed in enumerate(self._changed):
            if self._lists[column] is not None:
                changed.update(slots)
                if len(changed) > _REMADE_AFTER * self._length:  # nobody reads this one
                    self._lists[column] = None
                    changed.clear()

    def all_changed(self) -> None:
        """Say that items were forgotten, or that anything else happened."""
        self._lists = [None] * len(self._lists)

    def top(self, column: int) -> Slots:
        """Return the items of the list of half-life number `column`, best first; equals by slot."""
        best, changed = self._lists[column], self._changed[column]
        if best is None:
            best = self._best(np.arange(len(self._popularity.keys), dtype=np.int32), column)
        elif changed:
            best = self._best(np.union1d(best, np.fromiter(changed, dtype=np.int32)), column)
        changed.clear()
        self._lists[column] = best
        return best

    def _best(self, pool: Slots, column: int) -> Slots:
        keys = self._popularity.keys[pool, column]
        if len(pool) > self._length:
            best = np.argpartition(keys, len(keys) - self._length)[len(keys) - self._length :]
            pool, keys = pool[best], keys[best]
        present = keys > -np.inf
        pool, keys = pool[present], keys[present]
        return pool[np.lexsort((pool, -keys))]
