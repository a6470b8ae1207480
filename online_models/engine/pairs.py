"""Kernels of neighbour lists: pairs are learned, found, replaced and dropped in lists that share one pool."""

import math

import numpy as np
from numpy.typing import NDArray

from online_models.engine.changes import mark
from online_models.engine.items import DAY
from online_models.engine.jit import jit, jit_bare
from online_models.engine.pool import SMALLEST, allocate, find, release, wants_more

REACH = 15
"""Steps of the user's history that an event is paired with."""

HALF_LIFE = 4.0 * DAY
"""Of the decayed pair weight, seconds."""

CLOSE_S = 60.0

FORWARD, BACKWARD, RECENT, CLOSE, LIKED, NEAR, NEXT, NEXT_AT, NEXT_TIME, SEEN_AT = range(10)
"""Columns of a pair: after / before it (by 1/sqrt(distance)), decayed, both by nearness in time, both when positive,
both by 1/distance, immediate successors, the item's count and time (hours since the item's reference) when the
neighbour last followed within 3 steps, the item's count when the pair last grew."""
N_VALUES = 10

RATE = math.log(2.0) / HALF_LIFE

_RESCALE = 60.0 * HALF_LIFE
_MEMORY = 150.0
"""Occurrences of an item after which a pair not seen again counts half when one must go."""


@jit_bare
def grow_list(
    ids: NDArray[np.int32],
    values: NDArray[np.float32],
    heads: NDArray[np.int64],
    top: NDArray[np.int64],
    starts: NDArray[np.int32],
    rooms: NDArray[np.int32],
    item: int,
    size: int,
    largest: int,
) -> bool:
    """Move an item's list into a block of at least twice its room; return whether there was one."""
    old, start = rooms[item], starts[item]
    room = max(SMALLEST, 2 * old)
    if room > largest:
        return False
    at = allocate(ids, heads, top, room)
    if at < 0:
        return False
    for k in range(size):
        ids[at + k] = ids[start + k]
        for column in range(N_VALUES):
            values[at + k, column] = values[start + k, column]
    if old > 0:
        release(ids, heads, start, old)
    starts[item] = at
    rooms[item] = room
    return True


@jit
def fit_list(
    ids: NDArray[np.int32],
    heads: NDArray[np.int64],
    top: NDArray[np.int64],
    starts: NDArray[np.int32],
    rooms: NDArray[np.int32],
    item: int,
    n: int,
) -> None:
    """Give an empty list a block for `n` pairs, or the largest that there is."""
    if rooms[item] > 0:
        release(ids, heads, starts[item], rooms[item])
        rooms[item] = 0
    room = SMALLEST
    while room < n:
        room *= 2
    at = allocate(ids, heads, top, room)
    while at < 0 and room > SMALLEST:
        room //= 2
        at = allocate(ids, heads, top, room)
    if at >= 0:
        starts[item] = at
        rooms[item] = room


@jit
def restore_lists(
    ids: NDArray[np.int32],
    values: NDArray[np.float32],
    heads: NDArray[np.int64],
    top: NDArray[np.int64],
    starts: NDArray[np.int32],
    rooms: NDArray[np.int32],
    sizes: NDArray[np.int32],
    largest: int,
    items: NDArray[np.int32],
    words: NDArray[np.int32],
    floats: NDArray[np.float32],
    n_pairs: NDArray[np.int64],
    begins: NDArray[np.int64],
    first: int,
) -> int:
    """Replace lists by those that `words` (and as `floats`) has, ids before values; return how many are done.

    It ends before the last one when the pool has to grow.
    """
    for k in range(first, items.size):
        if k > first and wants_more(ids.size, top):
            return k
        item, n = items[k], n_pairs[k]
        if rooms[item] < n:
            fit_list(ids, heads, top, starts, rooms, item, min(n, largest))
        sizes[item] = min(n, rooms[item])
        for m in range(sizes[item]):
            at = starts[item] + m
            ids[at] = words[begins[k] + m]
            for v in range(N_VALUES):
                values[at, v] = floats[begins[k] + n + m * N_VALUES + v]
    return int(items.size)


@jit_bare
def touch(
    ids: NDArray[np.int32],
    values: NDArray[np.float32],
    heads: NDArray[np.int64],
    top: NDArray[np.int64],
    starts: NDArray[np.int32],
    rooms: NDArray[np.int32],
    sizes: NDArray[np.int32],
    largest: int,
    item: int,
    neighbour: int,
    count: float,
) -> int:
    """Where the pair of `item` with `neighbour` lies; a new one replaces the weakest if the list cannot grow.

    -1: the pool is used up and the list is empty.
    """
    size = int(sizes[item])
    first = int(starts[item])
    at = first + find(ids[first : first + size], neighbour)
    if at >= first:
        values[at, SEEN_AT] = count
        return at
    if size < rooms[item] or grow_list(ids, values, heads, top, starts, rooms, item, size, largest):
        at = int(starts[item]) + size
        sizes[item] = size + 1
    elif size == 0:
        return -1
    else:
        weakest = np.float32(3.0e38)
        at = first
        for k in range(first, first + size):
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


@jit_bare
def count(
    values: NDArray[np.float32],
    starts: NDArray[np.int32],
    sizes: NDArray[np.int32],
    totals: NDArray[np.float32],
    refs: NDArray[np.float64],
    item: int,
    t: float,
) -> None:
    """Count an event of an item; when its reference is long ago, move it on."""
    if totals[item, 0] == 0.0:
        refs[item] = t
    if t - refs[item] > _RESCALE:
        fade = np.float32(math.exp(-RATE * (t - refs[item])))
        hours = np.float32((t - refs[item]) / 3600.0)
        for k in range(starts[item], starts[item] + sizes[item]):
            values[k, RECENT] *= fade
            values[k, NEXT_TIME] -= hours
        totals[item, 1] *= fade
        refs[item] = t
    totals[item, 0] += 1.0
    totals[item, 1] += np.float32(math.exp(RATE * (t - refs[item])))


@jit_bare
def learn_pairs(
    ids: NDArray[np.int32],
    values: NDArray[np.float32],
    heads: NDArray[np.int64],
    top: NDArray[np.int64],
    starts: NDArray[np.int32],
    rooms: NDArray[np.int32],
    sizes: NDArray[np.int32],
    largest: int,
    totals: NDArray[np.float32],
    refs: NDArray[np.float64],
    flags: NDArray[np.bool_],
    changed: NDArray[np.int32],
    n_changed: NDArray[np.int64],
    history: NDArray[np.int32],
    times: NDArray[np.float64],
    positives: NDArray[np.bool_],
    item: int,
    t: float,
    positive: bool,
) -> None:
    """Pair `item` with the newest `REACH` of `history` (newest last). `totals`: count and decayed count per item."""
    n_history = history.size
    mark(flags, changed, n_changed, item)
    for d in range(min(REACH, n_history)):
        before = history[n_history - 1 - d]
        far = np.float32(1.0 / math.sqrt(d + 1.0))
        near = np.float32(1.0 / (d + 1.0))
        close = np.float32(1.0 / (1.0 + abs(t - times[n_history - 1 - d]) / CLOSE_S))
        at = touch(ids, values, heads, top, starts, rooms, sizes, largest, before, item, totals[before, 0])
        if at >= 0:
            mark(flags, changed, n_changed, before)
            pair = values[at]
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
                pair[NEXT_TIME] = np.float32((t - refs[before]) / 3600.0)
        at = touch(ids, values, heads, top, starts, rooms, sizes, largest, item, before, totals[item, 0])
        if at >= 0:
            pair = values[at]
            pair[BACKWARD] += far
            pair[CLOSE] += close
            if positives[n_history - 1 - d]:
                pair[LIKED] += far
            pair[NEAR] += np.float32(0.5) * near
    count(values, starts, sizes, totals, refs, item, t)


@jit
def drop_pairs(
    ids: NDArray[np.int32],
    values: NDArray[np.float32],
    starts: NDArray[np.int32],
    sizes: NDArray[np.int32],
    gone: NDArray[np.bool_],
    flags: NDArray[np.bool_],
    changed: NDArray[np.int32],
    n_changed: NDArray[np.int64],
) -> None:
    """Take out all pairs with a neighbour that is `gone`; the others keep their order."""
    for item in range(sizes.size):
        first = starts[item]
        at = first
        for k in range(first, first + sizes[item]):
            if ids[k] < gone.size and gone[ids[k]]:
                continue
            if at < k:
                ids[at] = ids[k]
                for column in range(N_VALUES):
                    values[at, column] = values[k, column]
            at += 1
        if at < first + sizes[item]:
            sizes[item] = at - first
            mark(flags, changed, n_changed, item)
