"""What a request asks to be done to scores: it multiplies them, and leaves out what is far behind the best."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from online_models.reranking.rerank import likeness
from serving.contract.answers import RuleEffect
from serving.contract.queries import ROTATION_S
from serving.pipelines.slate import Slate

_AVERSION = 3.0
"""At which a dislike lowers similar items about as far as a like raises them (MovieLens 100k)."""


class Adjust:
    """`min_relevance` looks at the scores as they are; then `booster` and `rotation` multiply them."""

    name = "adjust"
    deadline_ms = 10.0
    skippable = True

    def run(self, slate: Slate) -> None:
        query, candidates = slate.query, slate.candidates
        if query.min_relevance and len(candidates):
            best = float(np.nanmax(candidates.scores, initial=0.0))
            kept = candidates.scores >= query.min_relevance * best
            slate.notes["below_min_relevance"] = int(np.count_nonzero(~kept))
            candidates = candidates.take(kept)
        if slate.boosts:
            candidates = replace(candidates, scores=candidates.scores * self._boosted(slate, candidates.slots))
        if slate.rotated is not None:
            candidates = replace(candidates, scores=candidates.scores * self._rotated(slate, candidates.slots))
        slate.candidates = candidates

    def fallback(self, slate: Slate) -> None:
        """Scores stand as they are."""

    def _boosted(self, slate: Slate, slots: NDArray[np.int32]) -> NDArray[np.float64]:
        factors = np.ones(len(slots))
        for boost in slate.boosts:
            factors[slate.replica.matching(boost.condition)[slots]] *= boost.factor
        slate.notes["boosted"] = int(np.count_nonzero(factors != 1.0))
        _tell(slate, "booster", slots, factors)
        return factors

    def _rotated(self, slate: Slate, slots: NDArray[np.int32]) -> NDArray[np.float64]:
        """Return 1 - rotation at the moment an item is shown, growing evenly to 1 within the rotation time."""
        assert slate.rotated is not None
        left = np.zeros(slate.replica.n_slots)
        span_ms = 1000.0 * (slate.query.rotation_time or ROTATION_S)
        for item_id, ts in zip(slate.rotated.items, slate.rotated.times, strict=True):
            if (slot := slate.replica.slot(item_id)) is not None:
                left[slot] = min(1.0, max(0.0, 1.0 - (slate.wall_ms - ts) / span_ms))
        found = left[slots]
        slate.notes["rotated"] = int(np.count_nonzero(found))
        factors = np.asarray(1.0 - slate.query.rotation * found)
        _tell(slate, "rotation", slots, factors)
        return factors


class Dislikes:
    """What is like something that the user disliked gets a lower score: (1 - similarity) ** 3 of what it had.

    Similarity is what `diversity` goes by.
    """

    name = "dislikes"
    deadline_ms = 5.0
    skippable = True

    def __init__(self, newest: int = 20) -> None:
        self._newest = newest

    def run(self, slate: Slate) -> None:
        disliked = slate.disliked(self._newest)
        candidates = slate.candidates
        if not len(disliked) or not len(candidates):
            return
        slots = np.concatenate([candidates.slots, disliked])
        genres = slate.replica.columns.catalogue.genres[slots]
        alike = likeness(slate.replica.vectors(slots), genres, len(candidates)).astype(np.float64)
        factors = (1.0 - alike) ** _AVERSION
        slate.notes["lowered"] = int(np.count_nonzero(factors != 1.0))
        _tell(slate, self.name, candidates.slots, factors)
        slate.candidates = replace(candidates, scores=candidates.scores * factors)

    def fallback(self, slate: Slate) -> None:
        """Scores stand as they are."""


class InContext:
    """What is taken more on the device, in the region and at the time of the request gets a higher score: for a new
    user, of whom nothing else is known, or for everybody; wherever popularity orders, as on the surface `popular`.
    """

    name = "context"
    deadline_ms = 5.0
    skippable = True

    def __init__(self, everybody: bool = False) -> None:
        self._everybody = everybody

    def run(self, slate: Slate) -> None:
        if slate.last is not None or not (self._everybody or slate.is_new_user or slate.ranker == "popularity"):
            return
        candidates = slate.candidates
        lifts = slate.replica.lifts(slate.situation, candidates.slots, slate.now_ms)
        slate.notes["lifted"] = int(np.count_nonzero(lifts > 1.0))
        _tell(slate, self.name, candidates.slots, lifts)
        slate.candidates = replace(candidates, scores=candidates.scores * lifts)

    def fallback(self, slate: Slate) -> None:
        """Scores stand as they are."""


def _tell(slate: Slate, what: str, slots: NDArray[np.int32], factors: NDArray[np.float64]) -> None:
    """Say of each item by how much its score was multiplied, for `explain`."""
    if slate.query.explain:
        for n in np.flatnonzero(factors != 1.0).tolist():
            effect = RuleEffect(what, f"score multiplied by {factors[n]:.3g}")
            slate.effects.setdefault(int(slots[n]), []).append(effect)
