"""Candidate sources: each gives some of the items that a request may get, from memory.

Learner and serving use the same ones: a list that is learned from was made as the lists that are served.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import Slots
from online_models.columns import Columns
from online_models.engine.context import Context
from online_models.engine.retrieval import MAX_CANDIDATES

_SAMPLED, _SAMPLED_ALIKE = 512, 2048
_FEW_EVENTS, _ANY = 10, 1 << 40


class Source(Protocol):
    """Retrieves candidates; `name` is what answers and impressions call it."""

    @property
    def name(self) -> str: ...

    def retrieve(self, context: Context) -> Slots | None:
        """Return allowed items, best first; None when the source has nothing to do with the request."""


@dataclass(frozen=True)
class History:
    """What the user took before, newest first, where that may come again."""

    k: int = 20
    name: str = "history"

    def retrieve(self, context: Context) -> Slots | None:
        if not context.repeats:
            return None
        newest = context.steps.items[::-1][: self.k]
        _, first = np.unique(newest, return_index=True)
        return context.columns.workspace.first(newest[np.sort(first)], self.k)


@dataclass(frozen=True)
class Covisited:
    """What others took around the user's newest items."""

    k: int = 60
    name: str = "covisitation"

    def retrieve(self, context: Context) -> Slots:
        return context.covisited(self.k)


@dataclass(frozen=True)
class Session:
    """What others took after the newest item, and what they took lately around the newest ones."""

    k: int = 25
    name: str = "session"

    def retrieve(self, context: Context) -> Slots:
        return np.concatenate([context.next_after_last(self.k), context.lately_covisited(self.k)])


@dataclass(frozen=True)
class Collaborative:
    """Items whose factors match the user's: of the whole history, and of the last few steps."""

    k: int = 40
    k_sharp: int = 25
    name: str = "collaborative"

    def retrieve(self, context: Context) -> Slots | None:
        if not len(context.steps.items):
            return None
        return np.concatenate([context.near(0, self.k), context.near(2, self.k_sharp)])


@dataclass(frozen=True)
class Popular:
    """The most popular items of the last weeks."""

    k: int = 30
    name: str = "popular"

    def retrieve(self, context: Context) -> Slots:
        return context.popular(context.columns.items.slow, self.k)


@dataclass(frozen=True)
class Trending:
    """The most popular items of the last hours."""

    k: int = 40
    name: str = "trending"

    def retrieve(self, context: Context) -> Slots:
        return context.popular(context.columns.items.fast, self.k)


@dataclass(frozen=True)
class Content:
    """Items of which little is known, by how their labels match what the user took."""

    k: int = 20
    name: str = "content"

    def retrieve(self, context: Context) -> Slots | None:
        slots = context.little_known(_FEW_EVENTS, _SAMPLED)
        match = context.taste_match(slots)
        return context.columns.workspace.best(match, slots, len(slots), self.k)


@dataclass(frozen=True)
class Exploration:
    """Items of which little is known, drawn at random: each gets some exposure."""

    k: int = 20
    name: str = "exploration"

    def retrieve(self, context: Context) -> Slots:
        slots = context.little_known(_FEW_EVENTS, _SAMPLED)
        return context.drawn(slots, self.k)


@dataclass(frozen=True)
class Nearest:
    """Items whose factors are nearest to those of the newest item."""

    k: int = 60
    name: str = "collaborative"

    def retrieve(self, context: Context) -> Slots | None:
        return context.nearest_to_last(self.k) if len(context.steps.items) else None


@dataclass(frozen=True)
class Alike:
    """Items whose labels match those of what was taken, also those that nobody took yet."""

    k: int = 60
    name: str = "content"

    def retrieve(self, context: Context) -> Slots:
        slots = context.little_known(_ANY, _SAMPLED_ALIKE)
        return context.columns.workspace.best(context.taste_match(slots), slots, len(slots), self.k)


LEARNED: tuple[Source, ...] = (History(), Covisited(), Trending(), Collaborative(), Session(), Popular())
"""Those that know of an item by its events. The ranker learns from lists of these."""

N_CANDIDATES = 200

REPEATS_FROM = 0.02
"""Share of events that take an item again from which the user's history is among the candidates."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """The union of what sources gave, each item once."""

    slots: Slots
    membership: NDArray[np.uint32]
    """Bit b is set when source number b gave the item."""
    sources: tuple[str, ...]

    def names(self, index: int) -> list[str]:
        """Return the names of the sources that gave candidate `index`."""
        bits = int(self.membership[index])
        return [name for b, name in enumerate(self.sources) if bits >> b & 1]


def union(columns: Columns, retrieved: Mapping[str, Slots], limit: int = MAX_CANDIDATES) -> Candidates:
    """Merge: the first source's items, then the second's that are new, until there are `limit`."""
    slots, membership = columns.workspace.union(tuple(retrieved.values()), min(limit, MAX_CANDIDATES))
    return Candidates(slots, membership, tuple(retrieved))


def gather(context: Context, sources: Sequence[Source] = LEARNED, limit: int = N_CANDIDATES) -> Candidates:
    """Ask all sources."""
    found = ((source.name, source.retrieve(context)) for source in sources)
    return union(context.columns, {name: given for name, given in found if given is not None}, limit)
