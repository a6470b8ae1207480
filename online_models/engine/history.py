"""What a request knows of a user: the newest events, how many there were, and what was seen."""

import numpy as np
from numpy.typing import NDArray

HISTORY = 400
"""Newest events kept, for the learner's factor solves."""

REQUEST = 100
"""Newest events that a request looks at."""

SEEN = 8192
"""Newest distinct items kept to be left out."""


class History:
    """Newest events (newest last) and the items ever taken.

    Arrays are views of growing buffers; half of a full buffer is dropped at once, so appending is amortised O(1).
    """

    __slots__ = ("_items", "_positive", "_seen", "_start", "_times", "end", "n", "n_seen")

    def __init__(self) -> None:
        self.n = 0
        """Events ever."""
        self._start = 0
        self.end = 0
        self._items = np.zeros(4, np.int32)
        self._times = np.zeros(4)
        self._positive = np.zeros(4, np.bool_)
        self._seen = np.zeros(4, np.int32)
        self.n_seen = 0

    @property
    def items(self) -> NDArray[np.int32]:
        return self._items[self._start : self.end]

    @property
    def times(self) -> NDArray[np.float64]:
        return self._times[self._start : self.end]

    @property
    def positive(self) -> NDArray[np.bool_]:
        return self._positive[self._start : self.end]

    @property
    def seen(self) -> NDArray[np.int32]:
        """Distinct items of all events."""
        return self._seen[: self.n_seen]

    def has_seen(self, item: int) -> bool:
        return bool((self.seen == item).any())

    def append(self, item: int, t: float, positive: bool) -> None:
        """Add an event."""
        if not self.has_seen(item):
            self._see(item)
        self.n += 1
        if self.end == len(self._items):
            self._make_room()
        self._items[self.end] = item
        self._times[self.end] = t
        self._positive[self.end] = positive
        self.end += 1
        self._start = max(self._start, self.end - HISTORY)

    def forget(self, gone: NDArray[np.bool_]) -> None:
        """Take out items whose slots are given to others; `gone`: by slot. `n` stays."""
        if not gone[self.seen].any():
            return
        kept = ~gone[self.items]
        items, times, positive = self.items[kept], self.times[kept], self.positive[kept]
        seen = self.seen[~gone[self.seen]]
        self._start, self.end = 0, len(items)
        self._items[: self.end], self._times[: self.end], self._positive[: self.end] = items, times, positive
        self.n_seen = len(seen)
        self._seen[: self.n_seen] = seen

    def _see(self, item: int) -> None:
        if self.n_seen == SEEN:
            self._seen[: SEEN // 2] = self._seen[SEEN // 2 :]
            self.n_seen = SEEN // 2
        if self.n_seen == len(self._seen):
            self._seen = np.concatenate([self._seen, np.zeros_like(self._seen)])
        self._seen[self.n_seen] = item
        self.n_seen += 1

    def _make_room(self) -> None:
        kept = self.end - self._start
        capacity = min(2 * kept, 2 * HISTORY)
        for name in ("_items", "_times", "_positive"):
            old = getattr(self, name)
            new = np.zeros(capacity, old.dtype)
            new[:kept] = old[self._start : self.end]
            setattr(self, name, new)
        self._start, self.end = 0, kept
