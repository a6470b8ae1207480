"""A model in the shadow: scores lists that another one ranked, from the inputs that were logged with them."""

from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from online_models.engine import inputs
from online_models.evaluation.agreement import distance, kendall, overlap, spearman
from online_models.evaluation.held_out import auc, chances_of, log_loss, ndcg
from online_models.versions.ranking import Ranking

SCALE = 1_000_000
"""Sums are whole numbers: of millionths."""


class Challenger:
    """One model, and the share of the lists that it scores."""

    def __init__(self, ranking: Ranking, share: float) -> None:
        self.ranking = ranking
        self.share = share

    @property
    def name(self) -> str:
        return self.ranking.version

    def scores_list(self, request_id: str) -> bool:
        """Whether a list is one of the share: the same ones whenever they are asked for."""
        return crc32(request_id.encode()) < self.share * 2**32

    def agreement(self, features: bytes, feature_set: str, scores: list[float]) -> dict[str, int] | None:
        """Return how far it agrees with the logged scores of a list; None for one that it cannot score."""
        chances = self._chances(features, feature_set, len(scores))
        if chances is None or min(scores) < 0.0 or not sum(scores) > 0.0:
            return None
        live = np.array(scores) / sum(scores)
        return {
            "lists": 1,
            "kendall": round(SCALE * kendall(chances, live)),
            "spearman": round(SCALE * spearman(chances, live)),
            "overlap10": round(SCALE * overlap(chances, live)),
            "distance": round(SCALE * distance(chances, live)),
        }

    def quality(self, features: bytes, feature_set: str, labels: list[int]) -> dict[str, int] | None:
        """Return how well it ranks what was taken, beside the order that was shown; None for a list without either."""
        taken = np.array(labels) == 1
        if taken.all() or not taken.any():
            return None
        chances = self._chances(features, feature_set, len(labels))
        if chances is None:
            return None
        shown = np.arange(len(labels), 0.0, -1.0)
        return {
            "lists": 1,
            "log_loss": round(SCALE * log_loss(chances, taken)),
            "auc": round(SCALE * auc(chances, taken)),
            "ndcg10": round(SCALE * ndcg(chances, taken)),
            "shown_auc": round(SCALE * auc(shown, taken)),
            "shown_ndcg10": round(SCALE * ndcg(shown, taken)),
        }

    def _chances(self, features: bytes, feature_set: str, n: int) -> NDArray[np.float64] | None:
        if n < 2 or feature_set != inputs.FEATURE_SET or len(features) != 4 * (n + 1) * inputs.N_INPUTS:
            return None
        values = np.frombuffer(features, np.float32).reshape(n + 1, inputs.N_INPUTS)
        if not np.isfinite(values).all():
            return None
        return chances_of(self.ranking.score(values[:n], values[n]))
