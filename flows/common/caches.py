"""A bounded memory of what is in the store."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


class LruCache(OrderedDict[str, T]):
    """Values by key; those whose change is the longest ago are dropped first.

    Parameters
    ----------
    weigh
        Approximate size of a value in bytes.
    capacity
        Total weight after a `trim`. Values grow in between: only `trim` weighs them and drops any.
    """

    def __init__(self, weigh: Callable[[T], int], capacity: int) -> None:
        super().__init__()
        self._weigh = weigh
        self._capacity = capacity
        self._weights: dict[str, int] = {}
        self._total = 0

    def trim(self, changed: Iterable[str]) -> None:
        """Weigh the changed values again, then drop the others, oldest first, until the rest fits."""
        weights, weigh = self._weights, self._weigh
        for key in changed:
            weight = weigh(self[key])
            self._total += weight - weights.get(key, 0)
            weights[key] = weight
            self.move_to_end(key)
        while self._total > self._capacity:
            key, _ = self.popitem(last=False)
            self._total -= weights.pop(key, 0)
