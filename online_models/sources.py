"""Candidate sources: each gives up to hundreds of items for one user, from memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import Slots
from online_models.columns import Columns, Context
from online_models.features import HALF_LIVES

Retrieved = tuple[Slots, NDArray[np.float32]]
"""Distinct slots, servable or not, and the source's own scores, best first."""

_SAMPLED = 4096


class Source(Protocol):
    """Retrieves candidates; `name` is what answers and impressions call it."""

    name: str

    def retrieve(self, context: Context, k: int) -> Retrieved: ...


class HasColumns(Protocol):
    """A replica, or the learner itself."""

    columns: Columns


def default_sources(models: HasColumns) -> tuple[Source, ...]:
    """Return all sources. When a list's candidates are limited, earlier ones are asked first in each turn."""
    columns = models.columns
    return (
        Covisited(columns),
        Collaborative(columns),
        Popular(columns),
        Trending(columns),
        Content(columns),
        Exploration(columns),
    )


class Covisited:
    """What others took after the user's recent items."""

    name = "covisitation"

    def __init__(self, columns: Columns) -> None:
        self._columns = columns

    def retrieve(self, context: Context, k: int) -> Retrieved:
        slots, scores = context.covisited
        return _best(slots, scores, k)


class Collaborative:
    """Items whose vectors are nearest to the user's."""

    name = "collaborative"

    def __init__(self, columns: Columns) -> None:
        self._columns = columns

    def retrieve(self, context: Context, k: int) -> Retrieved:
        return _NOTHING if len(context.slots) == 0 else self._columns.index.search(context.vector, k)


class Popular:
    """The most popular items, over two half-lives in turns: the last days' and the last weeks'."""

    name = "popular"

    def __init__(self, columns: Columns) -> None:
        self._columns = columns

    def retrieve(self, context: Context, k: int) -> Retrieved:
        return _popular(self._columns, context, k, (_DAYS, _WEEKS))


class Trending:
    """The items of the last hour or hours."""

    name = "trending"

    def __init__(self, columns: Columns) -> None:
        self._columns = columns

    def retrieve(self, context: Context, k: int) -> Retrieved:
        return _popular(self._columns, context, k, (_HOUR,))


class Content:
    """Items of the genres and creators that the user takes, also those without any event.

    Looks at an even sample of at most 4096 items, another one at each moment; popularity decides among equals.
    """

    name = "content"

    def __init__(self, columns: Columns) -> None:
        self._columns = columns

    def retrieve(self, context: Context, k: int) -> Retrieved:
        if not context.taste.any():
            return _NOTHING
        catalogue = self._columns.catalogue
        slots = _sample(self._columns, context)
        match = context.taste[catalogue.genres[slots]].sum(axis=1)
        if len(context.creators_known):
            match += 0.2 * np.isin(catalogue.creators[slots], context.creators_known)
        matching = np.flatnonzero(match > 0.0)
        slots, match = slots[matching], match[matching]
        events = self._columns.popularity.predict_many(slots, context.now_ms)[:, _WEEKS]
        return _best(slots, match * (1.0 + 0.1 * np.log1p(events)), k)


class Exploration:
    """Items with little exposure so far, those of the user's taste first."""

    name = "exploration"

    def __init__(self, columns: Columns, at_most_events: int = 10) -> None:
        self._columns = columns
        self._at_most_events = at_most_events

    def retrieve(self, context: Context, k: int) -> Retrieved:
        slots = _sample(self._columns, context)
        slots = slots[self._columns.statistics.n_events[slots] < self._at_most_events]
        chance = np.random.default_rng([context.now_ms & 0xFFFFFFFF, len(slots)]).random(len(slots))
        return _best(slots, chance + context.taste[self._columns.catalogue.genres[slots]].sum(axis=1), k)


@dataclass(frozen=True, slots=True)
class Candidates:
    """The union of what sources gave, each item once, hidden ones left out."""

    slots: Slots
    membership: NDArray[np.uint32]
    """Bit b is set when source number b gave the item."""
    sources: tuple[str, ...]

    def names(self, index: int) -> list[str]:
        """Return the names of the sources that gave candidate `index`."""
        bits = int(self.membership[index])
        return [name for b, name in enumerate(self.sources) if bits >> b & 1]


def union(columns: Columns, retrieved: Mapping[str, Retrieved], limit: int, without: Slots | None = None) -> Candidates:
    """Merge by taking turns: every source's best, then every second best, until `limit` distinct items are there."""
    names = tuple(retrieved)
    found = [slots for slots, _ in retrieved.values()]
    slots = np.concatenate([*found, np.empty(0, dtype=np.int32)])
    source = np.repeat(np.arange(len(found)), [len(part) for part in found])
    turn = np.concatenate([*(np.arange(len(part)) for part in found), np.empty(0, dtype=np.intp)])
    allowed = columns.servable(slots)
    if without is not None and len(without):
        allowed &= ~np.isin(slots, without)
    slots, source, turn = slots[allowed], source[allowed], turn[allowed]
    distinct, first, which = np.unique(
        slots[order := np.lexsort((source, turn))], return_index=True, return_inverse=True
    )
    membership = np.zeros(len(distinct), dtype=np.uint32)
    np.bitwise_or.at(membership, which, np.uint32(1) << source[order].astype(np.uint32))
    chosen = np.argsort(first)[:limit]
    return Candidates(distinct[chosen].astype(np.int32), membership[chosen], names)


_HOUR, _DAYS, _WEEKS = 0, 2, 3
_NOTHING: Retrieved = (np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32))
assert len(HALF_LIVES) > _WEEKS


def _best(slots: Slots, scores: NDArray[np.float64], k: int) -> Retrieved:
    if len(slots) > k:
        best = np.argpartition(scores, len(scores) - k)[len(scores) - k :]
        slots, scores = slots[best], scores[best]
    order = np.lexsort((slots, -scores))
    return slots[order], scores[order].astype(np.float32)


def _popular(columns: Columns, context: Context, k: int, half_lives: tuple[int, ...]) -> Retrieved:
    """Take turns between the top lists of several half-lives."""
    tops = [columns.tops.top(column)[:k] for column in half_lives]
    slots = tops[0]
    if len(tops) > 1:
        turns = np.concatenate([np.arange(len(top)) for top in tops])
        joined = np.concatenate(tops)[np.argsort(turns, kind="stable")]
        _, first = np.unique(joined, return_index=True)
        slots = joined[np.sort(first)][:k]
    counts = columns.popularity.predict_many(slots, context.now_ms)[:, half_lives[0]]
    return slots, counts.astype(np.float32)


def _sample(columns: Columns, context: Context) -> Slots:
    """Return an even sample of the present items: every n-th, beginning somewhere."""
    present = columns.present
    step = max(1, len(present) // _SAMPLED)
    slots = np.arange(context.now_ms // 1000 % step, len(present), step, dtype=np.int32)
    return slots[present[slots]]
