"""Covisitation as maintained neighbour lists: for each item, what users did just before and after it.

Every event inserts a pair with each of the user's previous `REACH` events, into the lists of both items. A list has a
bounded number of slots; a pair that finds none free takes that of the weakest. So learning costs the same whatever
the length of the stream, and a request merges a few short lists instead of walking histories.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from online_models.engine.changes import Changed
from online_models.engine.items import grown
from online_models.engine.pairs import N_VALUES, drop_pairs, learn_pairs, restore_lists
from online_models.engine.pool import LARGEST, Pool, release

MAX_PAIRS = 8_000_000
"""Of all lists together, 44 bytes each."""

_HEAD = np.dtype([("totals", np.float32, 2), ("ref", np.float64)])
"""What a stored list begins with."""
_PAIR_BYTES = 4 + 4 * N_VALUES


class Neighbours:
    """The neighbour lists of every item by slot.

    Parameters
    ----------
    capacity
        Slots to begin with.
    max_pairs
        Bound of all lists together; when it is reached, a new pair replaces the weakest of its list.
    largest
        Bound of one list, a power of two.
    """

    def __init__(self, capacity: int = 1024, max_pairs: int = MAX_PAIRS, largest: int = LARGEST) -> None:
        self.pool = Pool(max_pairs)
        self.largest = largest
        self.values = np.zeros((len(self.pool.ids), N_VALUES), np.float32)
        self.starts = np.zeros(capacity, np.int32)
        self.rooms = np.zeros(capacity, np.int32)
        self.sizes = np.zeros(capacity, np.int32)
        self.totals = np.zeros((capacity, 2), np.float32)
        self.refs = np.zeros(capacity)
        self.changed = Changed(capacity)

    @property
    def ids(self) -> NDArray[np.int32]:
        """Neighbours of all lists, the learner's slots."""
        return self.pool.ids

    @property
    def fill(self) -> float:
        """Share of the bound that is in use."""
        used = len(self.pool.ids) - self.pool.n_free
        return used / self.pool.max_entries

    def reserve(self, n_slots: int) -> None:
        """Make room for slots below `n_slots`."""
        if n_slots > len(self.sizes):
            capacity = max(n_slots, 2 * len(self.sizes))
            for name in ("starts", "rooms", "sizes", "totals", "refs"):
                setattr(self, name, grown(getattr(self, name), capacity))
            self.changed.reserve(capacity)

    def learn_one(
        self,
        history: NDArray[np.int32],
        times: NDArray[np.float64],
        positives: NDArray[np.bool_],
        item: int,
        t: float,
        positive: bool,
    ) -> None:
        """Learn that `item` came after `history` (item slots, newest last, with their times and outcomes)."""
        self.ensure()
        pool, changed = self.pool, self.changed
        learn_pairs(
            pool.ids,
            self.values,
            pool.heads,
            pool.top,
            self.starts,
            self.rooms,
            self.sizes,
            self.largest,
            self.totals,
            self.refs,
            changed.flags,
            changed.slots,
            changed.count,
            history,
            times,
            positives,
            item,
            t,
            positive,
        )

    def pairs(self, slot: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Neighbours and values of one list, shapes (n,) and (n, N_VALUES)."""
        at = slice(self.starts[slot], self.starts[slot] + self.sizes[slot])
        return self.ids[at], self.values[at]

    def row(self, slot: int) -> bytes:
        """One list with its totals; 16 bytes and 44 a pair."""
        ids, values = self.pairs(slot)
        return b"".join(array.tobytes() for array in (self.totals[slot], self.refs[slot], ids, values))

    def restore(self, slots: NDArray[np.int32], rows: Sequence[bytes]) -> None:
        """Take over lists; what does not fit a pool that is used up is left out, the newest pairs first."""
        if not rows:
            return
        heads = np.frombuffer(b"".join([row[: _HEAD.itemsize] for row in rows]), _HEAD)
        self.totals[slots], self.refs[slots] = heads["totals"], heads["ref"]
        words = np.frombuffer(b"".join([row[_HEAD.itemsize :] for row in rows]), np.int32)
        sizes = np.array([(len(row) - _HEAD.itemsize) // _PAIR_BYTES for row in rows])
        begins = np.append(0, np.cumsum(sizes * (_PAIR_BYTES // words.itemsize)))
        done = 0
        while done < len(rows):
            self.ensure()
            pool = self.pool
            done = restore_lists(
                pool.ids,
                self.values,
                pool.heads,
                pool.top,
                self.starts,
                self.rooms,
                self.sizes,
                self.largest,
                slots,
                words,
                words.view(np.float32),
                sizes,
                begins,
                done,
            )

    def forget(self, slots: NDArray[np.int32], ids: NDArray[np.int32] | None = None) -> None:
        """Give the lists of `slots` back and take out all pairs with `ids`, by default the same slots.

        A list that loses a pair has changed. In a replica, `ids` are the learner's slots of the forgotten items.
        """
        pool = self.pool
        for slot in slots[self.rooms[slots] > 0].tolist():
            release(pool.ids, pool.heads, int(self.starts[slot]), int(self.rooms[slot]))
        for array in (self.starts, self.rooms, self.sizes, self.totals, self.refs):
            array[slots] = 0
        ids = slots if ids is None else ids
        if len(ids):
            gone = np.zeros(int(ids.max()) + 1, np.bool_)
            gone[ids] = True
            changed = self.changed
            drop_pairs(
                pool.ids,
                self.values,
                self.starts,
                self.sizes,
                gone,
                changed.flags,
                changed.slots,
                changed.count,
            )
        self.changed.drop(slots)

    def ensure(self) -> None:
        if self.pool.wants_more:
            self.values = grown(self.values, self.pool.grow())
