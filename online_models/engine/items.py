"""What is counted per item: popularity at several half-lives and by user stage, age, recency.

A row is absolute and dated (`CLOCK_POSITIVE`), so it can be published alone and read at any later time.
"""

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from online_models.engine.jit import jit_bare
from online_models.engine.popular import TopList

A = TypeVar("A", bound=np.generic)

DAY = 86_400.0
HALF_LIVES = (0.1, 0.5, 2.0, 8.0, 30.0)
"""Days. Popularity is kept at each of these and without decay."""

N_STAGES = 8
"""A user's stage is min(7, floor(log2(earlier events + 1)))."""

TOTAL = len(HALF_LIVES)
STAGE_RECENT = TOTAL + 1
STAGE_TOTAL = STAGE_RECENT + N_STAGES
N_EVENTS = STAGE_TOTAL + N_STAGES
SUM_STAGE = N_EVENTS + 1
N_COUNTS = SUM_STAGE + 1

CLOCK_POSITIVE, CLOCK_FIRST, CLOCK_LAST = 0, 1, 2

POP_FAST, POP_SLOW, POP_ACTIVE = 1, 3, 4
"""Columns of the two popularity lists, half a day and eight days, and of the set that requests scan: thirty days."""

SHOWN, TAKEN = 0, 1
"""Columns of exposure."""
MOST_SHOWN = 1000
"""Impressions up to which exposure is counted: an item that was shown more often is known."""

_ROW = np.dtype(
    [("counts", np.float32, N_COUNTS), ("clocks", np.float64, 3), ("seq_last", np.int64), ("exposure", np.float32, 2)]
)
"""Of one item, as it is stored."""

_RATES = np.array([math.log(2.0) / (days * DAY) for days in HALF_LIVES])


def stage(n_events: int) -> int:
    """Bucket of a user with this many earlier events."""
    return min(N_STAGES - 1, (n_events + 1).bit_length() - 1)


@jit_bare
def learn_item(
    counts: NDArray[np.float32],
    clocks: NDArray[np.float64],
    seq_last: NDArray[np.int64],
    rates: NDArray[np.float64],
    item: int,
    t: float,
    positive: bool,
    n_user: int,
    bucket: int,
    seq: int,
) -> None:
    """Count one event. A late event (t before the row's date) adds its decayed share."""
    row = counts[item]
    clock = clocks[item]
    if row[N_EVENTS] == 0.0:
        clock[CLOCK_POSITIVE] = t
        clock[CLOCK_FIRST] = t
        clock[CLOCK_LAST] = t
    row[N_EVENTS] += 1.0
    row[SUM_STAGE] += math.log1p(n_user)
    clock[CLOCK_LAST] = max(clock[CLOCK_LAST], t)
    seq_last[item] = seq
    if not positive:
        return
    if row[TOTAL] == 0.0:
        clock[CLOCK_POSITIVE] = t
    elapsed = t - clock[CLOCK_POSITIVE]
    old = max(elapsed, 0.0)
    late = max(-elapsed, 0.0)
    for k in range(rates.size):
        row[k] = row[k] * math.exp(-rates[k] * old) + math.exp(-rates[k] * late)
    row[TOTAL] += 1.0
    fade = math.exp(-rates[POP_SLOW] * old)
    for b in range(N_STAGES):
        row[STAGE_RECENT + b] *= fade
    row[STAGE_RECENT + bucket] += math.exp(-rates[POP_SLOW] * late)
    row[STAGE_TOTAL + bucket] += 1.0
    clock[CLOCK_POSITIVE] = max(clock[CLOCK_POSITIVE], t)


class ItemTable:
    """Counts of every item by slot, and the popularity lists."""

    def __init__(self, capacity: int = 1024) -> None:
        self.counts = np.zeros((capacity, N_COUNTS), np.float32)
        self.clocks = np.zeros((capacity, 3))
        self.seq_last = np.zeros(capacity, np.int64)
        self.exposure = np.zeros((capacity, 2), np.float32)
        """How often lists showed the item, and how often it was taken there."""
        self.n_events = np.zeros(capacity, np.float32)
        """A copy of that column of `counts`: requests look at those of thousands of items."""
        self.fast = TopList(POP_FAST, HALF_LIVES[POP_FAST] * DAY)
        self.slow = TopList(POP_SLOW, HALF_LIVES[POP_SLOW] * DAY)
        self.rates = _RATES

    def reserve(self, n_slots: int) -> None:
        """Make room for slots below `n_slots`."""
        if n_slots > len(self.counts):
            capacity = max(n_slots, 2 * len(self.counts))
            self.counts = grown(self.counts, capacity)
            self.clocks = grown(self.clocks, capacity)
            self.seq_last = grown(self.seq_last, capacity)
            self.exposure = grown(self.exposure, capacity)
            self.n_events = grown(self.n_events, capacity)

    def learn_one(self, item: int, t: float, positive: bool, n_user: int, seq: int) -> None:
        """Count an event of a user who had `n_user` events before it; `seq` is its index in the stream."""
        learn_item(self.counts, self.clocks, self.seq_last, self.rates, item, t, positive, n_user, stage(n_user), seq)
        self.n_events[item] = self.counts[item, N_EVENTS]
        if positive:
            self.refresh(np.array([item], np.int32))

    def learn_exposure(self, item: int, shown: bool, taken: bool) -> bool:
        """Count an impression, or that it was taken; return whether that is of interest yet."""
        exposure = self.exposure[item]
        if exposure[SHOWN] >= MOST_SHOWN:
            return False
        exposure[SHOWN] += shown
        exposure[TAKEN] += taken
        return True

    def refresh(self, slots: NDArray[np.int32]) -> None:
        """Let the popularity lists follow rows that were learned or restored."""
        for top in (self.fast, self.slow):
            top.refresh(slots, self.counts, self.clocks[:, CLOCK_POSITIVE], self.seq_last)

    def row(self, slot: int) -> bytes:
        """Everything about one item, of fixed length."""
        arrays = (self.counts, self.clocks, self.seq_last, self.exposure)
        return b"".join(array[slot].tobytes() for array in arrays)

    def restore(self, slots: NDArray[np.int32], rows: Sequence[bytes]) -> None:
        """Take over rows; `refresh` must follow."""
        # Rows of before exposure was counted have none.
        restored = np.frombuffer(b"".join(row.ljust(_ROW.itemsize, b"\0") for row in rows), _ROW)
        for name in ("counts", "clocks", "seq_last", "exposure"):
            getattr(self, name)[slots] = restored[name]
        self.n_events[slots] = restored["counts"][:, N_EVENTS]

    def forget(self, slots: NDArray[np.int32]) -> None:
        """Clear the rows and rebuild the lists if one of them was there."""
        self.counts[slots] = 0.0
        self.clocks[slots] = 0.0
        self.seq_last[slots] = 0
        self.exposure[slots] = 0.0
        self.n_events[slots] = 0.0
        if np.isin(self.fast.ids, slots).any() or np.isin(self.slow.ids, slots).any():
            self.fast.clear()
            self.slow.clear()
            self.refresh(self.known())

    def popularity(self, slots: NDArray[np.int32], column: int, t: float) -> NDArray[np.float32]:
        """Return positives of some items as decayed to time `t` at the half-life number `column`."""
        elapsed = np.maximum(t - self.clocks[slots, CLOCK_POSITIVE], 0.0)
        return np.asarray(self.counts[slots, column] * np.exp(-self.rates[column] * elapsed), np.float32)

    def known(self) -> NDArray[np.int32]:
        """Slots of items with events."""
        return np.flatnonzero(self.n_events).astype(np.int32)

    def oldest(self, n: int) -> NDArray[np.int32]:
        """The `n` items whose newest event is the longest ago: those to forget first."""
        known = self.known()
        last = self.clocks[known, CLOCK_LAST]
        return known if n >= len(known) else known[np.lexsort((self.seq_last[known], last))[:n]]


def grown(array: NDArray[A], capacity: int) -> NDArray[A]:
    """Copy into an array with `capacity` rows; new rows are zero."""
    larger = np.zeros((capacity, *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger
