"""The read side of all models: what serving holds in memory, built from the rows that the flows write."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_models.arrays import Slots, grown, highest
from online_models.catalogue.attributes import Attributes
from online_models.catalogue.expressions import Expression
from online_models.columns import NO_ITEM, Columns
from online_models.contexts import Contexts, Situation
from online_models.engine.als import RANK
from online_models.engine.context import Context
from online_models.engine.defaults import default_weights
from online_models.engine.factors import SMOOTH, ItemFactors, unit_vectors
from online_models.engine.history import Steps
from online_models.engine.items import SHOWN, TAKEN, ItemTable
from online_models.engine.popular import TopList
from online_models.engine.scorer import SnapshotVersionError
from online_models.fingerprints import Fingerprints
from online_models.items import ItemSlots
from online_models.learning.rows import Progress
from online_models.sources import REPEATS_FROM
from online_models.trends import Trends
from online_models.users.view import UserView
from online_models.versions.ranking import Ranking
from state.entries import CATALOGUE, CONTEXTS, ITEM_ACTIVITY, ITEM_MODEL, ITEM_VECTOR, MODEL, NEIGHBOURS, Table
from state.records import Activity, BlobRow, Item, ItemRow

_VECTOR_FROM = 20
"""Events of an item from which its vector says which items are much the same."""

_NO_SLOTS = np.empty(0, np.int32)

_Rows = Mapping[str, Any]


class Replica:
    """Columns about items by slot, and the models over them.

    Slots are the replica's own and mean the same item for as long as the process lives: an item that is gone keeps
    its slot, and gets it back when it returns. Items of the catalogue that the learner does not know yet have empty
    models; items known by their events only have no catalogue entry; both may be served.

    `apply` and `maintain` are the only methods that change anything. Not thread-safe.
    """

    TABLES: tuple[Table[Any], ...] = (CATALOGUE, ITEM_ACTIVITY, ITEM_MODEL, ITEM_VECTOR, NEIGHBOURS, MODEL, CONTEXTS)
    """What to follow."""

    def __init__(self) -> None:
        self.columns = Columns(ItemFactors())
        self.ranking = Ranking.live(default_weights())
        """The online ranker; another object when its weights change."""
        self.ranker_is_foreign = False
        """The stored ranker is of other inputs, as during an upgrade: the one before stays in use."""
        self.repeats = False
        """Whether the stream says that items are taken again."""
        self.trends = Trends()
        self.contexts = Contexts()
        self._items = ItemSlots()
        self.fingerprints = Fingerprints()
        """Of all items that ever had a slot."""
        self._entries: dict[int, Item] = {}
        self.attributes = Attributes()
        """Of the catalogue's items."""
        self._learner_slots: dict[int, int] = {}
        """Own slot -> the learner's."""
        self._learned: dict[str, int] = {}
        """Item that the learner knows -> own slot."""
        self._given: dict[int, tuple[int, float]] = {}
        """Own slot -> when the learner gave the item its slot."""
        self._model_rows: dict[str, BlobRow] = {}

    def apply(self, changes: Mapping[Table[Any], _Rows], complete: bool = False) -> None:
        """Take over changed rows, None where a row is gone; `complete` means that rows not in it are gone too."""
        if complete:
            changes = {table: self._completed(table, changes.get(table, {})) for table in self.TABLES}
        self._apply_items(changes.get(ITEM_MODEL, {}))
        self._apply_catalogue(changes.get(CATALOGUE, {}))
        self._apply_vectors(changes.get(ITEM_VECTOR, {}))
        self._apply_neighbours(changes.get(NEIGHBOURS, {}))
        self.trends.apply(changes.get(ITEM_ACTIVITY, {}), self._slot)
        self.contexts.apply(changes.get(CONTEXTS, {}), self._slot)
        for name, row in changes.get(MODEL, {}).items():
            if row is not None:
                self._apply_model(name, row)

    def maintain(self, budget_s: float) -> bool:
        """Bring the vector index up to date, for about this long at most; return whether something is left."""
        return self.columns.index.maintain(budget_s)

    @property
    def n_items(self) -> int:
        """Items that may be served."""
        return int((self.columns.present & ~self.columns.catalogue.hidden).sum())

    @property
    def n_slots(self) -> int:
        """Length of masks over all slots."""
        return len(self.columns.present)

    def slot(self, item_id: str) -> int | None:
        """Return the slot of a known item, also of a hidden one; None when unknown or gone."""
        slot = self._items.get(item_id)
        return slot if slot is not None and self.columns.present[slot] else None

    def slots(self, item_ids: Iterable[str]) -> Slots:
        """Return the slots of those of the items that have one, in order."""
        return self._items.known(item_ids)

    def item_id(self, slot: int) -> str:
        return str(self._items.item_id(slot))

    def item_ids(self, slots: Slots | NDArray[np.intp]) -> list[str]:
        """Return the items at some slots, none of which may be free."""
        return self._items.item_ids(slots)

    def item(self, slot: int) -> Item | None:
        """Return the catalogue entry, None when the item is known by its events only."""
        return self._entries.get(slot)

    def catalogue_rows(self) -> dict[str, Item | None]:
        """Return all catalogue entries by item."""
        return {self.item_id(slot): item for slot, item in self._entries.items()}

    def activity(self, slot: int) -> Activity:
        """Return the item's counts and windows, summed over partitions."""
        return self.trends.activity(slot)

    def servable(self, slots: Slots) -> NDArray[np.bool_]:
        """Return False where an item is hidden or gone."""
        return self.columns.servable(slots)

    def matching(self, expression: Expression) -> NDArray[np.bool_]:
        """Return a mask over all slots: True where the expression holds; not to be written to."""
        return self.attributes.mask(expression, self.n_slots)

    def context(self, user: UserView, repeats: bool = False) -> Context:
        """Resolve a user's view; once per request, before sources and inputs."""
        slots = list(map(self._learned.get, user.items))
        known = [k for k, slot in enumerate(slots) if slot is not None]
        steps = Steps(
            np.array([slots[k] for k in known], np.int32),
            np.array([user.times[k] for k in known], np.float64),
            np.array([user.positive[k] for k in known], np.bool_),
            user.n_events,
        )
        return Context(self.columns, steps, user.now_ms / 1000.0, repeats, user.genres)

    def popular(
        self, k: int, now_ms: int, half_life: str = "8d", where: NDArray[np.bool_] | None = None
    ) -> tuple[Slots, NDArray[np.float32]]:
        """Return the k most popular servable items and their decayed counts, best first.

        `half_life` is `12h` or `8d`; `where` is a mask over all slots. Items without any event come last, lowest slot
        first, so that the list is full when enough items match.
        """
        slots = self.popular_slots(k, now_ms, half_life, where)
        table = self.columns.items
        return slots, table.popularity(slots, _top(table, half_life).column, now_ms / 1000.0)

    def popular_slots(
        self, k: int, now_ms: int, half_life: str = "8d", where: NDArray[np.bool_] | None = None
    ) -> Slots:
        """Return the items that `popular` returns."""
        table = self.columns.items
        top = _top(table, half_life)
        if where is None:
            slots = self.columns.workspace.first_admitted(top.ids, k)
        else:
            slots = self._allowed(top.ids, where)[:k]
        if len(slots) < k:
            left = self._left(where)
            known = np.flatnonzero(left & (table.n_events[: len(left)] > 0.0)).astype(np.int32)
            keys = table.popularity(known, top.column, now_ms / 1000.0)
            best = highest(keys, k)
            slots = known[best[keys[best] > 0.0]]
            if len(slots) < k:
                left[slots] = False
                slots = np.concatenate([slots, np.flatnonzero(left)[: k - len(slots)].astype(np.int32)])
        return slots

    def trending(
        self, k: int, window: str, now_ms: int, where: NDArray[np.bool_] | None = None
    ) -> tuple[Slots, NDArray[np.float32]]:
        """Return the servable items with the most interactions in the window `5m`, `1h` or `1d`, and how many."""
        return self.trends.top(k, window, now_ms, lambda slots: self._allowed(slots, where))

    def lifts(self, situation: Situation, slots: Slots, now_ms: int) -> NDArray[np.float64]:
        """Return by what the scores of items are multiplied in a situation, shape (n,), see `Contexts.lifts`."""
        table, t = self.columns.items, now_ms / 1000.0
        return self.contexts.lifts(situation, slots, table.popularity(slots, table.slow.column, t), t)

    def popular_in(self, situation: Situation, k: int, now_ms: int, where: NDArray[np.bool_] | None = None) -> Slots:
        """Return the k items that are most popular in a situation, of those that are counted there."""
        slots = self._allowed(self.contexts.items(situation), where)
        table = self.columns.items
        popularity = table.popularity(slots, table.slow.column, now_ms / 1000.0)
        scores = popularity * self.contexts.lifts(situation, slots, popularity, now_ms / 1000.0)
        return slots[highest(scores, k)]

    def vectors(self, slots: Slots) -> NDArray[np.float32]:
        """Return unit vectors of who takes the items, shape (n, RANK); zero for items with hardly any events.

        The first few users of an item say little: two items that the same person took alone would look the same.
        """
        vectors = np.empty((len(slots), RANK), np.float32)
        unit_vectors(self.columns.factors.items[SMOOTH], self.columns.items.n_events, _VECTOR_FROM, slots, vectors)
        return vectors

    def exposure(self, slots: Slots) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return how many events some items had, how often lists showed them, and how often they were taken there."""
        table = self.columns.items
        shown = table.exposure[slots].astype(np.float64)
        return table.n_events[slots].astype(np.float64), shown[:, SHOWN], shown[:, TAKEN]

    def features(self, context: Context, slots: Slots) -> NDArray[np.float32]:
        """Return the ranker's inputs of some candidates, shape (n, n_inputs), columns as in `inputs.NAMES`."""
        return context.inputs(slots)

    def rows(self, table: Table[Any]) -> dict[str, Any]:
        """Return what `apply` has made of a table's rows, as rows that make it again."""
        columns = self.columns
        known = {self.item_id(slot): slot for slot in self._learner_slots}
        if table is CATALOGUE:
            return self.catalogue_rows()
        if table is ITEM_ACTIVITY:
            return self.trends.rows(self.item_id)
        if table is CONTEXTS:
            return self.contexts.rows()
        if table is ITEM_MODEL:
            return {
                item_id: ItemRow(self._learner_slots[slot], *self._given[slot], columns.items.row(slot))
                for item_id, slot in known.items()
            }
        if table is ITEM_VECTOR:
            return {item_id: BlobRow(columns.factors.row(slot)) for item_id, slot in known.items()}
        if table is NEIGHBOURS:
            return {item_id: BlobRow(columns.neighbours.row(slot)) for item_id, slot in known.items()}
        return dict(self._model_rows)

    def _allowed(self, slots: Slots, where: NDArray[np.bool_] | None) -> Slots:
        allowed = self.columns.servable(slots)
        return slots[allowed if where is None else allowed & where[slots]]

    def _left(self, where: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
        """Return True where an item is servable, for all slots in use; the caller may write to it."""
        servable = self.columns.workspace.admitted(self.columns.n_slots)
        return servable if where is None else servable & where[: len(servable)]

    def _slot(self, item_id: str) -> int:
        """Return the item's slot, a new one if it has none."""
        slot = self._items.get(item_id)
        if slot is None:
            slot = self._items.add(item_id)
            self.fingerprints.put(slot, item_id)
            self.columns.reserve(self._items.n_slots)
        return slot

    def _apply_items(self, rows: _Rows) -> None:
        """Removals first: the learner may have given the slot of an item that it forgot to another in `rows`."""
        columns = self.columns
        gone = [slot for item_id, row in rows.items() if row is None and (slot := self._items.get(item_id)) is not None]
        for slot in gone:
            self._learned.pop(self.item_id(slot), None)
            learner_slot = self._learner_slots.pop(slot, None)
            if learner_slot is not None and self._translated(learner_slot) == slot:
                self._translate(learner_slot, NO_ITEM)
            self._drop_if_unknown(slot)
        if gone:
            columns.items.forget(np.array(gone, np.int32))
            columns.factors.forget(np.array(gone, np.int32), columns.items)
        restored: dict[int, bytes] = {}
        for item_id, row in rows.items():
            if row is not None:
                slot = self._slot(item_id)
                if not columns.present[slot]:
                    columns.set_present(slot, True)
                self._learned[item_id] = slot
                self._learner_slots[slot] = row.slot
                if self._translated(row.slot) != slot:
                    self._translate(row.slot, slot)
                self._given[slot] = (row.given_at, row.arrived)
                restored[slot] = row.counts
        slots = np.array(list(restored), np.int32)
        columns.items.restore(slots, list(restored.values()))
        changed = slots[columns.items.n_events[slots] > 0.0]
        columns.items.refresh(changed)
        columns.factors.refresh(changed, columns.items)

    def _apply_catalogue(self, rows: _Rows) -> None:
        for item_id, item in rows.items():
            if item is not None:
                slot = self._slot(item_id)
                self.columns.present[slot] = True
                self.attributes.replace(slot, self._entries.get(slot), item)
                self._entries[slot] = item
                self.columns.describe(slot, item)
            elif (known := self._items.get(item_id)) is not None and known in self._entries:
                self.attributes.replace(known, self._entries.pop(known), None)
                self.columns.undescribe(known)
                self._drop_if_unknown(known)

    def _drop_if_unknown(self, slot: int) -> None:
        if slot not in self._entries and slot not in self._learner_slots:
            self.columns.set_present(slot, False)

    def _apply_vectors(self, rows: _Rows) -> None:
        restored: dict[int, bytes] = {}
        for item_id, row in rows.items():
            if row is not None:
                restored[self._slot(item_id)] = row.blob
            elif (known := self._items.get(item_id)) is not None:
                self.columns.index.forget([known])
        changed = np.array(list(restored), np.int32)
        self.columns.factors.restore(changed, restored.values())
        self.columns.factors.refresh(changed, self.columns.items)
        self.columns.index.changed(changed.tolist())

    def _apply_neighbours(self, rows: _Rows) -> None:
        restored: dict[int, bytes] = {}
        for item_id, row in rows.items():
            if row is not None:
                restored[self._slot(item_id)] = row.blob
            elif (known := self._items.get(item_id)) is not None:
                self.columns.neighbours.forget(np.array([known], np.int32), _NO_SLOTS)
        self.columns.neighbours.restore(np.array(list(restored), np.int32), list(restored.values()))

    def _apply_model(self, name: str, row: BlobRow) -> None:
        self._model_rows[name] = row
        if name == "factors":
            self.columns.factors.restore_item_gramians(row.blob)
        elif name == "progress":
            progress = msgspec.msgpack.decode(row.blob, type=Progress)
            self.columns.n_events = progress.n_events
            self.repeats = progress.repeat_share > REPEATS_FROM
        elif name == "ranker":
            try:
                self.ranking = Ranking.live(row.blob)
                self.ranker_is_foreign = False
            except SnapshotVersionError:
                self.ranker_is_foreign = True

    def _translated(self, learner_slot: int) -> int:
        translation = self.columns.translation
        assert translation is not None
        return int(translation[learner_slot]) if learner_slot < len(translation) else NO_ITEM

    def _translate(self, learner_slot: int, slot: int) -> None:
        assert self.columns.translation is not None
        self.columns.translation = grown(self.columns.translation, learner_slot + 2, NO_ITEM)
        self.columns.translation[learner_slot] = slot

    def _completed(self, table: Table[Any], rows: _Rows) -> dict[str, Any]:
        return dict.fromkeys(self.rows(table)) | dict(rows)


def _top(table: ItemTable, half_life: str) -> TopList:
    return table.fast if half_life == "12h" else table.slow
