"""Which items a request may get, and the best of them by one score: loops over stamped arrays, no sets.

An array over all items is never cleared: an entry counts when it carries the request's own number (`tick`).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import Slots, grown
from online_models.engine.evidence import MAX_TOUCHED, N_EVIDENCE
from online_models.engine.items import N_EVENTS
from online_models.engine.jit import jit

NEVER = np.iinfo(np.int64).max
"""In `Workspace.barred`: an item that no request may get."""

MAX_CANDIDATES = 4096


@jit
def choose(
    scores: NDArray[np.float32],
    items: NDArray[np.int32],
    n: int,
    wanted: int,
    barred: NDArray[np.int64],
    tick: int,
    found: NDArray[np.int32],
    values: NDArray[np.float32],
) -> int:
    """Write the `wanted` allowed items with the highest positive scores, best first; return how many there are."""
    size = 0
    least = np.float32(0.0)
    for m in range(n):
        score = scores[m]
        if score <= least or barred[items[m]] >= tick:  # the score first: it is at hand, and refuses most
            continue
        if size < wanted:
            k = size
            size += 1
            while k > 0 and values[(k - 1) >> 1] > score:
                values[k] = values[(k - 1) >> 1]
                found[k] = found[(k - 1) >> 1]
                k = (k - 1) >> 1
            values[k] = score
            found[k] = items[m]
        else:
            sink(values, found, size, score, items[m])
        if size == wanted:
            least = values[0]
    for left in range(size - 1, 0, -1):  # a min-heap, emptied from its end: best first
        score, item = values[left], found[left]
        values[left], found[left] = values[0], found[0]
        sink(values, found, left, score, item)
    return size


@jit
def sink(values: NDArray[np.float32], ids: NDArray[np.int32], size: int, score: float, item: int) -> None:
    """Put an entry into the place of a min-heap's root."""
    k = 0
    while True:
        child = 2 * k + 1
        if child >= size:
            break
        if child + 1 < size and values[child + 1] < values[child]:
            child += 1
        if score <= values[child]:
            break
        values[k] = values[child]
        ids[k] = ids[child]
        k = child
    values[k] = score
    ids[k] = item


@jit
def first_allowed(
    items: NDArray[np.int32], wanted: int, barred: NDArray[np.int64], tick: int, found: NDArray[np.int32]
) -> int:
    """Write the first `wanted` of `items` that are allowed; return how many there are."""
    n = 0
    for m in range(items.size):
        if n == wanted:
            break
        if barred[items[m]] < tick:
            found[n] = items[m]
            n += 1
    return n


@jit
def bar(barred: NDArray[np.int64], items: NDArray[np.int32], tick: int) -> None:
    """Keep `items` out of request number `tick`."""
    for m in range(items.size):
        barred[items[m]] = max(barred[items[m]], tick)


@jit
def pool(
    items: NDArray[np.int32],
    bit: int,
    place: NDArray[np.int64],
    number: int,
    candidates: NDArray[np.int32],
    membership: NDArray[np.uint32],
    n: int,
    limit: int,
) -> int:
    """Add a source's items, each once, and mark whose they are; return the new number of candidates.

    `place`: number of the pool * MAX_CANDIDATES + index among its candidates.
    """
    mark = np.uint32(1) << np.uint32(bit)
    base = number * MAX_CANDIDATES
    for m in range(items.size):
        at = place[items[m]] - base
        if at >= 0:
            membership[at] |= mark
        elif n < limit:
            place[items[m]] = base + n
            candidates[n] = items[m]
            membership[n] = mark
            n += 1
    return n


@jit
def little_known(
    begin: int,
    step: int,
    n_slots: int,
    counts: NDArray[np.float32],
    below: int,
    barred: NDArray[np.int64],
    tick: int,
    found: NDArray[np.int32],
) -> int:
    """Write every `step`-th allowed item that has fewer events than `below`, until `found` is full; return how many.

    From slot `begin` on, and around.
    """
    n = 0
    for x in range(0, n_slots, step):
        item = begin + x if begin + x < n_slots else begin + x - n_slots
        if n == found.size:
            break
        if counts[item, N_EVENTS] < below and barred[item] < tick:
            found[n] = item
            n += 1
    return n


@jit
def draw(items: NDArray[np.int32], seed: int, chances: NDArray[np.float32]) -> None:
    """Write a number in (0, 1] for each item that depends on it and the seed only.

    References
    ----------
    Steele, Lea, Flood (2014), Fast splittable pseudorandom number generators: the finaliser of SplitMix64.
    """
    for m in range(items.size):
        bits = (np.uint64(seed) << np.uint64(32)) + np.uint64(items[m]) + np.uint64(1)
        bits *= np.uint64(0x9E3779B97F4A7C15)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        bits = (bits ^ (bits >> np.uint64(31))) >> np.uint64(40)
        chances[m] = np.float32(bits + np.uint64(1)) * np.float32(2.0**-24)


class Workspace:
    """Arrays that one request after another works in. Only the newest request's content is valid."""

    def __init__(self) -> None:
        self.tick = 0
        self._n_pools = 0
        self.barred: NDArray[np.int64] = np.zeros(0, np.int64)
        """The newest request that may not get an item; `NEVER` for none at all."""
        self.place: NDArray[np.int64] = np.zeros(0, np.int64)
        self.at: NDArray[np.int32] = np.zeros(0, np.int32)
        self.stamp: NDArray[np.int64] = np.zeros(0, np.int64)
        self.touched = np.zeros(MAX_TOUCHED, np.int32)
        self.evidence = np.zeros((MAX_TOUCHED, N_EVIDENCE), np.float32)
        self.found = np.zeros(MAX_CANDIDATES, np.int32)
        self.values = np.zeros(MAX_CANDIDATES, np.float32)
        self.scores = np.zeros(MAX_CANDIDATES, np.float32)
        self.candidates = np.zeros(MAX_CANDIDATES, np.int32)
        self.membership = np.zeros(MAX_CANDIDATES, np.uint32)

    def reserve(self, n_slots: int) -> None:
        """Make room for slots below `n_slots`; new ones are barred until `admit`."""
        self.barred = grown(self.barred, n_slots, NEVER)
        self.place = grown(self.place, n_slots, -1)
        self.at = grown(self.at, n_slots, 0)
        self.stamp = grown(self.stamp, n_slots, 0)

    def admit(self, slot: int, allowed: bool) -> None:
        """Say whether requests may get an item at all."""
        self.barred[slot] = self.tick if allowed else NEVER

    def allows(self, slots: Slots) -> NDArray[np.bool_]:
        """Return False where the newest request may not get an item."""
        return np.asarray(self.barred[slots] < self.tick)

    def best(self, scores: NDArray[np.float32], items: Slots, n: int, wanted: int) -> Slots:
        """Return the allowed ones with the highest positive scores among the first `n`, best first."""
        wanted = min(wanted, MAX_CANDIDATES)
        size = choose(scores, items, n, wanted, self.barred, self.tick, self.found, self.values)
        return self.found[:size].copy()

    def union(self, found: Sequence[Slots], limit: int) -> tuple[Slots, NDArray[np.uint32]]:
        """Merge what sources gave, in their order, until there are `limit` items.

        Returns the items, and for each the sources that gave it: bit b is set for `found[b]`.
        """
        self._n_pools += 1
        n = 0
        for bit, items in enumerate(found):
            n = pool(items, bit, self.place, self._n_pools, self.candidates, self.membership, n, limit)
        return self.candidates[:n].copy(), self.membership[:n].copy()

    def first(self, items: Slots, wanted: int) -> Slots:
        """Return the first `wanted` that are allowed."""
        wanted = min(wanted, MAX_CANDIDATES)
        return self.found[: first_allowed(items, wanted, self.barred, self.tick, self.found)].copy()
