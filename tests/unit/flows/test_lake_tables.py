"""Messages as rows of the lake (R26)."""

import datetime

import msgspec
import pytest
from arro3.core import Table

from flows.lake.tables import TABLES, LakeTable
from state.records import CleanEvent, Example, Impression, Item
from tests.unit.flows.lake_input import START, batch, event, example, impression

BY_NAME = {table.name: table for table in TABLES}
WHEN = datetime.datetime.fromtimestamp(START / 1000, datetime.UTC)


def rows_of(name: str, *records: object) -> list[dict[str, object]]:
    found = BY_NAME[name].rows(batch(records, BY_NAME[name].topic.name, partition=3, first=70))
    return list(Table.from_batches([found.rows]).to_struct_array().to_pylist())


def test_an_event_is_a_row_with_its_place_in_kafka() -> None:
    full = CleanEvent("e1", "watch", "u1", "i1", START, "s1", "r1", 4, 12.5, {"device": "tv", "tags": ["a", "b"]})
    told = CleanEvent("e2", "undo", "u1", "i1", START, value="like")
    bare = CleanEvent("e3", "search", "u2", None, 0)
    first, second, third = rows_of("events", full, told, bare)
    assert first == {
        "date": WHEN.date(),
        "type": "watch",
        "event_id": "e1",
        "user_id": "u1",
        "item_id": "i1",
        "ts": WHEN,
        "session_id": "s1",
        "request_id": "r1",
        "position": 4,
        "value": 12.5,
        "value_text": None,
        "context": '{"device":"tv","tags":["a","b"]}',
        "arrived": WHEN,
        "kafka_partition": 3,
        "kafka_offset": 70,
    }
    assert (second["value"], second["value_text"], second["kafka_offset"]) == (None, "like", 71)
    assert (third["date"], third["item_id"], third["context"]) == (datetime.date(1970, 1, 1), None, None)


def test_an_impression_keeps_its_lists_and_the_vector_of_each_item() -> None:
    """R13"""
    first, degraded = rows_of(
        "impressions",
        impression(1),
        msgspec.structs.replace(impression(2), features=b"", degraded={"score": "late"}, experiments={}),
    )
    assert first["items"] == ["i0", "i1"]
    assert first["scores"] == [1.0, 0.5]
    assert first["sources"] == [["popular"], ["popular", "cooc"]]
    assert first["features"] == [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
    assert first["features_mean"] == [-1.0, -1.0, -1.0]
    assert (first["experiments"], first["degraded"]) == ('{"ranking":"b"}', None)
    assert (degraded["features"], degraded["features_mean"]) == ([], [])
    assert (degraded["experiments"], degraded["degraded"]) == (None, '{"score":"late"}')


def test_an_example_is_a_row() -> None:
    organic = msgspec.structs.replace(example(2, [1]), request_id=None, features=b"", reason="organic")
    first, second = rows_of("examples", example(1), organic)
    assert (first["labels"], first["outcomes"]) == ([1, 0], ["click", None])
    assert first["features"] == [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
    assert (second["request_id"], second["features"], second["reason"]) == (None, [], "organic")


def test_an_item_is_a_row_per_change_and_its_removal_too() -> None:
    item = Item(item_id="i1", title="A", genres=["War"], price=2.5, attributes={"a": 1})
    messages = batch([msgspec.json.encode(item), b"", b"{"], "items")
    found = BY_NAME["items"].rows(messages._replace(keys=[b"i1", b"i2", b"i3"]))
    first, second = Table.from_batches([found.rows]).to_struct_array().to_pylist()
    assert (first["title"], first["genres"], first["price"], first["removed"]) == ("A", ["War"], 2.5, False)
    assert first["attributes"] == '{"a":1}'
    assert (second["item_id"], second["removed"]) == ("i2", True)
    assert found.n_left_out == 1


def test_a_rejected_event_leaves_its_reason_and_not_its_bytes() -> None:
    headers = [("reason", b"required"), ("field", b"ts"), ("source", b"freshet.events/0/1")]
    messages = batch([b"secret"], "rejected")._replace(headers=[headers])
    (row,) = Table.from_batches([BY_NAME["rejected"].rows(messages).rows]).to_struct_array().to_pylist()
    assert (row["reason"], row["field"], row["n_bytes"], row["user_id"]) == ("required", "ts", 6, "u")
    assert "secret" not in str(row)


def test_what_is_no_row_is_left_out_and_counted() -> None:
    found = BY_NAME["events"].rows(batch([event(1), b"\xc1", b"", event(2)]))
    assert found.n_left_out == 2
    assert Table.from_batches([found.rows])["kafka_offset"].to_pylist() == [0, 3]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_an_empty_stretch_is_no_rows(table: LakeTable) -> None:
    assert table.rows(batch([], table.topic.name)).rows.num_rows == 0


@pytest.mark.parametrize(
    ("table", "record"), [("events", CleanEvent), ("impressions", Impression), ("examples", Example), ("items", Item)]
)
def test_every_field_of_a_record_has_a_column(table: str, record: type[msgspec.Struct]) -> None:
    """A new field of a record is a new column of the lake."""
    assert set(record.__struct_fields__) <= set(BY_NAME[table].columns)
