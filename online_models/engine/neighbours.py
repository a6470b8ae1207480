"""Covisitation as maintained neighbour lists: for each item, what users did just before and after it.

Every event inserts a pair with each of the user's previous `REACH` events, into the lists of both items. A list has a
bounded number of slots; a pair that finds none free takes that of the weakest. So learning costs the same whatever
the length of the stream, and a request merges a few short lists instead of walking histories.
"""

import math

import numpy as np
from numpy.typing import NDArray

from online_models.engine.items import DAY, grown
from online_models.engine.jit import jit

REACH = 15
"""Steps of the user's history that an event is paired with."""

HALF_LIFE = 4.0 * DAY
"""Of the decayed pair weight, seconds."""

CLOSE_S = 60.0

FORWARD, BACKWARD, NEAR, RECENT, NEXT, CLOSE, LIKED, SEEN_AT, NEXT_AT, NEXT_TIME = range(10)
"""Columns of a pair: after / before it (by 1/sqrt(distance)), both by 1/distance, decayed, immediate successors,
both by nearness in time, both when positive,
the item's count when the pair last grew, its count and time when the neighbour last followed within 3 steps."""
N_VALUES = 10

RATE = math.log(2.0) / HALF_LIFE
_RESCALE = 60.0 * HALF_LIFE
_MEMORY = 150.0
"""Occurrences of an item after which a pair not seen again counts half when one must go."""


@jit
def touch(ids: NDArray[np.int32], values: NDArray[np.float32], size: int, neighbour: int, count: float) -> int:
    """Slot of `neighbour` in one list, taken from the weakest if it is new and the list is full."""
    for k in range(size):
        if ids[k] == neighbour:
            values[k, SEEN_AT] = count
            return k
    at = size
    if size == ids.size:
        weakest = np.float32(3.0e38)
        at = 0
        for k in range(size):
            age = (count - values[k, SEEN_AT]) * np.float32(1.0 / _MEMORY)
            strength = (values[k, FORWARD] + values[k, BACKWARD]) / (np.float32(1.0) + age)
            if strength < weakest:
                weakest = strength
                at = k
    ids[at] = neighbour
    values[at, :] = 0.0
    values[at, SEEN_AT] = count
    values[at, NEXT_AT] = -1.0
    return at


@jit
def learn_pairs(
    ids: NDArray[np.int32],
    values: NDArray[np.float32],
    sizes: NDArray[np.int32],
    totals: NDArray[np.float32],
    refs: NDArray[np.float64],
    origin: float,
    history: NDArray[np.int32],
    times: NDArray[np.float64],
    positives: NDArray[np.bool_],
    item: int,
    t: float,
    positive: bool,
) -> None:
    """Pair `item` with the newest `REACH` of `history` (newest last). `totals`: count and decayed count per item."""
    n_history = history.size
    for d in range(min(REACH, n_history)):
        before = history[n_history - 1 - d]
        far = np.float32(1.0 / math.sqrt(d + 1.0))
        near = np.float32(1.0 / (d + 1.0))
        close = np.float32(1.0 / (1.0 + abs(t - times[n_history - 1 - d]) / CLOSE_S))
        at = touch(ids[before], values[before], sizes[before], item, totals[before, 0])
        sizes[before] = max(sizes[before], at + 1)
        pair = values[before, at]
        pair[FORWARD] += far
        pair[CLOSE] += close
        if positive:
            pair[LIKED] += far
        pair[NEAR] += near
        pair[RECENT] += near * np.float32(math.exp(min(RATE * (t - refs[before]), 80.0)))
        if d == 0:
            pair[NEXT] += 1.0
        if d < 3:
            pair[NEXT_AT] = totals[before, 0]
            pair[NEXT_TIME] = np.float32((t - origin) / 3600.0)
        at = touch(ids[item], values[item], sizes[item], before, totals[item, 0])
        sizes[item] = max(sizes[item], at + 1)
        pair = values[item, at]
        pair[BACKWARD] += far
        pair[CLOSE] += close
        if positives[n_history - 1 - d]:
            pair[LIKED] += far
        pair[NEAR] += np.float32(0.5) * near
    if totals[item, 0] == 0.0:
        refs[item] = t
    if t - refs[item] > _RESCALE:
        fade = np.float32(math.exp(-RATE * (t - refs[item])))
        for k in range(sizes[item]):
            values[item, k, RECENT] *= fade
        totals[item, 1] *= fade
        refs[item] = t
    totals[item, 0] += 1.0
    totals[item, 1] += np.float32(math.exp(RATE * (t - refs[item])))


class Neighbours:
    """The neighbour lists of every item by slot."""

    def __init__(self, capacity: int = 1024, slots: int = 256) -> None:
        self.ids = np.zeros((capacity, slots), np.int32)
        self.values = np.zeros((capacity, slots, N_VALUES), np.float32)
        self.sizes = np.zeros(capacity, np.int32)
        self.totals = np.zeros((capacity, 2), np.float32)
        self.refs = np.zeros(capacity)
        self.origin = math.nan

    def grow(self, capacity: int) -> None:
        self.ids = grown(self.ids, capacity)
        self.values = grown(self.values, capacity)
        self.sizes = grown(self.sizes, capacity)
        self.totals = grown(self.totals, capacity)
        self.refs = grown(self.refs, capacity)

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
        if math.isnan(self.origin):
            self.origin = t
        learn_pairs(
            self.ids,
            self.values,
            self.sizes,
            self.totals,
            self.refs,
            self.origin,
            history,
            times,
            positives,
            item,
            t,
            positive,
        )
