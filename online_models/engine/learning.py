"""Everything that one event teaches the sources, for a run of events in one compiled loop.

Events are learned one after the other, so a run gives the same bits as its events one at a time: what is saved is the
way from Python into a kernel and back, which costs more than what the kernels do.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from online_models.engine.als import learn_pair, replace_vector
from online_models.engine.changes import Changed, mark
from online_models.engine.factors import CONFIDENCES, REGULARISATIONS, Factors
from online_models.engine.history import Histories, SeenArrays, StepArrays, insert_step, see
from online_models.engine.items import (
    CLOCK_POSITIVE,
    N_EVENTS,
    N_STAGES,
    POP_ACTIVE,
    POP_FAST,
    POP_SLOW,
    ItemTable,
    learn_item,
)
from online_models.engine.jit import jit
from online_models.engine.names import NameArrays, comes_after
from online_models.engine.neighbours import Neighbours, learn_pairs
from online_models.engine.pool import wants_more
from online_models.engine.popular import ActiveArrays, TopArrays, activate, key_of, raise_in_top
from online_models.engine.rings import append

N_AT_MOST = 512
"""Events of a run."""


class Run(NamedTuple):
    """Events in their order; arrays of `N_AT_MOST`, of which the first some are used."""

    items: NDArray[np.int32]
    users: NDArray[np.int32]
    times: NDArray[np.float64]
    positive: NDArray[np.bool_]
    new: NDArray[np.int32]
    """Row among the vectors of items whose first event may be in this run, -1 for others."""
    draws: NDArray[np.float64]
    """In [0, 1): which past pair to improve again after the event; below 0: none."""

    @classmethod
    def empty(cls) -> "Run":
        n = N_AT_MOST
        return cls(
            np.zeros(n, np.int32),
            np.zeros(n, np.int32),
            np.zeros(n),
            np.zeros(n, np.bool_),
            np.full(n, -1, np.int32),
            np.full(n, -1.0),
        )


class Marks(NamedTuple):
    """A `Changed` for kernels."""

    flags: NDArray[np.bool_]
    slots: NDArray[np.int32]
    n_slots: NDArray[np.int64]


class ItemArrays(NamedTuple):
    """An `ItemTable`."""

    counts: NDArray[np.float32]
    n_events: NDArray[np.float32]
    clocks: NDArray[np.float64]
    seq_last: NDArray[np.int64]
    rates: NDArray[np.float64]


class PairArrays(NamedTuple):
    """`Neighbours`."""

    ids: NDArray[np.int32]
    values: NDArray[np.float32]
    heads: NDArray[np.int64]
    top: NDArray[np.int64]
    starts: NDArray[np.int32]
    rooms: NDArray[np.int32]
    sizes: NDArray[np.int32]
    largest: int
    totals: NDArray[np.float32]
    refs: NDArray[np.float64]


class FactorArrays(NamedTuple):
    """`Factors` without its rings and active items."""

    users: NDArray[np.float32]
    items: NDArray[np.float32]
    gram_users: NDArray[np.float64]
    gram_items: NDArray[np.float64]
    regularisation: NDArray[np.float64]
    confidence: NDArray[np.float64]


class RingArrays(NamedTuple):
    """`Rings`."""

    ids: NDArray[np.int32]
    heads: NDArray[np.int64]
    top: NDArray[np.int64]
    starts: NDArray[np.int32]
    rooms: NDArray[np.int32]
    sizes: NDArray[np.int32]
    nexts: NDArray[np.int32]
    totals: NDArray[np.int64]


class Stream(NamedTuple):
    """What is known of the stream as a whole."""

    n_events: NDArray[np.int64]
    """Shape (1,)."""
    repeat_share: NDArray[np.float64]
    """Shape (1,): how often an event's item is one that its user took before, of users with a history."""
    past: NDArray[np.int64]
    """The newest pairs, user slot << 32 | item slot: a ring."""
    n_past: NDArray[np.int64]
    """Shape (1,): pairs ever."""
    has_item: NDArray[np.bool_]
    has_user: NDArray[np.bool_]
    """By slot: a past pair whose item or user is gone teaches nothing."""


class Models(NamedTuple):
    """All that an event changes."""

    items: ItemArrays
    fast: TopArrays
    slow: TopArrays
    steps: StepArrays
    seen: SeenArrays
    names: NameArrays
    pairs: PairArrays
    pairs_changed: Marks
    factors: FactorArrays
    vectors_changed: Marks
    users_changed: Marks
    rings: RingArrays
    active: ActiveArrays


def models_of(
    table: ItemTable, histories: Histories, names: NameArrays, neighbours: Neighbours, factors: Factors
) -> Models:
    """Return the arrays as they are now: valid until one of them grows."""
    steps, seen = histories.arrays
    lists, rings = neighbours.pool, factors.rings
    return Models(
        ItemArrays(table.counts, table.n_events, table.clocks, table.seq_last, table.rates),
        table.fast.arrays,
        table.slow.arrays,
        steps,
        seen,
        names,
        PairArrays(
            lists.ids,
            neighbours.values,
            lists.heads,
            lists.top,
            neighbours.starts,
            neighbours.rooms,
            neighbours.sizes,
            neighbours.largest,
            neighbours.totals,
            neighbours.refs,
        ),
        marks_of(neighbours.changed),
        FactorArrays(
            factors.users, factors.items, factors.gram_users, factors.gram_items, REGULARISATIONS, CONFIDENCES
        ),
        marks_of(factors.changed),
        marks_of(factors.users_changed),
        RingArrays(
            rings.pool.ids,
            rings.pool.heads,
            rings.pool.top,
            rings.starts,
            rings.rooms,
            rings.sizes,
            rings.nexts,
            rings.totals,
        ),
        factors.active_arrays,
    )


def marks_of(changed: Changed) -> Marks:
    """Return it for kernels."""
    return Marks(changed.flags, changed.slots, changed.count)


@jit
def stage_of(n_events: int) -> int:
    """Return what `items.stage` does."""
    bucket = 0
    while bucket < N_STAGES - 1 and (n_events + 1) >> (bucket + 1):
        bucket += 1
    return bucket


@jit
def raise_popular(top: TopArrays, column: int, items: ItemArrays, item: int) -> None:
    """Let a popularity list follow one item."""
    key = key_of(items.counts[item, column], items.clocks[item, CLOCK_POSITIVE], top.half_life_s[0])
    if key > -np.inf:
        top.size[0] = raise_in_top(top.ids, top.keys, top.seqs, top.size[0], item, key, items.seq_last[item])


@jit
def refresh(active: ActiveArrays, items: ItemArrays, vectors: NDArray[np.float32], item: int) -> None:
    """Let the active items follow one item and its vectors."""
    key = key_of(items.counts[item, POP_ACTIVE], items.clocks[item, CLOCK_POSITIVE], active.half_life_s[0])
    active.size[0] = activate(
        active.members,
        active.heap,
        active.where,
        active.keys,
        active.seqs,
        active.place_of,
        active.size[0],
        item,
        key,
        items.seq_last[item],
    )
    place = active.place_of[item]
    if place >= 0:
        for model in range(vectors.shape[0]):
            for r in range(vectors.shape[2]):
                active.vectors[model, place, r] = vectors[model, item, r]


@jit
def place_of(steps: StepArrays, names: NameArrays, user: int, item: int, t: float) -> int:
    """Return how many of a user's steps come before one at time `t`; names order those of the same time."""
    first = int(steps.starts[user]) + steps.firsts[user]
    at = int(steps.sizes[user])
    while at > 0:
        before = steps.times[first + at - 1]
        if not (before > t or (before == t and comes_after(names, steps.items[first + at - 1], item))):
            break
        at -= 1
    return at


@jit
def improve(models: Models, user: int, item: int) -> None:
    """Improve the vectors of a user and an item by what both have had."""
    steps, factors, rings = models.steps, models.factors, models.rings
    first = int(steps.starts[user]) + steps.firsts[user]
    last = first + steps.sizes[user]
    ring = rings.ids[rings.starts[item] : rings.starts[item] + rings.sizes[item]]
    learn_pair(
        factors.users,
        factors.items,
        factors.gram_users,
        factors.gram_items,
        factors.regularisation,
        factors.confidence,
        user,
        item,
        steps.items[first:last],
        steps.positive[first:last],
        steps.totals[user],
        ring,
        rings.totals[item],
    )
    mark(models.vectors_changed.flags, models.vectors_changed.slots, models.vectors_changed.n_slots, item)
    mark(models.users_changed.flags, models.users_changed.slots, models.users_changed.n_slots, user)


@jit
def must_grow(models: Models) -> bool:
    """Whether a pool has to be larger before the next event."""
    return (
        wants_more(models.steps.items.size, models.steps.top)
        or wants_more(models.seen.items.size, models.seen.top)
        or wants_more(models.pairs.ids.size, models.pairs.top)
        or wants_more(models.rings.ids.size, models.rings.top)
    )


@jit
def learn_event(
    models: Models,
    stream: Stream,
    first_vectors: NDArray[np.float32],
    item: int,
    user: int,
    t: float,
    positive: bool,
    new: int,
) -> None:
    """Learn one event, and the factors of its pair."""
    items, pairs, factors, steps, rings = models.items, models.pairs, models.factors, models.steps, models.rings
    n_before = steps.totals[user]
    if items.counts[item, N_EVENTS] == 0.0:
        for m in range(factors.items.shape[0]):
            replace_vector(factors.gram_items[m], factors.items[m, item], first_vectors[new, m])
        mark(models.vectors_changed.flags, models.vectors_changed.slots, models.vectors_changed.n_slots, item)
    learn_item(
        items.counts,
        items.clocks,
        items.seq_last,
        items.rates,
        item,
        t,
        positive,
        n_before,
        stage_of(n_before),
        stream.n_events[0],
    )
    items.n_events[item] = items.counts[item, N_EVENTS]
    if positive:
        raise_popular(models.fast, POP_FAST, items, item)
        raise_popular(models.slow, POP_SLOW, items, item)
    at = place_of(steps, models.names, user, item, t)
    first = int(steps.starts[user]) + steps.firsts[user]
    learn_pairs(
        pairs.ids,
        pairs.values,
        pairs.heads,
        pairs.top,
        pairs.starts,
        pairs.rooms,
        pairs.sizes,
        pairs.largest,
        pairs.totals,
        pairs.refs,
        models.pairs_changed.flags,
        models.pairs_changed.slots,
        models.pairs_changed.n_slots,
        steps.items[first : first + at],
        steps.times[first : first + at],
        steps.positive[first : first + at],
        item,
        t,
        positive,
    )
    again = see(models.seen, user, item)
    insert_step(steps, user, at, item, t, positive)
    if n_before > 0:
        rate = max(1.0 / (stream.n_events[0] + 1), 0.001)
        stream.repeat_share[0] += rate * ((1.0 if again else 0.0) - stream.repeat_share[0])
    append(
        rings.ids,
        rings.heads,
        rings.top,
        rings.starts,
        rings.rooms,
        rings.sizes,
        rings.nexts,
        rings.totals,
        item,
        2 * user + (1 if positive else 0),
    )
    improve(models, user, item)


@jit
def learn_past(models: Models, stream: Stream, draw: float) -> int:
    """Improve the factors of one past pair again; return its item, -1 when that or the user is gone."""
    pair = stream.past[int(draw * min(stream.n_past[0], stream.past.size))]
    item, user = int(pair & 0xFFFFFFFF), int(pair >> 32)
    if item >= stream.has_item.size or user >= stream.has_user.size:
        return -1
    if not (stream.has_item[item] and stream.has_user[user]):
        return -1
    improve(models, user, item)
    return item


@jit
def learn_run(
    models: Models, stream: Stream, first_vectors: NDArray[np.float32], run: Run, begin: int, end: int
) -> int:
    """Learn the events from `begin` on, one after the other; return where it stopped: at the `end`, or to grow."""
    for k in range(begin, end):
        if must_grow(models):
            return k
        item, user = run.items[k], run.users[k]
        learn_event(models, stream, first_vectors, item, user, run.times[k], run.positive[k], run.new[k])
        stream.past[stream.n_past[0] % stream.past.size] = (np.int64(user) << 32) | np.int64(item)
        stream.n_past[0] += 1
        refresh(models.active, models.items, models.factors.items, item)
        if run.draws[k] >= 0.0:
            past = learn_past(models, stream, run.draws[k])
            if past >= 0:
                refresh(models.active, models.items, models.factors.items, past)
        stream.n_events[0] += 1
    return end
