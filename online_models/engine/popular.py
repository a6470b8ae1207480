"""The most popular items, maintained: short sorted lists, and the set of items that requests scan.

All items decay at the same rate, so the order changes only when one of them has an event: the key
log2(value) + t / half-life does not depend on when it is read. Equal keys are ordered by the item's last event in
the stream. So lists and set follow from the items' rows alone, in whatever order rows arrive.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from online_models.engine.jit import jit, jit_bare
from online_models.engine.pool import find


@jit_bare
def key_of(value: float, t: float, half_life_s: float) -> float:
    """Order of an item among all; -inf for one without a positive event."""
    return math.log2(value) + t / half_life_s if value > 0.0 else -math.inf


@jit_bare
def raise_in_top(
    ids: NDArray[np.int32],
    keys: NDArray[np.float64],
    seqs: NDArray[np.int64],
    size: int,
    item: int,
    key: float,
    seq: int,
) -> int:
    """Put `item` with its grown key into a descending list of at most `ids.size`; return the new length.

    Keys only grow, so a list kept this way is the exact top of all items.
    """
    if size == ids.size and (key < keys[size - 1] or (key == keys[size - 1] and seq < seqs[size - 1])):
        return size
    at = find(ids[:size], item)
    if at < 0:
        at = size
        if size == ids.size:
            at = size - 1
        else:
            size += 1
    while at > 0 and (keys[at - 1] < key or (keys[at - 1] == key and seqs[at - 1] < seq)):
        ids[at] = ids[at - 1]
        keys[at] = keys[at - 1]
        seqs[at] = seqs[at - 1]
        at -= 1
    ids[at] = item
    keys[at] = key
    seqs[at] = seq
    return size


@jit
def refresh_top(
    ids: NDArray[np.int32],
    keys: NDArray[np.float64],
    seqs: NDArray[np.int64],
    size: int,
    slots: NDArray[np.int32],
    values: NDArray[np.float32],
    dates: NDArray[np.float64],
    seq_last: NDArray[np.int64],
    half_life_s: float,
) -> int:
    """Raise each of `slots` to what its row says; return the new length."""
    for m in range(slots.size):
        item = slots[m]
        key = key_of(values[item], dates[item], half_life_s)
        if key > -math.inf:
            size = raise_in_top(ids, keys, seqs, size, item, key, seq_last[item])
    return size


class TopArrays(NamedTuple):
    """A list for kernels."""

    ids: NDArray[np.int32]
    keys: NDArray[np.float64]
    seqs: NDArray[np.int64]
    size: NDArray[np.int64]
    half_life_s: NDArray[np.float64]


class TopList:
    """The most popular items at one half-life, best first: exact while keys only grow."""

    def __init__(self, column: int, half_life_s: float, length: int = 512) -> None:
        self.column = column
        self.half_life_s = half_life_s
        self.arrays = TopArrays(
            np.zeros(length, np.int32),
            np.zeros(length),
            np.zeros(length, np.int64),
            np.zeros(1, np.int64),
            np.array([half_life_s]),
        )

    @property
    def ids(self) -> NDArray[np.int32]:
        return self.arrays.ids[: self.arrays.size[0]]

    def refresh(
        self,
        slots: NDArray[np.int32],
        counts: NDArray[np.float32],
        dates: NDArray[np.float64],
        seq_last: NDArray[np.int64],
    ) -> None:
        """Follow rows that changed. Forgotten items must have been cleared out with `clear`."""
        for_kernel = self.arrays
        for_kernel.size[0] = refresh_top(
            for_kernel.ids,
            for_kernel.keys,
            for_kernel.seqs,
            for_kernel.size[0],
            slots,
            counts[:, self.column],
            dates,
            seq_last,
            self.half_life_s,
        )

    def clear(self) -> None:
        self.arrays.size[0] = 0


@jit_bare
def is_below(keys: NDArray[np.float64], seqs: NDArray[np.int64], a: int, b: int) -> bool:
    """Whether the item at place `a` comes after that at `b`."""
    return bool(keys[a] < keys[b] or (keys[a] == keys[b] and seqs[a] < seqs[b]))


@jit_bare
def sift_down(
    heap: NDArray[np.int32],
    where: NDArray[np.int32],
    keys: NDArray[np.float64],
    seqs: NDArray[np.int64],
    size: int,
    k: int,
) -> None:
    """Move the place at `k` of a min-heap down to where it belongs."""
    while True:
        child = 2 * k + 1
        if child >= size:
            return
        if child + 1 < size and is_below(keys, seqs, heap[child + 1], heap[child]):
            child += 1
        if not is_below(keys, seqs, heap[child], heap[k]):
            return
        heap[k], heap[child] = heap[child], heap[k]
        where[heap[k]] = k
        where[heap[child]] = child
        k = child


@jit_bare
def activate(
    members: NDArray[np.int32],
    heap: NDArray[np.int32],
    where: NDArray[np.int32],
    keys: NDArray[np.float64],
    seqs: NDArray[np.int64],
    place_of: NDArray[np.int32],
    size: int,
    item: int,
    key: float,
    seq: int,
) -> int:
    """Raise or add an item, in place of the weakest if the set is full; return the new size."""
    place = place_of[item]
    if place < 0 and size == members.size:
        place = heap[0]
        if key < keys[place] or (key == keys[place] and seq <= seqs[place]):
            return size
        place_of[members[place]] = -1
    elif place < 0:
        place = size
        heap[size] = place
        k = size
        keys[place], seqs[place] = key, seq
        while k > 0 and is_below(keys, seqs, place, heap[(k - 1) // 2]):
            heap[k] = heap[(k - 1) // 2]
            where[heap[k]] = k
            k = (k - 1) // 2
        heap[k] = place
        where[place] = k
        members[place] = item
        place_of[item] = place
        return size + 1
    members[place] = item
    place_of[item] = place
    keys[place], seqs[place] = key, seq
    sift_down(heap, where, keys, seqs, size, where[place])
    return size


class ActiveArrays(NamedTuple):
    """The set of active items for kernels."""

    members: NDArray[np.int32]
    heap: NDArray[np.int32]
    where: NDArray[np.int32]
    keys: NDArray[np.float64]
    seqs: NDArray[np.int64]
    place_of: NDArray[np.int32]
    size: NDArray[np.int64]
    vectors: NDArray[np.float32]
    half_life_s: NDArray[np.float64]


@jit
def refresh_active(
    members: NDArray[np.int32],
    heap: NDArray[np.int32],
    where: NDArray[np.int32],
    keys: NDArray[np.float64],
    seqs: NDArray[np.int64],
    place_of: NDArray[np.int32],
    size: int,
    slots: NDArray[np.int32],
    values: NDArray[np.float32],
    dates: NDArray[np.float64],
    seq_last: NDArray[np.int64],
    half_life_s: float,
    vectors: NDArray[np.float32],
    active_vectors: NDArray[np.float32],
) -> int:
    """Activate each of `slots` by what its row says and copy its vectors; return the new size."""
    for m in range(slots.size):
        item = slots[m]
        key = key_of(values[item], dates[item], half_life_s)
        size = activate(members, heap, where, keys, seqs, place_of, size, item, key, seq_last[item])
        place = place_of[item]
        if place >= 0:
            for model in range(vectors.shape[0]):
                for r in range(vectors.shape[2]):
                    active_vectors[model, place, r] = vectors[model, item, r]
    return size
