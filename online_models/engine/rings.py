"""The newest users of each item, by which its vector is improved."""

import numpy as np
from numpy.typing import NDArray

from online_models.engine.items import grown
from online_models.engine.jit import jit, jit_bare
from online_models.engine.pool import LARGEST, SMALLEST, Pool, allocate, release

MAX_ENTRIES = 16_000_000
"""Of all rings together, 4 bytes each."""


@jit
def rotate(ids: NDArray[np.int32], start: int, size: int, at: int) -> None:
    """Bring the entry at position `at`, the oldest, to the front."""
    old = ids[start : start + size].copy()
    for k in range(size):
        ids[start + k] = old[(at + k) % size]


@jit_bare
def append(
    ids: NDArray[np.int32],
    heads: NDArray[np.int64],
    top: NDArray[np.int64],
    starts: NDArray[np.int32],
    rooms: NDArray[np.int32],
    sizes: NDArray[np.int32],
    nexts: NDArray[np.int32],
    totals: NDArray[np.int64],
    item: int,
    entry: int,
) -> None:
    """Add an entry, in place of the oldest if the ring is full and cannot grow."""
    totals[item] += 1
    size, room = sizes[item], rooms[item]
    if size == room:
        larger = max(SMALLEST, 2 * room)
        at = allocate(ids, heads, top, larger) if larger <= LARGEST else -1
        if at >= 0:
            if size > 0:
                rotate(ids, starts[item], size, nexts[item] % size)
                for k in range(size):
                    ids[at + k] = ids[starts[item] + k]
                release(ids, heads, starts[item], room)
            starts[item], rooms[item], nexts[item] = at, larger, size
        elif room == 0:
            return
    at = nexts[item] % rooms[item]
    ids[starts[item] + at] = entry
    nexts[item] = at + 1
    sizes[item] = max(size, at + 1)


@jit
def drop_users(
    ids: NDArray[np.int32],
    starts: NDArray[np.int32],
    sizes: NDArray[np.int32],
    nexts: NDArray[np.int32],
    totals: NDArray[np.int64],
    gone: NDArray[np.bool_],
) -> None:
    """Take out the entries of users that are `gone`, oldest first; totals shrink by the same share."""
    for item in range(sizes.size):
        size = sizes[item]
        n_gone = 0
        for k in range(starts[item], starts[item] + size):
            user = ids[k] >> 1
            n_gone += user < gone.size and gone[user]
        if n_gone == 0:
            continue
        rotate(ids, starts[item], size, nexts[item] % size)
        at = starts[item]
        for k in range(starts[item], starts[item] + size):
            user = ids[k] >> 1
            if not (user < gone.size and gone[user]):
                ids[at] = ids[k]
                at += 1
        kept = at - starts[item]
        totals[item] = totals[item] * kept // size
        sizes[item] = kept
        nexts[item] = kept


class Rings:
    """Newest events of every item by slot, as 2 * user + positive, and how many there were."""

    def __init__(self, capacity: int, max_entries: int = MAX_ENTRIES) -> None:
        self.pool = Pool(max_entries)
        self.starts = np.zeros(capacity, np.int32)
        self.rooms = np.zeros(capacity, np.int32)
        self.sizes = np.zeros(capacity, np.int32)
        self.nexts = np.zeros(capacity, np.int32)
        self.totals = np.zeros(capacity, np.int64)

    def reserve(self, capacity: int) -> None:
        """Make room for slots below `capacity`."""
        if capacity > len(self.sizes):
            for name in ("starts", "rooms", "sizes", "nexts", "totals"):
                setattr(self, name, grown(getattr(self, name), capacity))

    def append(self, item: int, entry: int) -> None:
        """Add an entry."""
        self.ensure()
        pool = self.pool
        append(
            pool.ids,
            pool.heads,
            pool.top,
            self.starts,
            self.rooms,
            self.sizes,
            self.nexts,
            self.totals,
            item,
            entry,
        )

    def of(self, item: int) -> NDArray[np.int32]:
        """Entries of one item, in no order that matters to a sum."""
        return self.pool.ids[self.starts[item] : self.starts[item] + self.sizes[item]]

    def row(self, item: int) -> bytes:
        """One ring as it lies."""
        head = np.array([self.totals[item], self.nexts[item]], np.int64)
        return head.tobytes() + self.of(item).tobytes()

    def restore(self, item: int, row: bytes) -> None:
        """Take over a ring. If the pool is used up, it begins empty."""
        self.ensure()
        pool = self.pool
        total, following = np.frombuffer(row, np.int64, 2).tolist()
        entries = np.frombuffer(row, np.int32, -1, 16)
        self._release(item)
        room = SMALLEST
        while room < len(entries):
            room *= 2
        at = allocate(pool.ids, pool.heads, pool.top, room)
        self.totals[item] = total
        if at >= 0:
            self.starts[item], self.rooms[item] = at, room
            self.sizes[item], self.nexts[item] = len(entries), following
            pool.ids[at : at + len(entries)] = entries

    def forget(self, items: NDArray[np.int32]) -> None:
        """Give the rings of items back."""
        for item in items.tolist():
            self._release(item)
        self.totals[items] = 0

    def forget_users(self, users: NDArray[np.int32]) -> None:
        """Take users out of all rings."""
        if len(users):
            gone = np.zeros(int(users.max()) + 1, np.bool_)
            gone[users] = True
            drop_users(self.pool.ids, self.starts, self.sizes, self.nexts, self.totals, gone)

    def _release(self, item: int) -> None:
        if self.rooms[item]:
            release(self.pool.ids, self.pool.heads, int(self.starts[item]), int(self.rooms[item]))
        for array in (self.starts, self.rooms, self.sizes, self.nexts):
            array[item] = 0

    def ensure(self) -> None:
        if self.pool.wants_more:
            self.pool.grow()
