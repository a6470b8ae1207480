"""Giving candidates their scores."""

import numpy as np

from online_models.engine.scorer import Scorer
from serving.pipelines.slate import Candidates, Slate
from serving.pipelines.sources import Popular, ScoredSource

MAX_SCORED = 500
"""Candidates that the ranker sees, after the filters."""


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
