"""Giving candidates their scores."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

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
