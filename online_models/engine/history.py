"""What users took: of each the newest steps, and all items ever, in two pools that all users share."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import Slots
from online_models.engine.items import grown
from online_models.engine.jit import jit, jit_bare
from online_models.engine.pool import SMALLEST, Pool, allocate, find, release

HISTORY = 400
"""Newest steps that the learner keeps of a user."""

REQUEST_STEPS = 100
"""Newest steps that a request looks at: what a stored profile has."""

SEEN = 8192
"""Newest distinct items kept to be left out."""

_LARGEST = 512
"""Steps of the largest block: with room behind the newest `HISTORY`, so that they move down now and then only."""

_MAX_ENTRIES = 1 << 30
"""Of a pool: users are bounded, and so is what each has."""

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


class StepArrays(NamedTuple):
    """Steps of all users for kernels: those of a user are at `starts + firsts`, `sizes` of them."""

    items: NDArray[np.int32]
    times: NDArray[np.float64]
    positive: Mask
    heads: NDArray[np.int64]
    top: NDArray[np.int64]
    starts: NDArray[np.int64]
    rooms: NDArray[np.int32]
    firsts: NDArray[np.int32]
    sizes: NDArray[np.int32]
    totals: NDArray[np.int64]
    """Steps ever."""


class SeenArrays(NamedTuple):
    """Distinct items of all users for kernels."""

    items: NDArray[np.int32]
    heads: NDArray[np.int64]
    top: NDArray[np.int64]
    starts: NDArray[np.int64]
    rooms: NDArray[np.int32]
    sizes: NDArray[np.int32]


@jit_bare
def see(seen: SeenArrays, user: int, item: int) -> bool:
    """Remember that a user took an item; return whether it was known. Of too many, the older half is dropped."""
    size, start = int(seen.sizes[user]), int(seen.starts[user])
    if find(seen.items[start : start + size], item) >= 0:
        return True
    if size == seen.rooms[user]:
        room = max(SMALLEST, 2 * size)
        at = allocate(seen.items, seen.heads, seen.top, room) if room <= SEEN else -1
        if at >= 0:
            for k in range(size):
                seen.items[at + k] = seen.items[start + k]
            if size > 0:
                release(seen.items, seen.heads, start, size)
            seen.starts[user] = start = at
            seen.rooms[user] = room
        elif size == 0:
            return False
        else:
            kept = size - size // 2
            for k in range(kept):
                seen.items[start + k] = seen.items[start + size - kept + k]
            size = kept
    seen.items[start + size] = item
    seen.sizes[user] = size + 1
    return False


@jit_bare
def make_room(steps: StepArrays, user: int) -> int:
    """Let a full block of steps have a place more; return how many of the oldest had to go for it."""
    start, first, size, room = int(steps.starts[user]), steps.firsts[user], steps.sizes[user], int(steps.rooms[user])
    larger = max(SMALLEST, 2 * room)
    at = allocate(steps.items, steps.heads, steps.top, larger) if larger <= _LARGEST else -1
    dropped = 0
    if at < 0:
        if room == 0:
            return 0
        at = start
        if first == 0:
            dropped = size - size // 2
    else:
        steps.starts[user] = at
        steps.rooms[user] = larger
    for k in range(size - dropped):
        steps.items[at + k] = steps.items[start + first + dropped + k]
        steps.times[at + k] = steps.times[start + first + dropped + k]
        steps.positive[at + k] = steps.positive[start + first + dropped + k]
    if at != start and room > 0:
        release(steps.items, steps.heads, start, room)
    steps.firsts[user] = 0
    steps.sizes[user] = size - dropped
    return dropped


@jit_bare
def insert_step(steps: StepArrays, user: int, at: int, item: int, t: float, positive: bool) -> None:
    """Add a step behind the first `at` of those that are kept."""
    steps.totals[user] += 1
    if steps.firsts[user] + steps.sizes[user] == steps.rooms[user]:
        at = max(0, at - make_room(steps, user))
        if steps.rooms[user] == 0:
            return
    first = int(steps.starts[user]) + steps.firsts[user]
    size = steps.sizes[user]
    for k in range(first + size, first + at, -1):
        steps.items[k] = steps.items[k - 1]
        steps.times[k] = steps.times[k - 1]
        steps.positive[k] = steps.positive[k - 1]
    steps.items[first + at] = item
    steps.times[first + at] = t
    steps.positive[first + at] = positive
    if size == HISTORY:
        steps.firsts[user] += 1
    else:
        steps.sizes[user] = size + 1


@jit
def drop_items(steps: StepArrays, seen: SeenArrays, gone: Mask) -> None:
    """Take items out of all histories; a mask over all slots."""
    for user in range(steps.sizes.size):
        start = int(seen.starts[user])
        kept = 0
        for k in range(start, start + seen.sizes[user]):
            if not gone[seen.items[k]]:
                seen.items[start + kept] = seen.items[k]
                kept += 1
        seen.sizes[user] = kept
        first = int(steps.starts[user]) + steps.firsts[user]
        kept = 0
        for k in range(first, first + steps.sizes[user]):
            if not gone[steps.items[k]]:
                steps.items[first + kept] = steps.items[k]
                steps.times[first + kept] = steps.times[k]
                steps.positive[first + kept] = steps.positive[k]
                kept += 1
        steps.sizes[user] = kept


class Histories:
    """What each user took, by slot."""

    def __init__(self, capacity: int = 1024) -> None:
        self._steps = Pool(_MAX_ENTRIES, _LARGEST)
        self._times = np.zeros(len(self._steps.ids))
        self._positive = np.zeros(len(self._steps.ids), np.bool_)
        self._seen = Pool(_MAX_ENTRIES, SEEN)
        self._starts = np.zeros(capacity, np.int64)
        self._rooms = np.zeros(capacity, np.int32)
        self._firsts = np.zeros(capacity, np.int32)
        self._sizes = np.zeros(capacity, np.int32)
        self._totals = np.zeros(capacity, np.int64)
        self._seen_starts = np.zeros(capacity, np.int64)
        self._seen_rooms = np.zeros(capacity, np.int32)
        self._seen_sizes = np.zeros(capacity, np.int32)
        self._made = self._arrays()

    @property
    def arrays(self) -> tuple[StepArrays, SeenArrays]:
        """Of all users, valid until the next `reserve` or `ensure`."""
        return self._made

    def reserve(self, n_slots: int) -> None:
        """Make room for slots below `n_slots`."""
        if n_slots > len(self._sizes):
            capacity = max(n_slots, 2 * len(self._sizes))
            for name in ("starts", "rooms", "firsts", "sizes", "totals", "seen_starts", "seen_rooms", "seen_sizes"):
                setattr(self, f"_{name}", grown(getattr(self, f"_{name}"), capacity))
            self._made = self._arrays()

    def ensure(self) -> None:
        """Let the pools have room for any step to come."""
        if self._steps.wants_more:
            n = self._steps.grow()
            self._times, self._positive = grown(self._times, n), grown(self._positive, n)
            self._made = self._arrays()
        if self._seen.wants_more:
            self._seen.grow()
            self._made = self._arrays()

    def of(self, slot: int) -> "History":
        return History(slot, self)

    def restore(
        self, slot: int, items: Slots, times: NDArray[np.float64], positive: Mask, seen: Slots, n_events: int
    ) -> None:
        """Take over one user. Only into an empty slot."""
        self.ensure()
        self._totals[slot] = n_events
        items, times, positive, seen = items[-HISTORY:], times[-HISTORY:], positive[-HISTORY:], seen[-SEEN:]
        if len(items):
            room, at = self._block(self._steps, len(items))
            self._starts[slot], self._rooms[slot], self._sizes[slot] = at, room, len(items)
            kept = slice(at, at + len(items))
            self._steps.ids[kept], self._times[kept], self._positive[kept] = items, times, positive
        if len(seen):
            room, at = self._block(self._seen, len(seen))
            self._seen_starts[slot], self._seen_rooms[slot], self._seen_sizes[slot] = at, room, len(seen)
            self._seen.ids[at : at + len(seen)] = seen

    def clear(self, slot: int) -> None:
        """Empty a slot."""
        if self._rooms[slot]:
            release(self._steps.ids, self._steps.heads, int(self._starts[slot]), int(self._rooms[slot]))
        if self._seen_rooms[slot]:
            release(self._seen.ids, self._seen.heads, int(self._seen_starts[slot]), int(self._seen_rooms[slot]))
        for array in (self._rooms, self._firsts, self._sizes, self._totals, self._seen_rooms, self._seen_sizes):
            array[slot] = 0

    def forget(self, gone: Mask) -> None:
        """Take out the items that the mask over all slots marks."""
        drop_items(*self.arrays, gone)

    @staticmethod
    def _block(pool: Pool, n: int) -> tuple[int, int]:
        room = SMALLEST
        while room < n:
            room *= 2
        at = allocate(pool.ids, pool.heads, pool.top, room)
        if at < 0:
            raise MemoryError(f"histories: no room for {n} entries in a pool of {pool.max_entries:,}")
        return room, at

    def _arrays(self) -> tuple[StepArrays, SeenArrays]:
        pool, seen = self._steps, self._seen
        return (
            StepArrays(
                pool.ids,
                self._times,
                self._positive,
                pool.heads,
                pool.top,
                self._starts,
                self._rooms,
                self._firsts,
                self._sizes,
                self._totals,
            ),
            SeenArrays(seen.ids, seen.heads, seen.top, self._seen_starts, self._seen_rooms, self._seen_sizes),
        )


class History:
    """One user's place in `histories`, by default some of its own. Arrays are views, valid until the next step."""

    __slots__ = ("_histories", "slot")

    def __init__(self, slot: int = 0, histories: Histories | None = None) -> None:
        self.slot = slot
        """The user's row among histories and factors."""
        self._histories = histories or Histories(slot + 1)

    @property
    def n(self) -> int:
        """Steps ever."""
        return int(self._histories.arrays[0].totals[self.slot])

    @property
    def items(self) -> Slots:
        return self._histories.arrays[0].items[self._kept]

    @property
    def times(self) -> NDArray[np.float64]:
        return self._histories.arrays[0].times[self._kept]

    @property
    def positive(self) -> Mask:
        return self._histories.arrays[0].positive[self._kept]

    @property
    def seen(self) -> Slots:
        """Distinct items of all steps."""
        seen = self._histories.arrays[1]
        start = int(seen.starts[self.slot])
        return seen.items[start : start + int(seen.sizes[self.slot])]

    @property
    def _kept(self) -> slice:
        steps = self._histories.arrays[0]
        start = int(steps.starts[self.slot]) + int(steps.firsts[self.slot])
        return slice(start, start + int(steps.sizes[self.slot]))

    def has_seen(self, item: int) -> bool:
        return find(self.seen, item) >= 0

    def steps(self) -> Steps:
        """Return what a request looks at."""
        steps, kept = self._histories.arrays[0], self._kept
        newest = slice(max(kept.start, kept.stop - REQUEST_STEPS), kept.stop)
        return Steps(steps.items[newest], steps.times[newest], steps.positive[newest], self.n)

    def append(self, item: int, t: float, positive: bool) -> None:
        """Add the newest step."""
        self._histories.ensure()
        steps, seen = self._histories.arrays
        see(seen, self.slot, item)
        insert_step(steps, self.slot, int(steps.sizes[self.slot]), item, t, positive)

    def forget(self, gone: Mask) -> None:
        """Take items out of all histories that share the pools."""
        self._histories.forget(gone)
