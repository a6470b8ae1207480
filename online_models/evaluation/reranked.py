"""The engine's lists re-ranked as serving does it: what variety costs."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import Slots
from online_models.engine.engine import Engine
from online_models.engine.factors import SMOOTH
from online_models.engine.listwise import ListwiseRanker
from online_models.reranking.rerank import LabelCap, rerank
from online_models.vector_index import unit
from state.rules import DEFAULT_CAP

WISHES = ("genre-cap", "diversity")


class RerankedEngine(Engine):
    """At most so many of one genre among the first places of the default cap, and a diversity as of a request.

    Parameters
    ----------
    wishes
        Any of `WISHES`.
    """

    def __init__(self, wishes: Mapping[str, float], seed: int = 0, ranker: ListwiseRanker | None = None) -> None:
        super().__init__(seed, ranker)
        self._at_most = int(wishes.get("genre-cap", 0))
        self._diversity = wishes.get("diversity", 0.0)

    def best(self, slots: Slots, scores: NDArray[np.float32], n: int) -> Slots:
        order = np.argsort(-scores)
        slots, columns = slots[order], self.learner.columns
        genres = columns.catalogue.genres[slots]
        done = rerank(
            np.exp(scores[order].astype(np.float64) - float(scores.max(initial=-np.inf))),
            n,
            caps=[LabelCap(genres, self._at_most, DEFAULT_CAP.among)] if self._at_most else [],
            diversity=self._diversity,
            vectors=unit(columns.factors.items[SMOOTH, slots]),
            labels=genres,
        )
        return slots[done.order[:n]]


def wishes_of(name: str) -> dict[str, float]:
    """Return what stands behind `engine:`, as in `engine:genre-cap=3+diversity=0.1`. Raise `ValueError`."""
    wishes: dict[str, float] = {}
    for wish in filter(None, name.partition(":")[2].split("+")):
        key, _, value = wish.partition("=")
        number = float(value)
        if key not in WISHES or not (0.0 <= number <= (1.0 if key == "diversity" else 100.0)):
            raise ValueError(f"expected {' or '.join(WISHES)} with a number, got {wish!r}")
        wishes[key] = number
    return wishes
