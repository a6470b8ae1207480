"""What `flows.catalogue` does with changes of items, free of Kafka: parse, write with the position behind them."""

from collections.abc import Iterable
from typing import NamedTuple

from state.entries import CATALOGUE
from state.records import Item, Watermark
from state.store import Changes, Store
from state.topics import ITEMS
from state.validation import InvalidInputError, parse_item

FLOW = "catalogue"


class ItemChange(NamedTuple):
    """An item as it is from now on, None when it is gone."""

    item_id: str
    item: Item | None


def parse_change(key: bytes | None, value: bytes | None) -> ItemChange:
    """Return what a message of `items` says. Raise `InvalidInputError`."""
    if not value:
        try:
            item_id = (key or b"").decode()
        except UnicodeDecodeError as error:
            raise InvalidInputError("item_id", "the key of a removal is not UTF-8") from error
        if not item_id:
            raise InvalidInputError("item_id", "a removal needs the item's id as its key")
        return ItemChange(item_id, None)
    item = parse_item(value)
    return ItemChange(item.item_id, item)


class CatalogueWriter:
    """Writes changes to the store, in order per partition, with the position behind them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        store.recover(FLOW)
        self._marks = store.watermarks(FLOW)

    def position(self, partition: int) -> int:
        """Return the offset behind what the store holds, 0 when it holds nothing."""
        mark = self._marks.get((ITEMS.name, partition))
        return mark.next_offset if mark else 0

    def write(self, partition: int, changed: Iterable[tuple[int, int, ItemChange]]) -> None:
        """Commit (offset, time in epoch ms, change)s. What the store has already is left out."""
        changes = Changes()
        before = self._marks.get((ITEMS.name, partition))
        mark = before or Watermark(0, 0)
        for offset, timestamp, change in changed:
            if offset < mark.next_offset:
                continue
            if change.item is None:
                changes.remove(CATALOGUE, change.item_id)
            else:
                changes.upsert(CATALOGUE, change.item_id, change.item)
            mark = Watermark(offset + 1, max(mark.stream_ts, timestamp), timestamp)
        if changes:
            changes.advance(FLOW, ITEMS.name, partition, mark, after=before)
            self._store.commit(changes)
            self._marks[ITEMS.name, partition] = mark
