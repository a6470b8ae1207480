"""Which items there are: their slots, and the plain counts of their events."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import Slots, as_slots, grown


class ItemSlots:
    """Gives items their slots: dense, reused after an item is forgotten."""

    def __init__(self) -> None:
        self._slots: dict[str, int] = {}
        self._ids: list[str | None] = []
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._slots

    @property
    def n_slots(self) -> int:
        """Every slot is below."""
        return len(self._ids)

    def get(self, item_id: str) -> int | None:
        return self._slots.get(item_id)

    def item_id(self, slot: int) -> str | None:
        """Return the id of the item at the slot, None for a free one."""
        return self._ids[slot]

    def add(self, item_id: str) -> int:
        """Return a slot for an item that has none."""
        if self._free:
            slot = self._free.pop()
            self._ids[slot] = item_id
        else:
            slot = len(self._ids)
            self._ids.append(item_id)
        self._slots[item_id] = slot
        return slot

    def forget(self, slots: Iterable[int]) -> None:
        for slot in slots:
            item_id = self._ids[slot]
            if item_id is not None:
                del self._slots[item_id]
                self._ids[slot] = None
                self._free.append(slot)
        self._free.sort(reverse=True)  # the lowest is reused first: the same after a restart

    def restore(self, slots: dict[str, int]) -> None:
        """Take over all items at once."""
        self._slots = dict(slots)
        self._ids = [None] * (max(slots.values(), default=-1) + 1)
        for item_id, slot in slots.items():
            self._ids[slot] = item_id
        self._free = [slot for slot in range(len(self._ids) - 1, -1, -1) if self._ids[slot] is None]

    def known(self, item_ids: Iterable[str]) -> Slots:
        """Return the slots of those of the items that have one, in order."""
        return as_slots(slot for item_id in item_ids if (slot := self._slots.get(item_id)) is not None)


class ItemStatistics:
    """Counts and times of each item's events; times in epoch ms, 0 while there is none."""

    def __init__(self) -> None:
        self.n_events: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.n_positives: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.first_ts: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.last_ts: NDArray[np.int64] = np.zeros(0, dtype=np.int64)

    def reserve(self, n_slots: int) -> None:
        """Make room for slots below `n_slots`."""
        self.n_events = grown(self.n_events, n_slots, 0)
        self.n_positives = grown(self.n_positives, n_slots, 0)
        self.first_ts = grown(self.first_ts, n_slots, 0)
        self.last_ts = grown(self.last_ts, n_slots, 0)

    def learn_one(self, slot: int, ts_ms: int, *, positive: bool) -> None:
        """Count one event, in any order."""
        self.n_events[slot] += 1
        if positive:
            self.n_positives[slot] += 1
        first = self.first_ts[slot]
        if first == 0 or ts_ms < first:
            self.first_ts[slot] = ts_ms
        if ts_ms > self.last_ts[slot]:
            self.last_ts[slot] = ts_ms

    def row(self, slot: int) -> tuple[int, int, int, int]:
        """Return events, positives, first and last time of one item."""
        columns = (self.n_events, self.n_positives, self.first_ts, self.last_ts)
        return tuple(int(column[slot]) for column in columns)  # type: ignore[return-value]

    def restore(self, slot: int, n_events: int, n_positives: int, first_ts: int, last_ts: int) -> None:
        self.n_events[slot] = n_events
        self.n_positives[slot] = n_positives
        self.first_ts[slot] = first_ts
        self.last_ts[slot] = last_ts

    def forget(self, slots: Slots) -> None:
        for column in (self.n_events, self.n_positives, self.first_ts, self.last_ts):
            column[slots] = 0
