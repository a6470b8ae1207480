"""Where candidates come from: the models' sources, and those that answer a request's own terms."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from online_models import sources
from online_models.arrays import Slots
from online_models.catalogue.expressions import Labels
from online_models.catalogue.text_index import MAX_TERMS, TextIndex
from online_models.shortlist import shortlist
from serving.pipelines.slate import Slate

_PER_PLACE = 3
_UNINDEXED = 1000
"""Changes of texts that may wait before a search says so."""
PER_SOURCE = 200
"""With six sources enough for 500 distinct candidates."""


class Source(Protocol):
    """Gives candidates for one slate, best first; None when it has nothing to do with the request."""

    @property
    def name(self) -> str: ...

    def retrieve(self, slate: Slate) -> Slots | None: ...


class ScoredSource(Source, Protocol):
    """A source whose own scores can order a list."""

    def scored(self, slate: Slate) -> tuple[Slots, NDArray[np.float32]]: ...


class Model:
    """One of the models' candidate sources."""

    def __init__(self, source: sources.Source) -> None:
        self.name = source.name
        self._source = source

    def retrieve(self, slate: Slate) -> Slots | None:
        assert slate.context is not None
        return self._source.retrieve(slate.context)


class Popular:
    """The most popular items; of those that a filter asks for if there is one."""

    name = "popular"

    def __init__(self, k: int = 500, half_life: str = "8d") -> None:
        self._k = k
        self._half_life = half_life

    def retrieve(self, slate: Slate) -> Slots | None:
        where = slate.allowed()
        return slate.replica.popular_slots(self._k + _n_to_drop(slate), slate.now_ms, self._half_life, where)

    def scored(self, slate: Slate) -> tuple[Slots, NDArray[np.float32]]:
        """Return the items with their counts."""
        where = slate.allowed()
        return slate.replica.popular(self._k + _n_to_drop(slate), slate.now_ms, self._half_life, where)


class PopularHere:
    """What is popular on the device, in the region and at the time of the request, for a new user."""

    name = "context"

    def __init__(self, k: int = 100) -> None:
        self._k = k

    def retrieve(self, slate: Slate) -> Slots | None:
        if not slate.is_new_user:
            return None
        return slate.replica.popular_in(slate.situation, self._k + _n_to_drop(slate), slate.now_ms, slate.allowed())


class Trending:
    """The items with most activity in the request's window."""

    name = "trending"

    def __init__(self, k: int = 500) -> None:
        self._k = k

    def retrieve(self, slate: Slate) -> Slots:
        return self.scored(slate)[0]

    def scored(self, slate: Slate) -> tuple[Slots, NDArray[np.float32]]:
        """Return the items with their counts."""
        where = slate.allowed()
        return slate.replica.trending(self._k + _n_to_drop(slate), slate.window, slate.now_ms, where)


class Matching:
    """What a filter asks for: so that a narrow filter still fills the list, and a wide one leaves out nothing that the
    ranker would like best (R3).
    """

    name = "matching"

    def __init__(self, k: int = 3000) -> None:
        self._k = k

    def retrieve(self, slate: Slate) -> Slots | None:
        if slate.wanted is None:
            return None
        assert slate.context is not None
        ranking = slate.ranking or slate.replica.ranking
        return shortlist(slate.context, ranking.score, slate.context.allowed(), self._k)


class Pinned:
    """Items that rules give a place to."""

    name = "pinned"

    def retrieve(self, slate: Slate) -> Slots | None:
        pins = slate.rules.pins(slate.surface, slate.user_id)
        return slate.replica.slots([pin.item for pin in pins]) if pins else None


class Promoted:
    """The most popular items of each promotion, for the ranker to choose from."""

    name = "promoted"

    def retrieve(self, slate: Slate) -> Slots | None:
        promotions = slate.rules.promotions(slate.surface)
        if not promotions:
            return None
        allowed = slate.allowed()
        found = []
        for promotion in promotions:
            where = slate.rules.mask(promotion.name, slate.replica)
            k = _PER_PLACE * promotion.among + _n_to_drop(slate)
            where = where if allowed is None else where & allowed
            found.append(slate.replica.popular_slots(k, slate.now_ms, where=where))
        return np.concatenate(found)


class TextMatch:
    """Items whose texts match the request's."""

    name = "text"

    def __init__(self, text: TextIndex, k: int = 400, k_filtered: int = 5000) -> None:
        self._text = text
        self._k = k
        self._k_filtered = k_filtered

    def retrieve(self, slate: Slate) -> Slots:
        """Return them, best first. A filter that few items pass is part of the search: then none is missed."""
        replica, where = slate.replica, None if slate.wanted is None else slate.allowed()
        wanted = self._k + _n_to_drop(slate)
        attempts, among = [wanted], None
        if where is not None:
            allowed = np.flatnonzero(where)
            if len(allowed) <= MAX_TERMS:
                among = replica.item_ids(allowed)
            else:  # twice as many as hold enough that match, where the filter has nothing to do with the text
                likely = 2 * wanted * replica.n_items // len(allowed)
                attempts = sorted({min(likely, self._k_filtered), self._k_filtered})
        if self._text.n_pending > _UNINDEXED:
            slate.degraded["text"] = f"{self._text.n_pending} items cannot be found yet"
        for k in attempts:
            item_ids, found = self._text.search(slate.text, k, among)
            known = [n for n, item_id in enumerate(item_ids) if replica.slot(item_id) is not None]
            slots = replica.slots([item_ids[n] for n in known])
            if where is None or len(item_ids) < k or np.count_nonzero(where[slots]) >= wanted:
                break
        slate.relevance = np.zeros(replica.n_slots)
        slate.relevance[slots] = found[known]
        return slots


class Liked:
    """Popular items of the genres that somebody likes who has not taken much yet: what was said at the beginning."""

    name = "taste"

    def __init__(self, k: int = 60, n_genres: int = 3, until: int = 5) -> None:
        self._k = k
        self._n_genres = n_genres
        self._until = until
        """Steps from which on the history speaks for itself."""

    def retrieve(self, slate: Slate) -> Slots | None:
        profile = None if slate.user is None else slate.user.profile
        if profile is None or len(profile.recent) >= self._until:
            return None
        best = sorted(profile.affinity, key=profile.affinity.__getitem__, reverse=True)[: self._n_genres]
        genres = tuple(sorted(genre for genre in best if profile.affinity[genre] > 0))
        if not genres:
            return None
        where = slate.replica.matching(Labels("genre", "any", genres))
        allowed = slate.allowed()
        k = self._k + _n_to_drop(slate)
        return slate.replica.popular(k, slate.now_ms, where=where if allowed is None else where & allowed)[0]


class Consumed:
    """What the user has consumed, newest first, when that is asked for."""

    name = "consumed"

    def retrieve(self, slate: Slate) -> Slots | None:
        if slate.query.seen != "only" or slate.user is None or slate.user.profile is None:
            return None
        seen = slate.user.profile.seen
        newest = sorted(seen, key=seen.__getitem__, reverse=True)
        return slate.replica.slots(newest)


def _n_to_drop(slate: Slate) -> int:
    """Return how many items filters may drop at most: with that many more, a list is full whatever they drop."""
    n = len(slate.query.exclude) + len(slate.shown) + 1
    if slate.user is not None:
        n += len(slate.user.hidden)
        if slate.user.profile is not None:
            n += len(slate.user.profile.seen)
    return n
