"""What a user took: the newest steps, and all items ever."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import Slots
from online_models.engine.jit import jit
from state.records import UserRow

HISTORY = 400
"""Newest steps that the learner keeps of a user."""

REQUEST_STEPS = 100
"""Newest steps that a request looks at: what a stored profile has."""

SEEN = 8192
"""Newest distinct items kept to be left out."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Steps:
    """A user's newest interactions, newest last; arrays of one length."""

    items: Slots
    times: NDArray[np.float64]
    """Epoch seconds."""
    positive: Mask
    n_events: int
    """Ever."""

    @classmethod
    def none(cls) -> "Steps":
        return cls(np.empty(0, np.int32), np.empty(0), np.empty(0, np.bool_), 0)


@jit
def contains(values: NDArray[np.int32], n: int, value: int) -> bool:
    """Return whether one of the first `n` values is this one."""
    for k in range(n):  # noqa: SIM110 - a loop is what is compiled
        if values[k] == value:
            return True
    return False


class History:
    """One user in the learner.

    Arrays are views of growing buffers; half of a full buffer is dropped at once, so adding is amortised O(1).
    """

    __slots__ = ("_items", "_n_seen", "_positive", "_seen", "_times", "end", "n", "slot", "start")

    def __init__(self, slot: int) -> None:
        self.slot = slot
        """The user's row among the factors."""
        self.n = 0
        """Steps ever."""
        self.start = 0
        self.end = 0
        self._items = np.zeros(4, np.int32)
        self._times = np.zeros(4)
        self._positive = np.zeros(4, np.bool_)
        self._seen = np.zeros(4, np.int32)
        self._n_seen = 0

    @property
    def items(self) -> Slots:
        return self._items[self.start : self.end]

    @property
    def times(self) -> NDArray[np.float64]:
        return self._times[self.start : self.end]

    @property
    def positive(self) -> Mask:
        return self._positive[self.start : self.end]

    @property
    def seen(self) -> Slots:
        """Distinct items of all steps."""
        return self._seen[: self._n_seen]

    def has_seen(self, item: int) -> bool:
        return contains(self._seen, self._n_seen, item)

    def steps(self) -> Steps:
        """Return what a request looks at."""
        start = max(self.start, self.end - REQUEST_STEPS)
        return Steps(
            self._items[start : self.end], self._times[start : self.end], self._positive[start : self.end], self.n
        )

    def place(self, t: float, is_later: Callable[[int], bool]) -> int:
        """Return how many steps come before one at time `t`; `is_later(slot)` orders those of the same time."""
        at = self.end - self.start
        times = self.times
        while at > 0 and (times[at - 1] > t or (times[at - 1] == t and is_later(int(self.items[at - 1])))):
            at -= 1
        return at

    def append(self, item: int, t: float, positive: bool) -> None:
        """Add the newest step."""
        self.insert(self.end - self.start, item, t, positive)

    def insert(self, at: int, item: int, t: float, positive: bool) -> bool:
        """Add a step behind the first `at` of those that are kept; return whether its item was taken before."""
        again = self.has_seen(item)
        if not again:
            self._see(item)
        self.n += 1
        if self.end == len(self._items):
            self._make_room()
        where = self.start + at
        if where < self.end:
            for array in (self._items, self._times, self._positive):
                array[where + 1 : self.end + 1] = array[where : self.end]
        self._items[where], self._times[where], self._positive[where] = item, t, positive
        self.end += 1
        self.start = max(self.start, self.end - HISTORY)
        return again

    def _see(self, item: int) -> None:
        if self._n_seen == SEEN:
            self._seen[: SEEN // 2] = self._seen[SEEN // 2 :]
            self._n_seen = SEEN // 2
        if self._n_seen == len(self._seen):
            self._seen = np.concatenate([self._seen, np.zeros_like(self._seen)])
        self._seen[self._n_seen] = item
        self._n_seen += 1

    def _make_room(self) -> None:
        self._keep(np.ones(self.end - self.start, np.bool_), 2)

    def _keep(self, kept: Mask, room: int) -> None:
        n = int(kept.sum())
        capacity = max(4, min(room * n, 2 * HISTORY))
        for name in ("_items", "_times", "_positive"):
            old = getattr(self, name)
            new = np.zeros(capacity, old.dtype)
            new[:n] = old[self.start : self.end][kept]
            setattr(self, name, new)
        self.start, self.end = 0, n

    def forget(self, gone: Mask) -> None:
        """Take out the items that the mask over all slots marks."""
        if gone[self.seen].any():
            self._keep(~gone[self.items], 1)
            left = self.seen[~gone[self.seen]]
            self._seen = np.concatenate([left, np.zeros(4, np.int32)])
            self._n_seen = len(left)

    def row(self, as_of: int) -> UserRow:
        arrays = (self.items, self.times, self.positive, self.seen)
        items, times, positive, seen = (array.tobytes() for array in arrays)
        return UserRow(items, times, positive, seen, self.n, as_of)

    def restore(self, row: UserRow, is_current: Callable[[Slots, int], Mask]) -> None:
        """Take over a row, leaving out items that are not those of that time any more. Only on a new history."""
        items, seen = np.frombuffer(row.items, np.int32), np.frombuffer(row.seen, np.int32)
        kept = is_current(items, row.as_of)
        self._items = np.append(items[kept], np.zeros(4, np.int32))
        self._times = np.append(np.frombuffer(row.times, np.float64)[kept], np.zeros(4))
        self._positive = np.append(np.frombuffer(row.positive, np.bool_)[kept], np.zeros(4, np.bool_))
        self.start, self.end = 0, int(kept.sum())
        seen = seen[is_current(seen, row.as_of)]
        self._seen, self._n_seen = np.append(seen, np.zeros(4, np.int32)), len(seen)
        self.n = row.n_events
