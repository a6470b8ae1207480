"""Applying filters."""

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import Slots
from serving.pipelines.filters import Filter
from serving.pipelines.slate import Candidates, Slate


class Drop:
    """Applies filters, cheapest first, and counts what each dropped."""

    name = "filter"
    deadline_ms = 20.0
    skippable = False

    def __init__(self, *filters: Filter) -> None:
        self._filters = filters

    def run(self, slate: Slate) -> None:
        stays = self.kept(slate, slate.candidates.slots)
        if stays is not None and not stays.all():
            slate.candidates = slate.candidates.take(stays.nonzero()[0])

    def kept(self, slate: Slate, slots: Slots) -> NDArray[np.bool_] | None:
        """Return which items may be in the list, None when all may."""
        stays: NDArray[np.bool_] | None = None
        for rule in self._filters:
            try:
                kept = rule.keep(slate, slots)
            except Exception as error:
                slate.fail(f"filter {rule.name}", error)
                kept = np.zeros(len(slots), np.bool_) if rule.fails_closed else None
            if kept is not None:
                if slate.query.explain:
                    dropped = ~kept if stays is None else stays & ~kept
                    slate.notes[rule.name] = int(np.count_nonzero(dropped))
                stays = kept if stays is None else stays & kept
        return stays

    def fallback(self, slate: Slate) -> None:
        slate.candidates = Candidates.none()
