"""One user's record: all that a request needs to know of the user. Serving builds the same from a stored profile."""

import numpy as np
from numpy.typing import NDArray

HISTORY = 400
"""Newest events kept."""

SEEN = 8192
"""Newest distinct items kept to be left out."""

BURST = 1800.0
"""Seconds: events in this span count as the current run."""


class User:
    """Newest events (newest last), items already taken, and a few running values.

    Arrays are views of growing buffers; half of a full buffer is dropped at once, so appending is amortised O(1).
    """

    __slots__ = (
        "_items",
        "_positive",
        "_seen",
        "_start",
        "_times",
        "end",
        "mean_age",
        "mean_pop",
        "n",
        "n_repeats",
        "n_seen",
        "slot",
    )

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.n = 0
        """Events ever."""
        self.n_repeats = 0
        self.mean_age = 0.0
        """Running mean of ln(1 + age in days) of the items taken, as they were at the time."""
        self.mean_pop = 0.0
        """Running mean of ln(popularity at 8 days + .05) of the items taken, as they were at the time."""
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

    def append(self, item: int, t: float, positive: bool, age: float, pop: float) -> None:
        """Add an event; `age` and `pop` of the item as the means define them."""
        if self.has_seen(item):
            self.n_repeats += 1
        else:
            self._see(item)
        rate = max(1.0 / (self.n + 1), 0.1)
        self.mean_age += rate * (age - self.mean_age)
        self.mean_pop += rate * (pop - self.mean_pop)
        self.n += 1
        if self.end == len(self._items):
            self._make_room()
        self._items[self.end] = item
        self._times[self.end] = t
        self._positive[self.end] = positive
        self.end += 1
        self._start = max(self._start, self.end - HISTORY)

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
