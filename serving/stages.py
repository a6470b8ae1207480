"""The stages that surfaces are declared from."""

from collections.abc import Awaitable, Iterator

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import Slots
from online_models.catalogue import NONE
from online_models.engine.scorer import Scorer
from online_models.sources import union
from online_models.user_view import UserView
from serving.filters import Filter
from serving.pipeline import Candidates, Slate
from serving.sources import Popular, ScoredSource, Source
from serving.users import Users

MAX_RETRIEVED = 4000
"""Distinct candidates before the filters."""
MAX_SCORED = 500
"""Candidates that the ranker sees, after the filters."""
_ROWS = 32
"""Candidates whose genres are looked at together: the cap has nearly always chosen among the first."""


class ReadUser:
    """Reads the user's state in one round trip; without Redis, what this process remembers of the user."""

    name = "user"
    deadline_ms = 60.0
    skippable = False

    def __init__(self, users: Users) -> None:
        self._users = users

    def run(self, slate: Slate) -> Awaitable[None] | None:
        if slate.user_id is None:
            return None
        return self._read(slate, slate.user_id)

    async def _read(self, slate: Slate, user_id: str) -> None:
        slate.user = await self._users.read(user_id, slate.query.session_id)
        slate.notes["pending_feedback"] = slate.user.n_pending

    def fallback(self, slate: Slate) -> None:
        if slate.user_id is not None:
            slate.user = self._users.from_memory(slate.user_id)


class Hydrate:
    """Resolves the user's history, or the item that the list is about, against the models in memory."""

    name = "hydrate"
    deadline_ms = 20.0
    skippable = False

    def run(self, slate: Slate) -> None:
        if slate.anchor is not None:
            view = UserView.of_items((slate.replica.item_id(slate.anchor),), slate.now_ms)
        else:
            profile = None if slate.user is None else slate.user.profile
            view = UserView.of(profile, max(slate.now_ms, 0 if profile is None else profile.last_ts))
        repeats = slate.query.seen == "show" and slate.replica.repeats
        context = slate.replica.context(view, repeats)
        for slots in _unwanted(slate):
            context.bar(slots)
        allowed = slate.allowed()
        if allowed is not None:
            context.bar_all_but(allowed)
        slate.context = context

    def fallback(self, slate: Slate) -> None:
        slate.context = slate.replica.context(UserView(slate.now_ms))


class Retrieve:
    """Asks every source; one that fails is left out and named."""

    name = "retrieve"
    deadline_ms = 20.0
    skippable = False

    def __init__(self, *sources: Source) -> None:
        self._sources = sources

    def run(self, slate: Slate) -> None:
        retrieved = {}
        for source in self._sources:
            try:
                found = source.retrieve(slate)
            except Exception as error:
                slate.fail(f"source {source.name}", error)
                continue
            if found is not None:
                retrieved[source.name] = found
                slate.notes[source.name] = len(found)
        merged = union(slate.replica.columns, retrieved, MAX_RETRIEVED)
        slate.source_names = tuple(merged.sources)
        slate.candidates = Candidates(merged.slots, merged.membership, np.full(len(merged.slots), np.nan))

    def fallback(self, slate: Slate) -> None:
        slots, _ = slate.replica.popular(MAX_SCORED, slate.now_ms)
        slate.source_names = ("popular",)
        slate.candidates = Candidates(slots, np.ones(len(slots), np.uint32), np.full(len(slots), np.nan))


def _unwanted(slate: Slate) -> Iterator[Slots]:
    """Yield items that sources need not find: filters drop them anyway, but then a list may not be full."""
    replica = slate.replica
    if slate.query.exclude:
        yield replica.slots(slate.query.exclude)
    if slate.anchor is not None:
        yield np.array([slate.anchor], np.int32)
    if slate.user is not None:
        yield replica.slots(slate.user.hidden)
        if slate.user.profile is not None and slate.query.seen == "hide":
            yield replica.slots(slate.user.profile.seen)


class Drop:
    """Applies filters, cheapest first, and counts what each dropped."""

    name = "filter"
    deadline_ms = 20.0
    skippable = False

    def __init__(self, *filters: Filter) -> None:
        self._filters = filters

    def run(self, slate: Slate) -> None:
        candidates = slate.candidates
        stays: NDArray[np.bool_] | None = None
        for rule in self._filters:
            try:
                kept = rule.keep(slate, candidates.slots)
            except Exception as error:
                slate.fail(f"filter {rule.name}", error)
                kept = np.zeros(len(candidates), np.bool_) if rule.fails_closed else None
            if kept is not None:
                if slate.query.explain:
                    dropped = ~kept if stays is None else stays & ~kept
                    slate.notes[rule.name] = int(np.count_nonzero(dropped))
                stays = kept if stays is None else stays & kept
        if stays is not None and not stays.all():
            slate.candidates = candidates.take(stays.nonzero()[0])

    def fallback(self, slate: Slate) -> None:
        slate.candidates = Candidates.none()


class Score:
    """One vectorised pass of the online ranker over the first `MAX_SCORED` candidates, to which sources took turns."""

    name = "score"
    deadline_ms = 20.0
    skippable = True

    def run(self, slate: Slate) -> None:
        assert slate.context is not None
        candidates = slate.candidates.take(slice(MAX_SCORED))
        features = slate.replica.features(slate.context, candidates.slots)
        scores = slate.replica.score(features).astype(np.float64)
        chances = np.exp(scores - scores.max(initial=0.0))
        slate.candidates = Candidates(candidates.slots, candidates.sources, chances / chances.sum(), features)
        slate.list_mean = Scorer.list_mean(features) if len(candidates) else None
        slate.model = (slate.replica.model_name, slate.replica.model_version)
        slate.notes["scored"] = len(candidates)

    def fallback(self, slate: Slate) -> None:
        """Popularity orders what the ranker did not."""
        ScoreBy(Popular()).run(slate)


class ScoreBy:
    """Candidates have the score that a source gives them; others keep its order behind them, with 0."""

    name = "score"
    deadline_ms = 20.0
    skippable = True

    def __init__(self, source: ScoredSource) -> None:
        self._source = source

    def run(self, slate: Slate) -> None:
        candidates = slate.candidates
        slots, values = self._source.scored(slate)
        by_slot = np.zeros(slate.replica.n_slots)
        by_slot[slots] = values
        scores = by_slot[candidates.slots]
        slate.candidates = Candidates(candidates.slots, candidates.sources, scores)
        slate.model = (self._source.name, "1")

    def fallback(self, slate: Slate) -> None:
        slate.model = ("none", "1")


class Rank:
    """Best score first; what has no finite score sinks. Equal scores keep the order of retrieval."""

    name = "rank"
    deadline_ms = 5.0
    skippable = False

    def run(self, slate: Slate) -> None:
        scores = slate.candidates.scores
        if not np.isfinite(scores).all():
            scores = np.where(np.isfinite(scores), scores, -np.inf)
        slate.candidates = slate.candidates.take(np.argsort(-scores, kind="stable"))

    def fallback(self, slate: Slate) -> None:
        """The order of retrieval stands."""


class GenreCap:
    """At most so many items of one genre among the first; when the candidates do not allow it, as few more as needed.

    Takes the best candidate that breaks no cap, position by position. All others come behind, in order.
    """

    name = "rerank"
    deadline_ms = 10.0
    skippable = True

    def __init__(self, at_most: int = 3, among: int = 10) -> None:
        self._at_most = at_most
        self._among = among

    def run(self, slate: Slate) -> None:
        among = min(self._among, slate.query.limit, len(slate.candidates))
        genres = slate.replica.columns.catalogue.genres[slate.candidates.slots]
        chosen = self._choose(genres, among)
        moved = chosen[-1] + 1 if chosen else 0
        if moved > len(chosen):
            order = np.arange(len(slate.candidates))
            order[:moved] = chosen + sorted(set(range(moved)).difference(chosen))
            slate.candidates = slate.candidates.take(order)
        slate.notes["genre_cap_relaxed"] = among - len(chosen)

    def fallback(self, slate: Slate) -> None:
        """The ranker's order stands."""

    def _choose(self, genres: NDArray[np.int32], n_wanted: int) -> list[int]:
        """Return the positions that break no cap, at most as many as wanted; `genres` is padded, shape (n, width)."""
        left: dict[int, int] = {}
        full: set[int] = set()
        chosen: list[int] = []
        for first in range(0, len(genres), _ROWS):
            for position, of_item in enumerate(genres[first : first + _ROWS].tolist(), first):
                if not full.isdisjoint(of_item):
                    continue
                chosen.append(position)
                if len(chosen) == n_wanted:
                    return chosen
                for genre in of_item:
                    if genre == NONE:
                        break
                    left[genre] = left.get(genre, self._at_most) - 1
                    if not left[genre]:
                        full.add(genre)
        return chosen


class Select:
    """Takes as many as were asked for."""

    name = "select"
    deadline_ms = 5.0
    skippable = False

    def run(self, slate: Slate) -> None:
        slate.candidates = slate.candidates.take(slice(slate.query.limit))

    fallback = run
