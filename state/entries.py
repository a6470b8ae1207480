"""The whole Redis contract: every key, its codec, lifetime, writer and reader.

Two shapes are enough. An `Entry` is one key per user or session, read on request. A `Table` holds rows about items and
models that serving keeps a copy of in memory: rows live in the fields of a few hashes, and every commit appends the
names of the changed rows to the table's feed, a stream that the copies follow.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any, Generic, TypeVar

import msgspec

from state.artifacts import ModelChunk
from state.control import ControlDocument
from state.records import (
    Activity,
    ArmDay,
    ArmRow,
    BlobRow,
    CleanEvent,
    ContextRow,
    Item,
    ItemRow,
    MetricWindow,
    SessionProfile,
    Shown,
    UserArms,
    UserProfile,
    UserRow,
    UserVectorRow,
    Watermark,
)

T = TypeVar("T")


class StateDecodeError(ValueError):
    """A stored value is not what its entry says."""


class _Codec(Generic[T]):
    """A typed msgpack codec, built once; errors name the key."""

    def __init__(self, record: type[T]) -> None:
        self._record = record
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(record).decode

    def encode(self, value: T) -> bytes:
        return self._encode(value)

    def decode(self, key: str, value: bytes) -> T:
        try:
            return self._decode(value)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise StateDecodeError(
                f"{key}: expected {self._record.__name__}, got {len(value)} bytes: {error}"
            ) from error


@dataclass(frozen=True, eq=False)
class Entry(Generic[T]):
    """One key per entity. `pattern` has a single `{id}`."""

    pattern: str
    record: type[T]
    ttl: timedelta

    def key(self, entity_id: str) -> str:
        return self.pattern.replace("{id}", entity_id)

    @cached_property
    def codec(self) -> _Codec[T]:
        return _Codec(self.record)

    def decode(self, value: bytes) -> T:
        """Raise `StateDecodeError`, which does not name the user or session: it is written to logs."""
        return self.codec.decode(self.pattern, value)


@dataclass(frozen=True, eq=False)
class Table(Generic[T]):
    """Rows in `n_buckets` hashes, followed by readers through the stream named by `feed`."""

    name: str
    feed: str
    record: type[T]
    n_buckets: int = 16

    def key(self, bucket: int) -> str:
        """Return the key of one of the hashes."""
        return f"v1:table:{self.name}:{bucket}"

    def bucket(self, field: str) -> int:
        """Return the number of the hash that holds a row."""
        return zlib.crc32(field.encode()) % self.n_buckets

    @cached_property
    def codec(self) -> _Codec[T]:
        return _Codec(self.record)


# flows.features -> serving
USER_PROFILE = Entry("v1:user:{id}:profile", UserProfile, ttl=timedelta(days=90))
# flows.features -> serving
SESSION = Entry("v1:session:{id}", SessionProfile, ttl=timedelta(days=1))

# serving -> serving, until flows.features has applied the event: hash event_id -> CleanEvent
OVERLAY = Entry("v1:user:{id}:overlay", CleanEvent, ttl=timedelta(days=30))

# serving -> serving, for lists that rotate
SHOWN = Entry("v1:user:{id}:shown", Shown, ttl=timedelta(days=7))

# serving -> serving, flows.metrics: registered models in use; id: `state.artifacts.chunk_id`
MODEL_CHUNK = Entry("v1:model:{id}", ModelChunk, ttl=timedelta(days=30))

# flows.metrics -> serving; width (ms) -> entry, by `metric_window_id`
METRIC_WINDOWS: Mapping[int, Entry[MetricWindow]] = {
    60_000: Entry("v1:metrics:1m:{id}", MetricWindow, ttl=timedelta(hours=3)),
    300_000: Entry("v1:metrics:5m:{id}", MetricWindow, ttl=timedelta(days=1)),
    3_600_000: Entry("v1:metrics:1h:{id}", MetricWindow, ttl=timedelta(days=14)),
}

# flows.catalogue -> flows.features, serving; field: item_id
CATALOGUE = Table("catalogue", feed="catalogue", record=Item)
# flows.features -> serving; field: `activity_field(partition, item_id)`, a partition's share of the item's events
ITEM_ACTIVITY = Table("item_activity", feed="features", record=Activity)

# flows.experiments -> itself
USER_ARMS = Entry("v1:user:{id}:arms", UserArms, ttl=timedelta(days=90))
# flows.experiments -> itself, serving; field: `arm_field(partition, experiment, arm)`
EXPERIMENT_ARMS = Table("experiment_arms", feed="experiments", record=ArmRow, n_buckets=1)
# flows.experiments -> itself, serving; field: `arm_day_field(partition, experiment, arm, day)`
EXPERIMENT_DAYS = Table("experiment_days", feed="experiments", record=ArmDay)

# The online models: flows.learn -> itself at start, serving (but for `LEARNER`); field: item_id unless said
ITEM_MODEL = Table("item_model", feed="learn", record=ItemRow)
ITEM_VECTOR = Table("item_vector", feed="learn", record=BlobRow)
NEIGHBOURS = Table("neighbours", feed="learn", record=BlobRow)
# field: `ranker`, `factors` (what a request needs beside the vectors), `progress`
MODEL = Table("model", feed="learn", record=BlobRow)
# flows.learn -> itself at start, serving; field: the context, as in `device:tv`
CONTEXTS = Table("contexts", feed="learn", record=ContextRow, n_buckets=1)
# flows.learn -> itself at start; field: `progress`, `ranker`, `factors`, or a ring's name and segment
LEARNER = Table("learner", feed="learner", record=BlobRow)
# flows.learn -> itself at start: newest users of an item; field: item_id
ITEM_USERS = Table("item_users", feed="learner", record=BlobRow)
# flows.learn -> itself at start; field: the user's slot
USER_VECTOR = Table("user_vector", feed="learner", record=UserVectorRow)
# flows.learn -> itself
LEARNER_USER = Entry("v1:learner:user:{id}", UserRow, ttl=timedelta(days=90))

# serving, flows.experiments (stops) -> both; field: the name of a `state.control.Kind`
CONTROL = Table("control", feed="control", record=ControlDocument, n_buckets=1)
# serving, flows.catalogue (what an emptied Redis lacks) -> serving; field: `state.control.version_field`
CONTROL_HISTORY = Table("control_history", feed="control_history", record=ControlDocument, n_buckets=1)

TABLES: tuple[Table[object], ...] = (
    CATALOGUE,
    ITEM_ACTIVITY,
    ITEM_MODEL,
    ITEM_VECTOR,
    NEIGHBOURS,
    MODEL,
    CONTEXTS,
    LEARNER,
    ITEM_USERS,
    USER_VECTOR,
    EXPERIMENT_ARMS,
    EXPERIMENT_DAYS,
    CONTROL,
    CONTROL_HISTORY,
)  # type: ignore[assignment]

ENTRIES: tuple[Entry[Any], ...] = (
    USER_PROFILE,
    SESSION,
    OVERLAY,
    SHOWN,
    MODEL_CHUNK,
    *METRIC_WINDOWS.values(),
    USER_ARMS,
    LEARNER_USER,
)

FEED_RETENTION = timedelta(minutes=1)
"""A reader that was away for longer than half of this loads its tables again."""

EVERYTHING = "*"
"""In a feed, instead of a table: all has changed, as another state was put in place of this one."""

_watermark_codec = _Codec(Watermark)
_feed_codec = _Codec(dict[str, list[str]])


def activity_field(partition: int, item_id: str) -> str:
    """Name the row of `ITEM_ACTIVITY` with what one partition's users did with an item."""
    return f"{partition}:{item_id}"


def arm_field(partition: int, experiment: str, arm: str) -> str:
    """Name the row of `EXPERIMENT_ARMS` with what one partition's users did in an arm."""
    return f"{partition}:{experiment}:{arm}"


def arm_day_field(partition: int, experiment: str, arm: str, day: int) -> str:
    """Name the row of `EXPERIMENT_DAYS` with what one partition's users did in an arm on a day."""
    return f"{arm_field(partition, experiment, arm)}:{day}"


def metric_window_id(family: str, start_ms: int, partition: int) -> str:
    """Name one partition's window in `METRIC_WINDOWS`."""
    return f"{family}:{start_ms}:{partition}"


def feed_key(feed: str) -> str:
    """Return the key of the stream of changed rows."""
    return f"v1:feed:{feed}"


# each flow -> itself at start, serving, `freshet status`: hash `<topic>:<partition>` -> Watermark
def watermark_key(flow: str) -> str:
    """Return the key of the flow's watermarks."""
    return f"v1:watermark:{flow}"


def watermark_field(topic: str, partition: int) -> str:
    """Return the field of one partition's watermark."""
    return f"{topic}:{partition}"


# flows.features, flows.learn -> themselves: a hash of pieces and a head, while a large commit is under way
def journal_key(flow: str) -> str:
    """Return the key of the journal of a flow's commit."""
    return f"v1:journal:{flow}"


# ops.operating -> itself: the number of the database in which the state is built again
REBUILDING = "v1:rebuilding"


def encode_watermark(watermark: Watermark) -> bytes:
    """Return the value of a watermark's field."""
    return _watermark_codec.encode(watermark)


def decode_watermarks(flow: str, fields: Mapping[bytes, bytes]) -> dict[tuple[str, int], Watermark]:
    """Return (topic, partition) -> watermark."""
    watermarks = {}
    for field, value in fields.items():
        name = field.decode(errors="replace")
        topic, _, partition = name.rpartition(":")
        if not partition.isdecimal():
            raise StateDecodeError(f"{watermark_key(flow)}: expected <topic>:<partition>, got {name!r}")
        watermarks[topic, int(partition)] = _watermark_codec.decode(f"{watermark_key(flow)} {name}", value)
    return watermarks


def encode_feed_entry(changed: dict[str, list[str]]) -> bytes:
    """Table name -> names of the rows that one commit changed."""
    return _feed_codec.encode(changed)


def decode_feed_entry(value: bytes) -> dict[str, list[str]]:
    """Reverse `encode_feed_entry`."""
    return _feed_codec.decode("feed", value)
