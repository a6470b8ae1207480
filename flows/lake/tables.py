"""The lake's tables: their columns, and messages turned into rows. Knows neither Kafka's client nor files.

A row's identity is where its message is in Kafka: `kafka_partition` and `kafka_offset`, of the table's topic. A new
column goes to the end of its table, here only: older files read as null there, see `docs/lake.md`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
import numpy as np
from arro3.core import Array, DataType, Field, RecordBatch, Schema, list_array
from numpy.typing import NDArray

from flows.common.batches import KafkaBatch
from state.records import CleanEvent, Example, Impression, Item
from state.topics import CLEAN, EXAMPLES, IMPRESSIONS, ITEMS, REJECTED, Topic
from state.validation import InvalidInputError, parse_item

_DAY_MS = 86_400_000

TEXT = DataType.string()
INTEGER = DataType.int32()
LONG = DataType.int64()
REAL = DataType.float64()
FLAG = DataType.bool()
DATE = DataType.date32()
TIME = DataType.timestamp("us", tz="UTC")


def _list_of(element: DataType) -> DataType:
    return DataType.list(Field("element", element, nullable=True))


TEXTS = _list_of(TEXT)
TEXT_LISTS = _list_of(TEXTS)
INTEGERS = _list_of(INTEGER)
VECTOR = _list_of(DataType.float32())
VECTORS = _list_of(VECTOR)


class Rows(NamedTuple):
    """A stretch of one Kafka partition as rows of a table."""

    rows: RecordBatch
    n_left_out: int
    """Messages that are none of the table's."""


@dataclass(frozen=True)
class LakeTable:
    """One table: where it comes from, how its files are laid out, and its columns."""

    name: str
    topic: Topic
    columns: dict[str, DataType]
    partition_by: tuple[str, ...]
    to_columns: Callable[[KafkaBatch], tuple[dict[str, Array], Sequence[int], int]]
    """A batch -> columns, the places in it that they are of, and how many were left out."""
    of_user: bool = True
    """Rows have a `user_id`."""
    reads_keys: bool = False
    """Keys and headers are asked for, not only values."""

    @cached_property
    def schema(self) -> Schema:
        return Schema([Field(name, kind, nullable=True) for name, kind in (self.columns | _KAFKA).items()])

    def rows(self, batch: KafkaBatch) -> Rows:
        """Return the messages of a batch as rows, in order."""
        columns, places, n_left_out = self.to_columns(batch)
        columns["kafka_partition"] = _integers([batch.partition] * len(places), np.int32)
        columns["kafka_offset"] = _integers([batch.offsets[at] for at in places], np.int64)
        return Rows(
            RecordBatch.from_arrays([columns[name] for name in self.schema.names], schema=self.schema), n_left_out
        )


_KAFKA = {"kafka_partition": INTEGER, "kafka_offset": LONG}


def _decoded(
    batch: KafkaBatch, decode: Callable[[bytes], Any], errors: tuple[type[Exception], ...] = (msgspec.MsgspecError,)
) -> tuple[list[Any], list[int]]:
    records, places = [], []
    for at, value in enumerate(batch.values):
        try:
            records.append(decode(value or b""))
        except errors:
            continue
        places.append(at)
    return records, places


def _columns_of(records: Sequence[Any], names: Sequence[str]) -> dict[str, Sequence[Any]]:
    """Return the attributes of records, column by column."""
    if not records:
        return dict.fromkeys(names, ())
    return dict(zip(names, zip(*map(attrgetter(*names), records), strict=True), strict=True))


def _texts(values: Sequence[str | None]) -> Array:
    return Array(values, type=TEXT)


def _integers(values: Sequence[int], kind: type[np.signedinteger[Any]]) -> Array:
    return Array.from_numpy(np.array(values, dtype=kind))


def _times(values_ms: Sequence[int]) -> Array:
    return Array.from_numpy(np.array(values_ms, dtype=np.int64) * 1000).cast(TIME)


def _dates(values_ms: Sequence[int]) -> Array:
    return Array.from_numpy((np.array(values_ms, dtype=np.int64) // _DAY_MS).astype(np.int32)).cast(DATE)


def _json(values: Iterable[Any]) -> Array:
    """Objects as JSON text, null where there is none or an empty one."""
    encode = msgspec.json.encode
    return _texts([encode(value).decode() if value else None for value in values])


def _lists(lists: Sequence[Sequence[Any]], kind: DataType, values: Array) -> Array:
    """Return a list column; `values` are all elements, one list after the other."""
    return list_array(_offsets([len(found) for found in lists]), values, type=kind)


def _offsets(lengths: Sequence[int] | NDArray[np.int64]) -> Array:
    return Array.from_numpy(np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int32))


def _text_lists(lists: Sequence[Sequence[str | None]]) -> Array:
    return _lists(lists, TEXTS, _texts([text for found in lists for text in found]))


def _float_lists(lists: Sequence[Sequence[float]]) -> Array:
    flat = np.array([number for found in lists for number in found], dtype=np.float32)
    return _lists(lists, VECTOR, Array.from_numpy(flat))


def _features(blobs: Sequence[bytes], n_items: Sequence[int]) -> tuple[Array, Array]:
    """Return the vectors of each slate's items, and their means, from `Impression.features`; empty where degraded."""
    vectors, means = [], []
    lengths = []
    for blob, n in zip(blobs, n_items, strict=True):
        matrix = np.frombuffer(blob, "<f4").reshape(n + 1, -1) if blob else np.empty((1, 0), "<f4")
        vectors.append(matrix[:-1].ravel())
        means.append(matrix[-1])
        lengths += [matrix.shape[1]] * (len(matrix) - 1)
    rows = list_array(_offsets(lengths), Array.from_numpy(_concatenated(vectors)), type=VECTOR)
    per_slate = _offsets([n if blob else 0 for blob, n in zip(blobs, n_items, strict=True)])
    mean = list_array(_offsets([len(m) for m in means]), Array.from_numpy(_concatenated(means)), type=VECTOR)
    return list_array(per_slate, rows, type=VECTORS), mean


def _concatenated(parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.concatenate(parts) if parts else np.empty(0, np.float32)


def _slate_columns(found: Mapping[str, Sequence[Any]], texts: Iterable[str]) -> dict[str, Array]:
    """Return what tables of lists have alike: impressions and the examples made of them."""
    features, means = _features(found["features"], [len(items) for items in found["items"]])
    return {name: _texts(found[name]) for name in texts} | {
        "date": _dates(found["ts"]),
        "ts": _times(found["ts"]),
        "items": _text_lists(found["items"]),
        "propensities": _float_lists(found["propensities"]),
        "features": features,
        "features_mean": means,
        "experiments": _json(found["experiments"]),
    }


_EVENT = {
    "date": DATE,
    "type": TEXT,
    "event_id": TEXT,
    "user_id": TEXT,
    "item_id": TEXT,
    "ts": TIME,
    "session_id": TEXT,
    "request_id": TEXT,
    "position": INTEGER,
    "value": REAL,
    "value_text": TEXT,
    "context": TEXT,
    "arrived": TIME,
}
_decode_event = msgspec.msgpack.Decoder(CleanEvent).decode


def _events(batch: KafkaBatch) -> tuple[dict[str, Array], Sequence[int], int]:
    events, places = _decoded(batch, _decode_event)
    found = _columns_of(events, CleanEvent.__struct_fields__)
    values = found["value"]
    columns = {name: _texts(found[name]) for name in ("type", "event_id", "user_id", "item_id", "session_id")}
    columns |= {
        "request_id": _texts(found["request_id"]),
        "date": _dates(found["ts"]),
        "ts": _times(found["ts"]),
        "position": Array(found["position"], type=INTEGER),
        "value": Array([None if isinstance(value, str) else value for value in values], type=REAL),
        "value_text": _texts([value if isinstance(value, str) else None for value in values]),
        "context": _json(found["context"]),
        "arrived": _times([batch.timestamps[at] for at in places]),
    }
    return columns, places, len(batch.values) - len(places)


_IMPRESSION = {
    "date": DATE,
    "request_id": TEXT,
    "user_id": TEXT,
    "ts": TIME,
    "surface": TEXT,
    "items": TEXTS,
    "scores": VECTOR,
    "sources": TEXT_LISTS,
    "propensities": VECTOR,
    "features": VECTORS,
    "features_mean": VECTOR,
    "feature_set": TEXT,
    "model": TEXT,
    "model_version": TEXT,
    "experiments": TEXT,
    "degraded": TEXT,
    "session_id": TEXT,
    "device": TEXT,
    "reasons": TEXTS,
    "rules_version": INTEGER,
    "relaxed": TEXT,
    "latency_ms": REAL,
    "novelty": REAL,
    "diversity": REAL,
}
_IMPRESSION_TEXTS = (
    "request_id",
    "user_id",
    "surface",
    "feature_set",
    "model",
    "model_version",
    "session_id",
    "device",
)
_decode_impression = msgspec.msgpack.Decoder(Impression).decode


def _impressions(batch: KafkaBatch) -> tuple[dict[str, Array], Sequence[int], int]:
    slates, places = _decoded(batch, _decode_impression)
    found = _columns_of(slates, Impression.__struct_fields__)
    sources = found["sources"]
    columns = _slate_columns(found, _IMPRESSION_TEXTS) | {
        "scores": _float_lists(found["scores"]),
        "sources": _lists(sources, TEXT_LISTS, _text_lists([names for item in sources for names in item])),
        "degraded": _json(found["degraded"]),
        "reasons": _text_lists(found["reasons"]),
        "rules_version": _integers(found["rules_version"], np.int32),
        "relaxed": _json(found["relaxed"]),
    }
    columns |= {name: Array(found[name], type=REAL) for name in ("latency_ms", "novelty", "diversity")}
    return columns, places, len(batch.values) - len(places)


_EXAMPLE = {
    "date": DATE,
    "example_id": TEXT,
    "request_id": TEXT,
    "user_id": TEXT,
    "ts": TIME,
    "surface": TEXT,
    "items": TEXTS,
    "labels": INTEGERS,
    "outcomes": TEXTS,
    "propensities": VECTOR,
    "features": VECTORS,
    "features_mean": VECTOR,
    "feature_set": TEXT,
    "model_version": TEXT,
    "experiments": TEXT,
    "reason": TEXT,
}
_EXAMPLE_TEXTS = ("example_id", "request_id", "user_id", "surface", "feature_set", "model_version", "reason")
_decode_example = msgspec.msgpack.Decoder(Example).decode


def _examples(batch: KafkaBatch) -> tuple[dict[str, Array], Sequence[int], int]:
    examples, places = _decoded(batch, _decode_example)
    found = _columns_of(examples, Example.__struct_fields__)
    labels = found["labels"]
    columns = _slate_columns(found, _EXAMPLE_TEXTS) | {
        "labels": _lists(labels, INTEGERS, _integers([label for slate in labels for label in slate], np.int32)),
        "outcomes": _text_lists(found["outcomes"]),
    }
    return columns, places, len(batch.values) - len(places)


_REJECTED = {
    "date": DATE,
    "ts": TIME,
    "user_id": TEXT,
    "field": TEXT,
    "reason": TEXT,
    "source": TEXT,
    "n_bytes": INTEGER,
}


def _rejected(batch: KafkaBatch) -> tuple[dict[str, Array], Sequence[int], int]:
    """The bytes themselves stay in the topic: nobody could find a user's in them, to erase them."""
    headers = [dict(found) for found in batch.headers]
    columns = {
        name: _texts([found.get(name, b"").decode(errors="replace") for found in headers])
        for name in ("field", "reason", "source")
    }
    columns |= {
        "date": _dates(batch.timestamps),
        "ts": _times(batch.timestamps),
        "user_id": _texts([key.decode(errors="replace") if key else None for key in batch.keys]),
        "n_bytes": _integers([len(value or b"") for value in batch.values], np.int32),
    }
    return columns, range(len(batch.values)), 0


_ITEM = {
    "ts": TIME,
    "item_id": TEXT,
    "removed": FLAG,
    "title": TEXT,
    "genres": TEXTS,
    "category": TEXT,
    "price": REAL,
    "tags": TEXTS,
    "description": TEXT,
    "creator": TEXT,
    "release_date": TEXT,
    "age_rating": TEXT,
    "attributes": TEXT,
    "status": TEXT,
}
_ITEM_TEXTS = ("item_id", "title", "category", "description", "creator", "release_date", "age_rating", "status")


def _items(batch: KafkaBatch) -> tuple[dict[str, Array], Sequence[int], int]:
    """One row per change; what is no item is in `rejected`. A removed item has its id only."""
    items: list[Item] = []
    removed: list[bool] = []
    places: list[int] = []
    for at, (key, value) in enumerate(zip(batch.keys, batch.values, strict=True)):
        try:
            items.append(parse_item(value) if value else Item(item_id=(key or b"").decode()))
        except (InvalidInputError, UnicodeDecodeError):
            continue
        removed.append(not value)
        places.append(at)
    found = _columns_of(items, Item.__struct_fields__)
    columns = {name: _texts(found[name]) for name in _ITEM_TEXTS}
    columns |= {
        "ts": _times([batch.timestamps[at] for at in places]),
        "removed": Array(removed, type=FLAG),
        "genres": _text_lists(found["genres"]),
        "price": Array(found["price"], type=REAL),
        "tags": _text_lists(found["tags"]),
        "attributes": _json(found["attributes"]),
    }
    return columns, places, len(batch.values) - len(places)


TABLES = (
    LakeTable("events", CLEAN, _EVENT, ("date", "type"), _events),
    LakeTable("impressions", IMPRESSIONS, _IMPRESSION, ("date",), _impressions),
    LakeTable("examples", EXAMPLES, _EXAMPLE, ("date",), _examples),
    LakeTable("rejected", REJECTED, _REJECTED, ("date",), _rejected, reads_keys=True),
    LakeTable("items", ITEMS, _ITEM, (), _items, of_user=False, reads_keys=True),
)
