"""What each user took last, as the learner needs it."""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import Slots
from online_models.items import ItemSlots
from online_models.user_view import HISTORY_LENGTH
from state.records import UserRow


class History:
    """A user's newest distinct items, newest first: the same that `UserView.of` makes of the profile."""

    __slots__ = ("n_events", "slots", "times_ms", "weights")

    def __init__(self) -> None:
        self.slots: list[int] = []
        self.times_ms: list[int] = []
        self.weights: list[float] = []
        self.n_events = 0

    def add(self, slot: int, ts_ms: int, weight: float, items: ItemSlots) -> None:
        """Add one interaction, in any order; an item that is there already moves to its newest time."""
        self.n_events += 1
        if slot in self.slots:
            position = self.slots.index(slot)
            ts_ms = max(ts_ms, self.times_ms[position])
            weight = max(weight, self.weights[position])
            del self.slots[position], self.times_ms[position], self.weights[position]
        position = 0
        while position < len(self.slots) and self._is_newer(position, slot, ts_ms, items):
            position += 1
        self.slots.insert(position, slot)
        self.times_ms.insert(position, ts_ms)
        self.weights.insert(position, weight)
        if len(self.slots) > HISTORY_LENGTH:
            del self.slots[-1], self.times_ms[-1], self.weights[-1]

    def _is_newer(self, position: int, slot: int, ts_ms: int, items: ItemSlots) -> bool:
        """Profiles order events of the same time by item id."""
        time = self.times_ms[position]
        return time > ts_ms or (time == ts_ms and str(items.item_id(self.slots[position])) > str(items.item_id(slot)))

    def before(self, slot: int, at_most: int) -> tuple[Slots, NDArray[np.int64], NDArray[np.float32]]:
        """Return slots, times and weights of the newest items other than `slot`."""
        slots, times, weights = self.slots[: at_most + 1], self.times_ms[: at_most + 1], self.weights[: at_most + 1]
        if slot in slots:
            position = slots.index(slot)
            del slots[position], times[position], weights[position]
        return (
            np.array(slots[:at_most], dtype=np.int32),
            np.array(times[:at_most], dtype=np.int64),
            np.array(weights[:at_most], dtype=np.float32),
        )


class Histories:
    """The histories of the users who were active last. Others are in the store."""

    def __init__(self, items: ItemSlots) -> None:
        self._items = items
        self._histories: dict[str, History] = {}
        self.changed: set[str] = set()
        """Users whose histories have changed since somebody cleared this."""

    def __len__(self) -> int:
        return len(self._histories)

    def __contains__(self, user_id: str) -> bool:
        return user_id in self._histories

    def of(self, user_id: str) -> History:
        """Return a user's history, an empty one of a new user, to be read or added to now."""
        history = self._histories.pop(user_id, None)
        if history is None:
            history = History()
        self._histories[user_id] = history  # last: the most recently used
        return history

    def add(self, user_id: str, slot: int, ts_ms: int, weight: float) -> None:
        self.of(user_id).add(slot, ts_ms, weight, self._items)
        self.changed.add(user_id)

    def row(self, user_id: str) -> UserRow:
        history = self._histories[user_id]
        return UserRow(
            [str(self._items.item_id(slot)) for slot in history.slots],
            list(history.times_ms),
            list(history.weights),
            history.n_events,
        )

    def restore(self, rows: Mapping[str, UserRow | None]) -> None:
        """Take over stored histories; items that were forgotten meanwhile are left out."""
        for user_id, row in rows.items():
            history = self.of(user_id)
            if row is None:
                continue
            for item_id, time, weight in zip(row.items, row.times, row.weights, strict=True):
                slot = self._items.get(item_id)
                if slot is not None:
                    history.slots.append(slot)
                    history.times_ms.append(time)
                    history.weights.append(weight)
            history.n_events = row.n_events

    def shrink(self, at_most: int) -> None:
        """Drop the least recently used. What has changed must have been stored before."""
        for user_id in list(self._histories)[: max(0, len(self._histories) - at_most)]:
            del self._histories[user_id]

    def forget(self, slots: Iterable[int]) -> None:
        """Take items out of all histories."""
        gone = set(slots)
        for history in self._histories.values():
            kept = [position for position, slot in enumerate(history.slots) if slot not in gone]
            if len(kept) < len(history.slots):
                history.slots = [history.slots[p] for p in kept]
                history.times_ms = [history.times_ms[p] for p in kept]
                history.weights = [history.weights[p] for p in kept]
