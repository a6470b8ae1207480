"""A bounded memory of what is in the store."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class LruCache(Generic[T]):
    """Values by key, the least recently used dropped first.

    Parameters
    ----------
    weigh
        Approximate size of a value in bytes.
    capacity
        Total weight after a `trim`. Values grow in between: only `trim` weighs them and drops any.
    """

    def __init__(self, weigh: Callable[[T], int], capacity: int) -> None:
        self._weigh = weigh
        self._capacity = capacity
        self._values: OrderedDict[str, T] = OrderedDict()
        self._weights: dict[str, int] = {}
        self._total = 0

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, key: str) -> T:
        self._values.move_to_end(key)
        return self._values[key]

    def __setitem__(self, key: str, value: T) -> None:
        self._values[key] = value
        self._values.move_to_end(key)

    def trim(self, changed: Iterable[str]) -> None:
        """Weigh the changed values again, then drop the least recently used until the rest fits."""
        for key in changed:
            weight = self._weigh(self._values[key])
            self._total += weight - self._weights.get(key, 0)
            self._weights[key] = weight
        while self._total > self._capacity:
            key, _ = self._values.popitem(last=False)
            self._total -= self._weights.pop(key, 0)
