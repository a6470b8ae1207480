"""Everything that one event teaches the sources, for a run of events in one compiled loop.

Events are learned one after the other, so a run gives the same bits as its events one at a time: what is saved is the
way from Python into a kernel and back, which costs more than what the kernels do.

Only factors are not improved at each event: those of many events at some of them (`EACH`), and those of a pair not
again when a user does another thing with the item of the step before, as after a click to watch it. The next time
counts what was left out.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from online_models.engine.als import learn_pair, replace_vector
from online_models.engine.changes import mark
from online_models.engine.history import SeenArrays, StepArrays, insert_step, see
from online_models.engine.items import (
    CLOCK_POSITIVE,
    N_EVENTS,
    N_STAGES,
    POP_ACTIVE,
    POP_FAST,
    POP_SLOW,
    learn_item,
)
from online_models.engine.jit import jit_bare
from online_models.engine.models import FactorArrays, ItemArrays, Marks, Models, PairArrays, Plain, RingArrays
from online_models.engine.names import NameArrays, comes_after
from online_models.engine.pairs import learn_pairs
from online_models.engine.pool import wants_more
from online_models.engine.popular import ActiveArrays, TopArrays, activate, key_of, raise_in_top
from online_models.engine.rings import append

N_AT_MOST = 512
"""Events of a run."""

EACH = 16
"""A vector that is made of twice as many events is improved at every second of them, one of three times as many at
every third, and so on: so much of it is new then as of a smaller one at each. docs/quality.md has other numbers."""


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


@jit_bare
def stage_of(n_events: int) -> int:
    """Return what `items.stage` does."""
    bucket = 0
    while bucket < N_STAGES - 1 and (n_events + 1) >> (bucket + 1):
        bucket += 1
    return bucket


@jit_bare
def raise_popular(top: TopArrays, column: int, items: ItemArrays, item: int) -> None:
    """Let a popularity list follow one item."""
    key = key_of(items.counts[item, column], items.clocks[item, CLOCK_POSITIVE], top.half_life_s[0])
    if key > -np.inf:
        top.size[0] = raise_in_top(top.ids, top.keys, top.seqs, top.size[0], item, key, items.seq_last[item])


@jit_bare
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


@jit_bare
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


@jit_bare
def is_due(n_events: int, n_kept: int) -> bool:
    """Return whether a vector is improved at its newest event, by how many it has and of how many it is made."""
    return n_events % max(1, n_kept // EACH) == 0


@jit_bare
def improve(
    factors: FactorArrays,
    steps: StepArrays,
    rings: RingArrays,
    vectors_changed: Marks,
    users_changed: Marks,
    user: int,
    item: int,
    of_user: bool,
    of_item: bool,
) -> None:
    """Improve the vectors of a user, an item or both by what they have had."""
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
        of_user,
        of_item,
    )
    if of_item:
        mark(vectors_changed.flags, vectors_changed.slots, vectors_changed.n_slots, item)
    if of_user:
        mark(users_changed.flags, users_changed.slots, users_changed.n_slots, user)


@jit_bare
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
    """Learn one event, but for the factors of its pair."""
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


@jit_bare
def newest_of(steps: StepArrays, user: int) -> int:
    """Return the item of a user's newest step, -1 without one."""
    size = int(steps.sizes[user])
    return int(steps.items[steps.starts[user] + steps.firsts[user] + size - 1]) if size > 0 else -1


@jit_bare
def past_pair(stream: Stream, draw: float) -> tuple[int, int]:
    """Return the user and the item of a past pair, (-1, -1) when one of them is gone."""
    pair = stream.past[int(draw * min(stream.n_past[0], stream.past.size))]
    # As those of an event: what learns is compiled for each type apart.
    user, item = int(np.int32(pair >> 32)), int(np.int32(pair & 0xFFFFFFFF))
    known = item < stream.has_item.size and user < stream.has_user.size
    if not (known and stream.has_item[item] and stream.has_user[user]):
        user = item = int(np.int32(-1))
    return user, item


@jit_bare
def learn_run(
    of_models: Plain, of_stream: Plain, first_vectors: NDArray[np.float32], of_run: Plain, begin: int, end: int
) -> int:
    """Learn the events from `begin` on, one after the other; return where it stopped: at the `end`, or to grow.

    `Models`, a `Stream` and a `Run` come as plain tuples. Numba takes each array of an argument apart and makes code
    for it: what is called here gets what it uses, no more.
    """
    models = Models(
        ItemArrays(*of_models[0]),
        TopArrays(*of_models[1]),
        TopArrays(*of_models[2]),
        StepArrays(*of_models[3]),
        SeenArrays(*of_models[4]),
        NameArrays(*of_models[5]),
        PairArrays(*of_models[6]),
        Marks(*of_models[7]),
        FactorArrays(*of_models[8]),
        Marks(*of_models[9]),
        Marks(*of_models[10]),
        RingArrays(*of_models[11]),
        ActiveArrays(*of_models[12]),
    )
    stream, run = Stream(*of_stream), Run(*of_run)
    items, factors, steps, rings = models.items, models.factors, models.steps, models.rings
    vectors_changed, users_changed, active = models.vectors_changed, models.users_changed, models.active
    for k in range(begin, end):
        if (
            wants_more(steps.items.size, steps.top)
            or wants_more(models.seen.items.size, models.seen.top)
            or wants_more(models.pairs.ids.size, models.pairs.top)
            or wants_more(rings.ids.size, rings.top)
        ):
            return k
        user, item = run.users[k], run.items[k]
        is_again = newest_of(steps, user) == item
        learn_event(models, stream, first_vectors, item, user, run.times[k], run.positive[k], run.new[k])
        if not is_again:
            of_user = is_due(steps.totals[user], steps.sizes[user])
            of_item = is_due(rings.totals[item], rings.sizes[item])
            if of_user or of_item:
                improve(factors, steps, rings, vectors_changed, users_changed, user, item, of_user, of_item)
        refresh(active, items, factors.items, item)
        stream.past[stream.n_past[0] % stream.past.size] = (np.int64(user) << 32) | np.int64(item)
        stream.n_past[0] += 1
        if run.draws[k] >= 0.0:
            user, item = past_pair(stream, run.draws[k])
            if user >= 0:
                improve(factors, steps, rings, vectors_changed, users_changed, user, item, True, True)
                refresh(active, items, factors.items, item)
        stream.n_events[0] += 1
    return end
