"""The best of more items than can be scored, as far as a cheap model of the ranker tells them.

The ranker weighs some fifty inputs of an item in two hidden layers. A linear model of eight inputs that are cheap comes
close enough to keep those that it will like best. It is fitted for each list, to what the ranker says of some hundreds
of the items: so it follows the user, the moment and whatever the ranker has learned.

References
----------
Wang, Lin, Metzler (2011), A cascade ranking model for efficient ranked retrieval.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import Slots, highest
from online_models.engine.content import match, year_of
from online_models.engine.context import Context
from online_models.engine.items import CLOCK_LAST, CLOCK_POSITIVE, POP_SLOW, TOTAL
from online_models.engine.jit import jit_bare
from online_models.engine.liking import positive_share
from online_models.engine.prefetch import AHEAD, prefetch

N_SAMPLED = 512
"""Items at least that the line is fitted to."""
_OF_LABELS, _OF_EVENTS = 4, 4
_RIDGE = 1e-3
"""Relative to the sum of squares of an input: inputs that hardly vary, or vary together, do not run away."""


def shortlist(
    context: Context, score: Callable[[NDArray[np.float32]], NDArray[np.float32]], slots: Slots, k: int
) -> Slots:
    """Return about the k items that have the highest scores, best first; all of few ones as they are.

    `score`: of the ranker's inputs, shape (n, n_inputs) -> (n,).
    """
    if len(slots) <= N_SAMPLED:
        return slots
    seen = hints(context, slots)
    every = len(slots) // N_SAMPLED
    scores = score(context.inputs(np.ascontiguousarray(slots[::every])))
    return slots[highest(seen @ line(seen[::every], scores), k)]


def line(seen: NDArray[np.float32], scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the weights of ridge regression without the constant, (n, d), (n,) -> (d,)."""
    off = (seen - seen.mean(axis=0)).astype(np.float64)
    squares = off.T @ off
    penalty = _RIDGE * np.diagonal(squares) + np.finfo(np.float32).eps
    return np.linalg.solve(squares + np.diag(penalty), off.T @ (scores - scores.mean())).astype(np.float32)


def hints(context: Context, slots: Slots) -> NDArray[np.float32]:
    """Return what is cheap to say of items, (n, 8): four of `content.match`, then four of `look`."""
    columns, table = context.columns, context.columns.items
    out = np.empty((len(slots), _OF_LABELS + _OF_EVENTS), np.float32)
    content, (tastes, mean_year) = columns.content, context.tastes()
    match(content.labels, content.years, slots, year_of(context.t), tastes, mean_year, out[:, :_OF_LABELS])
    look(slots, context.t, table.n_events, table.counts, table.clocks, table.rates[POP_SLOW], out[:, _OF_LABELS:])
    return out


@jit_bare
def look(
    items: Slots,
    t: float,
    n_events: NDArray[np.float32],
    counts: NDArray[np.float32],
    clocks: NDArray[np.float64],
    rate: float,
    out: NDArray[np.float32],
) -> None:
    """Write whether an item had events, ln popularity, the positive share, and ln hours since the last one.

    Without events these are 0, ln .05, two thirds and 0. `rate`: of the popularity.
    """
    none = math.log(0.05)
    for m in range(items.size):
        prefetch(n_events, (items[min(m + AHEAD, items.size - 1)],))
        item = items[m]
        row = out[m]
        if n_events[item] == 0.0:
            row[0], row[1], row[2], row[3] = 0.0, none, positive_share(0.0, 0.0), 0.0
            continue
        clock = clocks[item]
        popularity = counts[item, POP_SLOW] * math.exp(-rate * max(t - clock[CLOCK_POSITIVE], 0.0))
        row[0] = 1.0
        row[1] = math.log(popularity + 0.05)
        row[2] = positive_share(counts[item, TOTAL], n_events[item])
        row[3] = math.log1p(max(t - clock[CLOCK_LAST], 0.0) / 3600.0)
