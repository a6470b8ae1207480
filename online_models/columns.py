"""All that is known about items, by slot, and a user seen against it: what learner and serving score from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import Slots, grown
from online_models.catalogue import NONE, Catalogue
from online_models.covisitation import NO_ITEM, Covisitation, total
from online_models.embeddings import ContextEmbedding
from online_models.items import ItemStatistics
from online_models.popularity import DecayedPopularity
from online_models.top_lists import TopLists
from online_models.vector_index import VectorIndex

TASTE_DECAY = 0.9
"""Weight of a history item in a user's tastes, per newer item."""


class Columns:
    """The models and the catalogue over one numbering of the items.

    In serving the neighbour lists hold the learner's slots, which `translation` turns into own ones; the learner has
    none.
    """

    def __init__(self) -> None:
        self.popularity = DecayedPopularity()
        self.statistics = ItemStatistics()
        self.covisitation = Covisitation()
        self.embedding = ContextEmbedding()
        self.catalogue = Catalogue()
        self.tops = TopLists(self.popularity)
        self.index = VectorIndex(self.embedding)
        self.present: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        """False for free slots, and for items that are gone."""
        self.translation: NDArray[np.int32] | None = None
        """Learner's slot -> own slot, `NO_ITEM` where there is none; its last element is `NO_ITEM`."""

    def reserve(self, n_slots: int) -> None:
        """Make room for slots below `n_slots`."""
        for model in (self.popularity, self.statistics, self.covisitation, self.embedding, self.catalogue):
            model.reserve(n_slots)
        self.present = grown(self.present, n_slots, False)

    def forget(self, slots: Slots) -> None:
        """Empty the items' rows and take them out of all lists."""
        for model in (self.popularity, self.statistics, self.covisitation, self.embedding, self.catalogue):
            model.forget(slots)
        self.present[slots] = False
        self.tops.all_changed()
        self.index.forget(slots.tolist())

    def servable(self, slots: Slots) -> NDArray[np.bool_]:
        """Return False where an item is hidden or gone."""
        return np.asarray(self.present[slots] & ~self.catalogue.hidden[slots])


@dataclass(frozen=True, slots=True)
class Context:
    """A user resolved against `Columns`: computed once per request, used by all sources and by the features."""

    now_ms: int
    slots: Slots
    """Distinct items of the history that are known, newest first."""
    times_ms: NDArray[np.int64]
    weights: NDArray[np.float32]
    n_events: int
    taste: NDArray[np.float64]
    """Share of each genre, shape (n_genres + 1,), see `Catalogue.taste`."""
    creators: NDArray[np.int32]
    """Of the history items, `NONE` where unknown."""
    log_price: float
    """Mean over the history, NaN when unknown."""
    vector: NDArray[np.float32]
    covisited: tuple[Slots, NDArray[np.float64]]
    """Items that follow the history, ascending by slot, and their scores."""
    covisited_last: tuple[Slots, NDArray[np.float64]]
    """The same of the newest item alone."""

    @classmethod
    def of(
        cls,
        columns: Columns,
        now_ms: int,
        slots: Slots,
        times_ms: NDArray[np.int64],
        weights: NDArray[np.float32],
        n_events: int,
        onboarding: NDArray[np.float64] | None = None,
    ) -> "Context":
        """Resolve a history, newest first; `onboarding` is the taste of a user without items of a known genre."""
        catalogue = columns.catalogue
        taste = catalogue.taste(slots, weights * TASTE_DECAY ** np.arange(len(slots)))
        if onboarding is not None and not taste.any():
            taste = onboarding
        prices = catalogue.log_prices[slots]
        prices = prices[~np.isnan(prices)]
        covisited, last = _covisited(columns, slots, now_ms)
        return cls(
            now_ms=now_ms,
            slots=slots,
            times_ms=times_ms,
            weights=weights,
            n_events=n_events,
            taste=taste,
            creators=catalogue.creators[slots],
            log_price=float(prices.mean()) if len(prices) else float("nan"),
            vector=columns.embedding.user_vector(slots, weights),
            covisited=covisited,
            covisited_last=last,
        )

    @property
    def creators_known(self) -> NDArray[np.int32]:
        return np.asarray(self.creators[self.creators != NONE])


_Scores = tuple[Slots, NDArray[np.float64]]


def _covisited(columns: Columns, slots: Slots, now_ms: int) -> tuple[_Scores, _Scores]:
    model = columns.covisitation
    slots = slots[: model.window]
    if len(slots) == 0:
        nothing = np.empty(0, dtype=np.int32), np.empty(0)
        return nothing, nothing
    neighbours, votes = model.votes(slots, now_ms)
    if columns.translation is not None:
        # A slot that was given out after the translation was made is looked up as the last element.
        neighbours = columns.translation[np.minimum(neighbours, len(columns.translation) - 1)]
    present = neighbours != NO_ITEM
    first = present[0]
    order = np.argsort(neighbours[0][first])
    return total(neighbours[present], votes[present]), (neighbours[0][first][order], votes[0][first][order])
