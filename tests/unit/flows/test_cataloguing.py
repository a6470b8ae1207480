"""What a message of `items` says, and what is written of it."""

import pytest

from flows.catalogue.cataloguing import CatalogueWriter, ItemChange, parse_change
from state.entries import CATALOGUE
from state.memory_store import MemoryStore
from state.records import Item
from state.validation import InvalidInputError


def put(item_id: str, title: str) -> ItemChange:
    return ItemChange(item_id, Item(item_id=item_id, title=title))


def test_an_item_is_named_by_its_value_and_a_removal_by_its_key() -> None:
    assert parse_change(b"other", b'{"item_id":"i"}') == ItemChange("i", Item(item_id="i"))
    assert parse_change(b"i", None) == parse_change(b"i", b"") == ItemChange("i", None)


@pytest.mark.parametrize("key", [None, b"", b"\xff"])
def test_a_removal_of_nothing_is_invalid(key: bytes | None) -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse_change(key, None)
    assert caught.value.field == "item_id"


def test_the_last_change_of_an_item_holds_and_what_is_stored_is_not_written_again() -> None:
    store = MemoryStore()
    writer = CatalogueWriter(store)
    writer.write(0, [(4, 100, put("a", "old")), (5, 90, put("b", "b")), (7, 80, put("a", "new"))])
    writer.write(0, [(5, 90, put("b", "older")), (8, 110, ItemChange("b", None))])
    writer.write(1, [(0, 1, put("c", "c"))])
    writer.write(1, [])
    assert {name: item.title for name, item in store.scan_rows(CATALOGUE)} == {"a": "new", "c": "c"}
    again = CatalogueWriter(store)
    assert [again.position(partition) for partition in (0, 1, 2)] == [9, 1, 0]
    assert store.watermarks("catalogue")["items", 0].stream_ts == 110
