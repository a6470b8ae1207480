"""Which items a request may get, and the best of them by one score: loops over stamped arrays, no sets.

An array over all items is never cleared: an entry counts when it carries the request's own number (`tick`).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import Slots, grown
from online_models.engine.evidence import MAX_TOUCHED, N_EVIDENCE
from online_models.engine.jit import jit

NEVER = np.iinfo(np.int64).max
"""In `Workspace.barred`: an item that no request may get."""

MAX_CANDIDATES = 4096


@jit
def write_keys(scores: NDArray[np.float32], bits: NDArray[np.uint32], n: int, keys: NDArray[np.uint64]) -> int:
    """Write a number for each of the first `n` scores that is positive, and return how many there are.

    The numbers sort by score, the highest first, then by place; the low half is the place. `bits` are the scores'.
    """
    size = 0
    for m in range(n):  # without a branch: which scores count cannot be guessed
        keys[size] = np.uint64(~bits[m]) << np.uint64(32) | np.uint64(m)
        size += scores[m] > np.float32(0.0)
    return size


@jit
def at_keys(
    keys: NDArray[np.uint64],
    items: NDArray[np.int32],
    barred: NDArray[np.int64],
    tick: int,
    found: NDArray[np.int32],
) -> int:
    """Write the first allowed items that sorted keys stand for, until `found` is full; return how many there are."""
    n = 0
    for k in range(keys.size):
        if n == found.size:
            break
        item = items[keys[k] & np.uint64(0xFFFFFFFF)]
        if barred[item] < tick:
            found[n] = item
            n += 1
    return n


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
    n_events: NDArray[np.float32],
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
        if n_events[item] < below and barred[item] < tick:
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
        self.n_barred = 0
        """Items at most that the newest request may not get, without those that filters keep out."""
        self._n_pools = 0
        self.barred: NDArray[np.int64] = np.zeros(0, np.int64)
        """The newest request that may not get an item; `NEVER` for none at all."""
        self.place: NDArray[np.int64] = np.zeros(0, np.int64)
        self.touched_at: NDArray[np.int64] = np.zeros(0, np.int64)
        """Number of the request * MAX_TOUCHED + the item's row of `evidence`."""
        self.touched = np.zeros(MAX_TOUCHED, np.int32)
        self.evidence = np.zeros((MAX_TOUCHED, N_EVIDENCE), np.float32)
        self.found = np.zeros(MAX_CANDIDATES, np.int32)
        self._keys = np.zeros(max(MAX_CANDIDATES, MAX_TOUCHED), np.uint64)
        self.scores = np.zeros(MAX_CANDIDATES, np.float32)
        self.candidates = np.zeros(MAX_CANDIDATES, np.int32)
        self.membership = np.zeros(MAX_CANDIDATES, np.uint32)

    def reserve(self, n_slots: int) -> None:
        """Make room for slots below `n_slots`; new ones are barred until `admit`."""
        self.barred = grown(self.barred, n_slots, NEVER)
        self.place = grown(self.place, n_slots, -1)
        self.touched_at = grown(self.touched_at, n_slots, 0)

    def begin(self) -> int:
        """Begin a request, and return its number."""
        self.tick += 1
        self.n_barred = 0
        return self.tick

    def bar(self, slots: Slots) -> None:
        """Keep items out of the newest request."""
        bar(self.barred, slots, self.tick)
        self.n_barred += len(slots)

    def bar_all_but(self, allowed: NDArray[np.bool_]) -> None:
        """Keep all others out of the newest request; a mask over all slots."""
        bar(self.barred, np.flatnonzero(~allowed).astype(np.int32), self.tick)

    def admit(self, slot: int, allowed: bool) -> None:
        """Say whether requests may get an item at all."""
        self.barred[slot] = self.tick if allowed else NEVER

    def admits(self, slots: Slots) -> NDArray[np.bool_]:
        """Return False where no request may get an item."""
        return np.asarray(self.barred[slots] != NEVER)

    def admitted(self, n_slots: int) -> NDArray[np.bool_]:
        """Return `admits` of the first slots."""
        return np.asarray(self.barred[:n_slots] != NEVER)

    def allows(self, slots: Slots) -> NDArray[np.bool_]:
        """Return False where the newest request may not get an item."""
        return np.asarray(self.barred[slots] < self.tick)

    def allowed(self, n_slots: int) -> Slots:
        """Return those of the first slots that the newest request may get."""
        return np.flatnonzero(self.barred[:n_slots] < self.tick).astype(np.int32)

    def best(self, scores: NDArray[np.float32], items: Slots, n: int, wanted: int) -> Slots:
        """Return the allowed ones with the highest positive scores among the first `n`, best first.

        Equal ones are in order. Integers sort many times faster than a heap takes in what comes in no order. Whether
        an item is allowed is looked up, of the best ones only, where no cache may hold it.
        """
        if n > len(self._keys):
            self._keys = np.zeros(2 * n, np.uint64)
        keys = self._keys[: write_keys(scores, scores.view(np.uint32), n, self._keys)]
        found = np.empty(min(wanted, len(keys)), np.int32)
        n_best = wanted + self.n_barred
        while True:
            if n_best < len(keys):
                keys.partition(n_best)
            best = keys[:n_best]
            best.sort()
            n_found = at_keys(best, items, self.barred, self.tick, found)
            if n_found == len(found) or n_best >= len(keys):
                return found[:n_found]
            n_best *= 4  # filters kept some out, or they are hidden

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

    def first_admitted(self, items: Slots, wanted: int) -> Slots:
        """Return the first `wanted` that requests may get at all."""
        found = np.empty(min(wanted, len(items)), np.int32)
        return found[: first_allowed(items, wanted, self.barred, NEVER, found)]
