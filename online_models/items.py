"""Which items there are: their slots."""

from collections.abc import Iterable
from typing import cast

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import Slots


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

    @property
    def reuses(self) -> bool:
        """Whether the next new item gets a slot that another one had."""
        return bool(self._free)

    def get(self, item_id: str) -> int | None:
        return self._slots.get(item_id)

    def item_id(self, slot: int) -> str | None:
        """Return the id of the item at the slot, None for a free one."""
        return self._ids[slot]

    def item_ids(self, slots: Slots | NDArray[np.intp]) -> list[str]:
        """Return the ids of the items at some slots, none of which may be free."""
        ids = cast("list[str]", self._ids)
        return [ids[slot] for slot in slots.tolist()]

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
        return np.array([slot for slot in map(self._slots.get, item_ids) if slot is not None], np.int32)
