"""Which rows changed since they were last published."""

import numpy as np
from numpy.typing import NDArray

from online_models.engine.jit import jit_bare


@jit_bare
def mark(flags: NDArray[np.bool_], slots: NDArray[np.int32], count: NDArray[np.int64], slot: int) -> None:
    """Note a slot once, from within a kernel."""
    if not flags[slot]:
        flags[slot] = True
        slots[count[0]] = slot
        count[0] += 1


@jit_bare
def mark_many(
    flags: NDArray[np.bool_], slots: NDArray[np.int32], count: NDArray[np.int64], these: NDArray[np.int32]
) -> None:
    """Note each of some slots once."""
    for m in range(these.size):
        mark(flags, slots, count, these[m])


class Changed:
    """Slots in the order in which they first changed, each once."""

    def __init__(self, capacity: int) -> None:
        self.flags = np.zeros(capacity, np.bool_)
        self.slots = np.zeros(capacity, np.int32)
        self.count = np.zeros(1, np.int64)

    def __len__(self) -> int:
        return int(self.count[0])

    def reserve(self, capacity: int) -> None:
        """Make room for slots below `capacity`."""
        more = capacity - len(self.flags)
        if more > 0:
            self.flags = np.concatenate([self.flags, np.zeros(more, np.bool_)])
            self.slots = np.concatenate([self.slots, np.zeros(more, np.int32)])

    def add(self, slot: int) -> None:
        mark(self.flags, self.slots, self.count, slot)

    def add_many(self, slots: NDArray[np.int32]) -> None:
        mark_many(self.flags, self.slots, self.count, slots)

    def drop(self, slots: NDArray[np.int32]) -> None:
        """Take slots out: what is forgotten is not published."""
        kept = self.slots[: len(self)]
        self.flags[slots] = False
        kept = kept[self.flags[kept]]
        self.slots[: len(kept)] = kept
        self.count[0] = len(kept)

    def peek(self) -> NDArray[np.int32]:
        """Return the slots, valid until the next change."""
        return self.slots[: len(self)]

    def take(self) -> NDArray[np.int32]:
        """Return the slots and start anew."""
        taken = self.slots[: len(self)].copy()
        self.flags[taken] = False
        self.count[0] = 0
        return taken
