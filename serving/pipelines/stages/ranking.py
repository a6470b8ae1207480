"""From scores to the order that is shown."""

import numpy as np
from numpy.typing import NDArray

from online_models.catalogue import NONE
from serving.pipelines.slate import Slate

_ROWS = 32
"""Candidates whose genres are looked at together: the cap has nearly always chosen among the first."""


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
        # What is far behind the best is not listed; the rest would be far behind another best.
        slate.has_more |= len(slate.candidates) > slate.query.limit
        slate.has_more &= not slate.query.min_relevance
        slate.candidates = slate.candidates.take(slice(slate.query.limit))

    fallback = run
