"""What is counted per item: popularity at several half-lives and by user stage, age, recency.

A row is absolute and dated (`CLOCK_POSITIVE`), so it can be published alone and read at any later time.
"""

import math
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from online_models.engine.jit import jit

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

POP_FAST, POP_SLOW = 1, 3
"""Columns of the two popularity lists: half a day and eight days."""

_RATES = np.array([math.log(2.0) / (days * DAY) for days in HALF_LIVES])


def stage(n_events: int) -> int:
    """Bucket of a user with this many earlier events."""
    return min(N_STAGES - 1, (n_events + 1).bit_length() - 1)


@jit
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


@jit
def raise_in_top(ids: NDArray[np.int32], keys: NDArray[np.float64], size: int, item: int, key: float) -> int:
    """Put `item` with its grown key into a descending list of at most `ids.size`; return the new length.

    Keys only grow, so a list kept this way is the exact top of all items.
    """
    at = size
    for k in range(size):
        if ids[k] == item:
            at = k
            break
    if at == size:
        if size == ids.size:
            if key <= keys[size - 1]:
                return size
            at = size - 1
        else:
            size += 1
    while at > 0 and keys[at - 1] < key:
        ids[at] = ids[at - 1]
        keys[at] = keys[at - 1]
        at -= 1
    ids[at] = item
    keys[at] = key
    return size


@dataclass
class TopList:
    """The most popular items at one half-life, kept sorted while counts grow.

    All items decay at the same rate, so the order only changes when one of them has an event: the key
    log2(value) + t / half-life does not depend on when it is read.
    """

    column: int
    ids: NDArray[np.int32] = field(default_factory=lambda: np.zeros(512, np.int32))
    keys: NDArray[np.float64] = field(default_factory=lambda: np.zeros(512))
    size: int = 0

    def learn_one(self, item: int, value: float, t: float) -> None:
        if value <= 0.0:  # a very late event has decayed to nothing
            return
        key = math.log2(value) + t / (HALF_LIVES[self.column] * DAY)
        self.size = raise_in_top(self.ids, self.keys, self.size, item, key)


class ItemTable:
    """Counts of every item by slot, and the popularity lists."""

    def __init__(self, capacity: int = 1024) -> None:
        self.counts = np.zeros((capacity, N_COUNTS), np.float32)
        self.clocks = np.zeros((capacity, 3))
        self.seq_last = np.zeros(capacity, np.int64)
        self.tops = (TopList(POP_FAST), TopList(POP_SLOW))
        self.rates = _RATES

    def grow(self, capacity: int) -> None:
        self.counts = grown(self.counts, capacity)
        self.clocks = grown(self.clocks, capacity)
        self.seq_last = grown(self.seq_last, capacity)

    def learn_one(self, item: int, t: float, positive: bool, n_user: int, seq: int) -> None:
        """Count an event of a user who had `n_user` events before it; `seq` is its index in the stream."""
        learn_item(self.counts, self.clocks, self.seq_last, self.rates, item, t, positive, n_user, stage(n_user), seq)
        if positive:
            at = self.clocks[item, CLOCK_POSITIVE]
            for top in self.tops:
                top.learn_one(item, float(self.counts[item, top.column]), at)


def grown(array: NDArray[A], capacity: int) -> NDArray[A]:
    """Copy into an array with `capacity` rows; new rows are zero."""
    larger = np.zeros((capacity, *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger
