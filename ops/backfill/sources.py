"""The log to learn from, in one order whatever it is read from: the lake, or Kafka.

Each partition of a topic is read in its order; partitions and topics are merged by stream time. So the same log gives
the same order from both, and a position is an offset of each partition.
"""

import heapq
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from itertools import islice
from typing import Any, NamedTuple, Protocol, Self

import msgspec
import numpy as np

from flows.common.kafka_log import KafkaLog
from ops.lake.query import Lake, opened
from state.records import CleanEvent, Example, Item
from state.settings import Settings
from state.topics import CLEAN, EXAMPLES, IMPRESSIONS, ITEMS
from state.validation import InvalidInputError, parse_item

TOPICS = (IMPRESSIONS, EXAMPLES, CLEAN)
"""At the same stream time in this order: a list is known before its outcome, and learned before later events."""

_LAST = 64
"""Messages at the end of a partition in which its newest event is looked for, at first."""

Where = tuple[str, int]
"""Topic and partition."""


class Served(msgspec.Struct, array_like=True):
    """The part of `Impression` that tells what the live model thought."""

    request_id: str
    user_id: msgspec.Raw
    ts: int
    surface: msgspec.Raw
    items: msgspec.Raw
    scores: list[float]


Record = CleanEvent | Example | Served


class Message(NamedTuple):
    """One record and where it is."""

    stream_ts: int
    """The highest `ts` of its partition up to it, epoch ms."""
    topic: int
    """Place in `TOPICS`."""
    partition: int
    offset: int
    record: Record

    @property
    def where(self) -> Where:
        return TOPICS[self.topic].name, self.partition


class Log(Protocol):
    """A log that can be read from anywhere."""

    def bounds(self) -> dict[Where, tuple[int, int]]:
        """Return the first offset of each partition that has any, and the one behind the last."""

    def span(self) -> tuple[int, int] | None:
        """Return the times of the first and the last event (epoch ms), None without any."""

    def catalogue(self) -> dict[str, Item]:
        """Return the catalogue as it is now."""

    def read(self, where: Where, begin: int, end: int) -> Iterator[tuple[int, Record]]:
        """Yield offset and record from `begin` to before `end`. One partition's is read while others are."""


def merged(log: Log, begins: Mapping[Where, int], ends: Mapping[Where, int]) -> Iterator[Message]:
    """Yield all messages between the offsets, in stream time."""
    numbers = {topic.name: number for number, topic in enumerate(TOPICS)}

    def one(where: Where) -> Iterator[Message]:
        topic, partition = where
        stream_ts = 0
        for offset, record in log.read(where, begins.get(where, 0), ends[where]):
            stream_ts = max(stream_ts, record.ts)
            yield Message(stream_ts, numbers[topic], partition, offset, record)

    return heapq.merge(*(one(where) for where in sorted(ends)), key=lambda message: message[:4])


class KafkaSource(AbstractContextManager["KafkaSource"]):
    """The topics as they are now. Every method raises `KafkaException`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._logs = ExitStack()
        self._kafka = self._open()
        self._decoders: dict[str, Callable[[bytes], Record]] = {
            CLEAN.name: msgspec.msgpack.Decoder(CleanEvent).decode,
            EXAMPLES.name: msgspec.msgpack.Decoder(Example).decode,
            IMPRESSIONS.name: msgspec.msgpack.Decoder(Served).decode,
        }
        self._topics = {topic.name: topic for topic in TOPICS}

    def bounds(self) -> dict[Where, tuple[int, int]]:
        found = {}
        for topic in TOPICS:
            for partition in range(self._settings.partitions):
                low, high = self._kafka.bounds(topic, partition)
                if low < high:
                    found[topic.name, partition] = low, high
        return found

    def span(self) -> tuple[int, int] | None:
        times = []
        for where, (low, high) in self.bounds().items():
            if where[0] == CLEAN.name:
                times += [record.ts for _, record in islice(self.read(where, low, high), 1)]
                times += self._last_times(where, low, high)
        return (min(times), max(times)) if times else None

    def _last_times(self, where: Where, low: int, high: int) -> list[int]:
        """Return the times of some last records: at the very end there are marks of transactions, and none."""
        n = _LAST
        while True:
            times = [record.ts for _, record in self.read(where, max(low, high - n), high)]
            if times or high - n <= low:
                return times
            n *= 8

    def catalogue(self) -> dict[str, Item]:
        items: dict[str, Item] = {}
        for partition in range(self._settings.partitions):
            for message in self._kafka.read(ITEMS, partition, *self._kafka.bounds(ITEMS, partition)):
                try:
                    item = parse_item(message.value) if message.value else None
                except InvalidInputError:
                    continue  # the catalogue flow has said so
                key = (message.key or b"").decode(errors="replace")
                if item is None:
                    items.pop(key, None)
                else:
                    items[item.item_id] = item
        return items

    def read(self, where: Where, begin: int, end: int) -> Iterator[tuple[int, Record]]:
        topic, partition = where
        decode = self._decoders[topic]
        with self._open() as kafka:
            for message in kafka.read(self._topics[topic], partition, begin, end):
                if message.value is not None:
                    yield message.offset, decode(message.value)

    def _open(self) -> KafkaLog:
        return self._logs.enter_context(KafkaLog(self._settings, self._settings.group_id("backfill")))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._logs.close()


_MS = "epoch_ms(ts)"
_COLUMNS = {
    CLEAN.name: (
        "events",
        f"event_id, type, user_id, item_id, {_MS}, session_id, request_id, position, value, value_text, context",
    ),
    EXAMPLES.name: (
        "examples",
        f"example_id, request_id, user_id, {_MS}, surface, items, labels, outcomes, propensities, flatten(features), "
        "features_mean, feature_set, model_version, experiments, reason",
    ),
    IMPRESSIONS.name: ("impressions", f"request_id, {_MS}, scores"),
}


class LakeSource(AbstractContextManager["LakeSource"]):
    """The lake as it was when it was opened. Every method raises `LakeError`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lakes = ExitStack()
        self._lake = self._open()

    def bounds(self) -> dict[Where, tuple[int, int]]:
        found = {}
        for topic in TOPICS:
            view, _ = _COLUMNS[topic.name]
            query = f"select kafka_partition, min(kafka_offset), max(kafka_offset) from {view} group by all"  # noqa: S608
            for partition, first, last in self._lake.ask(query).rows:
                found[topic.name, partition] = first, last + 1
        return found

    def span(self) -> tuple[int, int] | None:
        ((first, last),) = self._lake.ask("select epoch_ms(min(ts)), epoch_ms(max(ts)) from events").rows
        return None if first is None else (first, last)

    def catalogue(self) -> dict[str, Item]:
        names = [name for name in Item.__struct_fields__ if name != "status"]
        items = {}
        for row in self._lake.ask(f"select {', '.join(names)}, status from items order by item_id").rows:  # noqa: S608
            given = {name: value for name, value in zip((*names, "status"), row, strict=True) if value is not None}
            if "attributes" in given:
                given["attributes"] = msgspec.json.decode(given["attributes"])
            item = msgspec.convert(given, Item)
            items[item.item_id] = item
        return items

    def read(self, where: Where, begin: int, end: int) -> Iterator[tuple[int, Record]]:
        topic, partition = where
        view, columns = _COLUMNS[topic]
        record_of = _RECORDS[topic]
        query = (
            f"select kafka_offset, {columns} from {view} where kafka_partition = {partition} "  # noqa: S608 - own names
            f"and kafka_offset >= {begin} and kafka_offset < {end} order by kafka_offset"
        )
        for offset, *row in self._open().ask(query).rows:
            yield offset, record_of(*row)

    def _open(self) -> Lake:
        return self._lakes.enter_context(opened(self._settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lakes.close()


def _event(
    event_id: str, kind: str, user: str, item: str | None, ts: int, session: Any, request: Any, position: Any,
    value: float | None, text: str | None, context: str | None,
) -> CleanEvent:  # fmt: skip
    decoded = None if context is None else msgspec.json.decode(context)
    return CleanEvent(
        event_id, kind, user, item, ts, session, request, position, text if value is None else value, decoded
    )


def _example(
    example_id: str, request: Any, user: str, ts: int, surface: Any, items: list[str], labels: list[int],
    outcomes: list[Any], propensities: list[float], features: list[float] | None, mean: list[float] | None,
    feature_set: str, model_version: Any, experiments: str | None, reason: Any,
) -> Example:  # fmt: skip
    matrix = np.array([*(features or ()), *(mean or ())], "<f4").tobytes()
    arms = {} if experiments is None else msgspec.json.decode(experiments)
    return Example(
        example_id, request, user, ts, surface, items, labels, outcomes, propensities, matrix, feature_set,
        model_version, arms, reason,
    )  # fmt: skip


def _served(request_id: str, ts: int, scores: list[float]) -> Served:
    nothing = msgspec.Raw()
    return Served(request_id, nothing, ts, nothing, nothing, scores)


_RECORDS: dict[str, Callable[..., Record]] = {CLEAN.name: _event, EXAMPLES.name: _example, IMPRESSIONS.name: _served}
