"""Giving candidates their scores."""

import time
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from online_models.engine.scorer import Scorer
from serving.memory.last_lists import LastList, LastLists
from serving.pipelines.ladder import FILTERED, MAX_SCORED, Rung
from serving.pipelines.slate import Candidates, Slate
from serving.pipelines.sources import Popular, ScoredSource


class Score:
    """One vectorised pass of the ranker over the first candidates, as many as load allows.

    An experiment may have all candidates ordered by popularity instead, as `popular` has them.
    """

    name = "score"
    deadline_ms = 20.0
    skippable = True

    def __init__(self, lists: LastLists | None = None) -> None:
        self._lists = lists

    def run(self, slate: Slate) -> None:
        if slate.last is not None:
            return  # recalled with its scores
        if slate.ranker == "popularity":
            ScoreBy(Popular()).run(slate)
            return
        assert slate.context is not None
        share = 1 if slate.wanted is None else FILTERED
        n_scored = max(share * slate.max_scored, slate.query.limit)
        if n_scored < min(share * MAX_SCORED, len(slate.candidates)):
            slate.degraded["load"] = f"only {n_scored} candidates were scored"
        slate.has_more = len(slate.candidates) > n_scored
        candidates = slate.candidates.first(n_scored)
        features = slate.replica.features(slate.context, candidates.slots)
        mean = Scorer.list_mean(features) if len(candidates) else None
        ranking = slate.ranking = slate.ranking or slate.replica.ranking
        scores = ranking.score(features, mean).astype(np.float64)
        chances = np.exp(scores - scores.max(initial=0.0))
        slate.candidates = Candidates(candidates.slots, candidates.sources, chances / chances.sum(), features)
        slate.list_mean = mean
        slate.model = (ranking.name, ranking.version)
        slate.notes["scored"] = len(candidates)
        if self._lists is not None:
            self._remember(slate, self._lists)

    def _remember(self, slate: Slate, lists: LastLists) -> None:
        """Keep the list for when the user's state cannot be read, unless it is one of special wishes."""
        if slate.user_id is None or not slate.lacks_nothing or not slate.is_usual:
            return
        basis = slate.basis
        if lists.wants(slate.user_id, slate.surface, basis):
            found, now = slate.candidates, time.monotonic()
            last = LastList(found.slots, found.sources, found.scores, slate.source_names, slate.model, now, basis)
            lists.put(slate.user_id, slate.surface, slate.replica, last)

    def fallback(self, slate: Slate) -> None:
        """Popularity orders what the ranker did not."""
        if slate.last is not None:
            return
        slate.descend(Rung.NO_RANKER)
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


class BlendText:
    """How well the text matches, raised by up to a half for what the ranker thinks of the item. Scores are 0 to 1.

    So taste orders what matches alike, and an item that matches better by a half stays before one that does not.
    """

    name = "blend"
    deadline_ms = 5.0
    skippable = True

    _TASTE = 0.5

    def run(self, slate: Slate) -> None:
        liked = np.nan_to_num(slate.candidates.scores, nan=0.0)
        liked = liked / max(float(liked.max(initial=0.0)), 1e-12)
        self._set(slate, (1.0 + self._TASTE * liked) / (1.0 + self._TASTE))

    def fallback(self, slate: Slate) -> None:
        self._set(slate, np.ones(len(slate.candidates)))

    def _set(self, slate: Slate, factors: NDArray[np.float64]) -> None:
        if slate.relevance is not None and len(slate.candidates):
            found = slate.relevance[slate.candidates.slots]
            slate.candidates = replace(slate.candidates, scores=found / found.max() * factors)
