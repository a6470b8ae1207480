"""All that an event changes, as arrays for kernels: numba takes no objects."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from online_models.engine.changes import Changed
from online_models.engine.factors import CONFIDENCES, REGULARISATIONS, Factors
from online_models.engine.history import Histories, SeenArrays, StepArrays
from online_models.engine.items import ItemTable
from online_models.engine.names import NameArrays
from online_models.engine.neighbours import Neighbours
from online_models.engine.popular import ActiveArrays, TopArrays


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


Plain = tuple[Any, ...]
"""Arrays, or tuples of them. At each call of a kernel, numba finds out the types of plain tuples in C, but those of
named ones in Python: that takes 0.7 µs an array, for all of `Models` more than what an event teaches."""


def plain(models: Models) -> Plain:
    """Return plain tuples of what the models have."""
    return tuple(map(tuple, models))


def marks_of(changed: Changed) -> Marks:
    """Return it for kernels."""
    return Marks(changed.flags, changed.slots, changed.count)
