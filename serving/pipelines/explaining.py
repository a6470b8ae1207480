"""`explain=true`: why each item of a list has its place."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from online_models.engine.inputs import NAMES
from serving.contract.answers import Contribution, ItemExplanation
from serving.pipelines.slate import Slate


def explanations(slate: Slate) -> Callable[[int], ItemExplanation]:
    """Return a function of the position in a finished list."""
    shown = slate.candidates
    slots = shown.slots.tolist()
    features, mean = shown.features, slate.list_mean
    parts: NDArray[np.float64] | None = None
    if features is not None and mean is not None and slate.ranking is not None and len(slots):
        parts, scores, baseline = slate.ranking.contributions(features, mean)

    def explanation(position: int) -> ItemExplanation:
        slot = slots[position]
        contributed: list[Contribution] = []
        if parts is not None and features is not None:
            order = np.argsort(-np.abs(parts[position]), kind="stable")
            contributed = [
                Contribution(NAMES[k], float(features[position, k]), float(parts[position, k]))
                for k in order.tolist()
                if parts[position, k] != 0.0
            ]
        return ItemExplanation(
            rank=slate.ranks.get(slot),
            ranker_score=None if parts is None else float(scores[position]),
            baseline=None if parts is None else baseline,
            features=contributed,
            rules=slate.effects.get(slot, []),
            propensity=1.0 if shown.propensities is None else float(shown.propensities[position]),
        )

    return explanation
