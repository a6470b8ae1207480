"""Bounded memories: of what is in the store, and of what came last."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Newest(OrderedDict[K, T]):
    """Values by key; those that came the longest ago are dropped first.

    Not a plain dict: one whose first keys are deleted looks for its first key behind all of them, each time.
    """

    def __init__(self, at_most: int) -> None:
        super().__init__()
        self.at_most = at_most

    def remember(self, key: K, value: T) -> None:
        """Add a value, or replace it where it stands; of too many, drop the oldest."""
        self[key] = value
        if len(self) > self.at_most:
            self.popitem(last=False)


class LruCache(OrderedDict[str, T]):
    """Values by key; those whose change is the longest ago are dropped first.

    Parameters
    ----------
    weigh
        Approximate size of a value in bytes.
    capacity
        Total weight, at about most. Only `trim` weighs values and drops any; they grow in between, and others come. So
        it leaves room for as much as has come since the last time, but for no more than half of all.
    """

    def __init__(self, weigh: Callable[[T], int], capacity: int) -> None:
        super().__init__()
        self._weigh = weigh
        self._capacity = capacity
        self._weights: dict[str, int] = {}
        self._total = 0

    def trim(self, changed: Iterable[str]) -> None:
        """Weigh the changed values again, then drop the others, oldest first, until the rest and what comes fit."""
        weights, weigh, before = self._weights, self._weigh, self._total
        for key in changed:
            weight = weigh(self[key])
            self._total += weight - weights.get(key, 0)
            weights[key] = weight
            self.move_to_end(key)
        room = min(max(0, self._total - before), self._capacity // 2)
        while self._total > self._capacity - room:
            key, _ = self.popitem(last=False)
            self._total -= weights.pop(key, 0)
