"""All that is known about items, by slot: what learner and serving make lists from."""

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import Slots, grown
from online_models.catalogue.content import Catalogue
from online_models.engine.als import RANK
from online_models.engine.content import Content
from online_models.engine.factors import SMOOTH, ItemFactors
from online_models.engine.items import ItemTable
from online_models.engine.liking import learn_liking
from online_models.engine.neighbours import Neighbours
from online_models.engine.retrieval import Workspace
from online_models.vector_index import VectorIndex
from state.records import Item

NO_ITEM = -1


class Columns:
    """The models and the catalogue over one numbering of the items.

    Neighbour lists hold the learner's slots. `translation` turns them into own ones; in the learner it changes nothing.
    """

    def __init__(self, factors: ItemFactors) -> None:
        self.items = ItemTable()
        self.neighbours = Neighbours()
        self.factors = factors
        self.content = Content()
        self.catalogue = Catalogue()
        self.workspace = Workspace()
        self.index = VectorIndex(lambda: self.factors.items[SMOOTH], RANK)
        """Of the smooth factors. Only a replica keeps it up to date."""
        self.present: NDArray[np.bool_] = np.zeros(0, np.bool_)
        """False for free slots, and for items that are gone."""
        self.translation: NDArray[np.int32] = np.zeros(0, np.int32)
        """Learner's slot -> own slot, `NO_ITEM` where there is none."""
        self.n_slots = 0
        """Every slot is below."""
        self.n_events = 0
        """Of the whole stream so far."""

    def reserve(self, n_slots: int) -> None:
        """Make room for slots below `n_slots`."""
        self.n_slots = max(self.n_slots, n_slots)
        for model in (self.items, self.neighbours, self.factors, self.content, self.catalogue, self.workspace):
            model.reserve(n_slots)
        self.present = grown(self.present, n_slots, False)

    def describe(self, slot: int, item: Item) -> None:
        """Take over an item's catalogue entry."""
        self.content.learn_one(slot, item)
        self.catalogue.put(slot, item)
        self.admit(slot)

    def undescribe(self, slot: int) -> None:
        """The item has no catalogue entry any more."""
        gone = np.array([slot], np.int32)
        self.content.forget(gone)
        self.catalogue.forget(gone)
        self.admit(slot)

    def set_present(self, slot: int, present: bool) -> None:
        self.present[slot] = present
        self.admit(slot)

    def admit(self, slot: int) -> None:
        """Let lists have the item if it may be served."""
        self.workspace.admit(slot, bool(self.present[slot] and not self.catalogue.hidden[slot]))

    def servable(self, slots: Slots) -> NDArray[np.bool_]:
        """Return False where an item is hidden or gone."""
        return self.workspace.admits(slots)

    def liking(self, history: Slots, positive: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return what `learn_liking` makes of some steps, newest last; zeros without any."""
        found = np.zeros(RANK, np.float32)
        if len(history):
            learn_liking(self.factors.items[SMOOTH], self.items.counts, history, positive, found)
        return found

    def forget(self, slots: Slots) -> None:
        """Empty the items' rows and take them out of all lists."""
        for model in (self.items, self.neighbours, self.content, self.catalogue):
            model.forget(slots)
        self.factors.forget(slots, self.items)
        for slot in slots.tolist():
            self.set_present(slot, False)
