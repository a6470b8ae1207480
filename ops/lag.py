"""How far the flows are behind the log, exactly: until a flow has seen the last record, not the last offset.

A transaction ends with a control record, so that a topic's end offset is beyond its last record and a reader that has
seen everything can still stand before it. What counts here is the offset after the last record that can be read.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import confluent_kafka
import msgspec

from flows.common.kafka_log import committed_offsets, watermarks
from ops.stack.parts import FLOWS, Flow
from state.records import CleanEvent, Impression
from state.redis_store import RedisStore
from state.settings import Settings
from state.topics import CLEAN, IMPRESSIONS, Topic

Offsets = dict[int, int]
"""Partition -> offset."""

_RECORDS: dict[Topic, msgspec.msgpack.Decoder[CleanEvent | Impression]] = {
    CLEAN: msgspec.msgpack.Decoder(CleanEvent),
    IMPRESSIONS: msgspec.msgpack.Decoder(Impression),
}
"""Topics whose messages tell when something happened, by a time that was checked."""

_TIMEOUT_S = 10.0
_TAIL = 64
_POLL_S = 0.1


class PartitionLag(msgspec.Struct):
    """How far one flow is behind in one partition."""

    flow: str
    topic: str
    partition: int
    position: int | None
    """The offset that it reads next; None where it has not begun."""
    end: int
    """The offset after the last record; 0 for a partition without one."""
    events: int
    """Offsets from `position` to `end`."""
    seconds: float
    """For how long the oldest of them has waited; 0 where none does."""
    last_event_ts: int | None
    """Epoch ms, of the newest message taken in: its event time in `clean` and `impressions`, else when it came."""


def lags(settings: Settings, flows: Sequence[Flow] = FLOWS) -> list[PartitionLag]:
    """Return how far each flow is behind in each partition of its inputs.

    Raises
    ------
    NotCaughtUpError, confluent_kafka.KafkaException, state.store.StoreUnavailableError
        When Kafka or Redis does not answer, or has no such topic.
    """
    progress = Progress(settings)
    try:
        return [lag for flow in flows for lag in progress.lags(flow, time.time())]
    finally:
        progress.close()


def behind(settings: Settings) -> dict[str, int]:
    """Return flow -> number of records in its inputs that it has not taken in yet. Raise as `lags` does."""
    progress = Progress(settings)
    try:
        ends = {topic: progress.ends(topic) for topic in {topic for flow in FLOWS for topic in flow.inputs}}
        return {flow.name: sum(progress.behind(flow, topic, ends[topic]) for topic in flow.inputs) for flow in FLOWS}
    finally:
        progress.close()


class NotCaughtUpError(Exception):
    """Flows are still behind after the time they were given."""


@dataclass
class _Neighbours:
    """The messages next to a position."""

    before: confluent_kafka.Message | None = None
    after: confluent_kafka.Message | None = None


class Progress:
    """Reads ends of topics and positions of flows; holds consumers, used to look only."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store = RedisStore(settings)
        self._members: dict[str, confluent_kafka.Consumer] = {}
        self._consumer = confluent_kafka.Consumer(
            {
                "bootstrap.servers": settings.kafka_brokers,
                "group.id": "freshet-looking-on",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "queued.max.messages.kbytes": 1024,
                "fetch.message.max.bytes": 16_384,  # a few messages are looked at
                "fetch.wait.max.ms": 20,
                "log_level": 0,  # what is wrong is raised
            }
        )

    def ends(self, topic: Topic) -> Offsets:
        """Return the offset after the last readable record of each partition that has one."""
        return {partition: end for partition, end in self._ends_of(topic).items() if end is not None}

    def _ends_of(self, topic: Topic) -> dict[int, int | None]:
        name = topic.full_name(self._settings)
        return {partition: self._end(name, partition) for partition in self._partitions(name)}

    def position(self, flow: Flow, topic: Topic) -> Offsets:
        """Return a flow's next offset in each partition where it has begun."""
        name = topic.full_name(self._settings)
        if flow.writes_watermark:
            marks = self._store.watermarks(flow.name)
            return {where[1]: mark.next_offset for where, mark in marks.items() if where[0] == topic.name}
        committed = committed_offsets(
            self._member(self._settings.group_id(flow.name)),
            [confluent_kafka.TopicPartition(name, partition) for partition in self._partitions(name)],
            _TIMEOUT_S,
        )
        return {found.partition: found.offset for found in committed if found.offset >= 0}

    def behind(self, flow: Flow, topic: Topic, ends: Mapping[int, int]) -> int:
        """Return the number of records of a topic that a flow has not taken in yet."""
        position = self.position(flow, topic)
        return sum(max(0, end - position.get(partition, 0)) for partition, end in ends.items())

    def lags(self, flow: Flow, now: float) -> list[PartitionLag]:
        """Return how far a flow is behind in each partition of its inputs; `now` in seconds."""
        found = []
        for topic in flow.inputs:
            ends, position = self._ends_of(topic), self.position(flow, topic)
            neighbours = self._neighbours(topic, {p: position.get(p, 0) for p in ends})
            for partition, beside in neighbours.items():
                end = ends[partition] or 0
                next_offset = position.get(partition, 0)
                waits = beside.after if end > next_offset else None
                found.append(
                    PartitionLag(
                        flow.name,
                        topic.name,
                        partition,
                        position.get(partition),
                        end,
                        max(0, end - next_offset),
                        0.0 if waits is None else max(0.0, now - waits.timestamp()[1] / 1000),
                        None if beside.before is None else _event_time(topic, beside.before),
                    )
                )
        return found

    def close(self) -> None:
        for consumer in (self._consumer, *self._members.values()):
            consumer.close()

    def _partitions(self, name: str) -> list[int]:
        found = self._consumer.list_topics(name, timeout=_TIMEOUT_S).topics[name]
        if found.error is not None:
            raise confluent_kafka.KafkaException(found.error)
        return sorted(found.partitions)

    def _neighbours(self, topic: Topic, positions: Offsets) -> dict[int, _Neighbours]:
        """Return the messages before and at each position; the former among the last few offsets only."""
        name = topic.full_name(self._settings)
        begin = {
            partition: min(max(0, position - _TAIL), self._range(name, partition)[1])
            for partition, position in positions.items()
        }
        found = {partition: _Neighbours() for partition in positions}
        waiting = set(positions)
        self._consumer.assign([confluent_kafka.TopicPartition(name, *start) for start in begin.items()])
        try:
            while waiting:
                message = self._consumer.poll(_TIMEOUT_S)
                if message is None:
                    raise NotCaughtUpError(f"{name}: no answer from Kafka in {_TIMEOUT_S:.0f} s")
                partition, error = message.partition(), message.error()
                if error is not None:
                    if error.code() != confluent_kafka.KafkaError._PARTITION_EOF:
                        raise NotCaughtUpError(f"{name} [{partition}]: {error.str()}")
                    waiting.discard(partition)
                elif partition in waiting and message.offset() < positions[partition]:
                    found[partition].before = message
                elif partition in waiting:
                    found[partition].after = message
                    waiting.discard(partition)
        finally:
            self._consumer.unassign()
        return found

    def _member(self, group: str) -> confluent_kafka.Consumer:
        """Return a consumer that can ask for the group's offsets; it never joins.

        The admin client can ask too, but crashes the process when the group's coordinator is not there yet.
        """
        if group not in self._members:
            self._members[group] = confluent_kafka.Consumer(
                {
                    "bootstrap.servers": self._settings.kafka_brokers,
                    "group.id": group,
                    "enable.auto.commit": False,
                    "log_level": 0,
                }
            )
        return self._members[group]

    def _end(self, topic: str, partition: int) -> int | None:
        low, high = self._range(topic, partition)
        back = _TAIL
        while high > low:
            start = max(low, high - back)
            last = self._last_record(topic, partition, start)
            if last is not None or start == low:
                return None if last is None else last + 1
            back *= 8
        return None

    def _range(self, topic: str, partition: int) -> tuple[int, int]:
        return watermarks(self._consumer, confluent_kafka.TopicPartition(topic, partition), _TIMEOUT_S)

    def _last_record(self, topic: str, partition: int, start: int) -> int | None:
        self._consumer.assign([confluent_kafka.TopicPartition(topic, partition, start)])
        last: int | None = None
        try:
            while True:
                message = self._consumer.poll(_TIMEOUT_S)
                if message is None:
                    raise NotCaughtUpError(f"{topic} [{partition}]: no answer from Kafka in {_TIMEOUT_S:.0f} s")
                error = message.error()
                if error is None:
                    last = message.offset()
                elif error.code() == confluent_kafka.KafkaError._PARTITION_EOF:
                    return last
                else:
                    raise NotCaughtUpError(f"{topic} [{partition}]: {error.str()}")
        finally:
            self._consumer.unassign()


def _event_time(topic: Topic, message: confluent_kafka.Message) -> int:
    if topic in _RECORDS:
        return _RECORDS[topic].decode(message.value()).ts
    return int(message.timestamp()[1])


def wait_until_caught_up(
    settings: Settings,
    timeout_s: float,
    stop: threading.Event | None = None,
    report: Callable[[str, int], None] = lambda flow, behind: None,
) -> dict[str, float]:
    """Wait until each flow that lists depend on has taken in what is in the log now; return flow -> seconds it took.

    Raises
    ------
    NotCaughtUpError
        If a flow is still behind after `timeout_s`; it says which and by how much.
    """
    halt = stop or threading.Event()
    started = time.perf_counter()
    took: dict[str, float] = {}
    ends: dict[str, Offsets] = {}
    progress = Progress(settings)
    try:
        for flow, topic in [(reader, read) for reader in FLOWS if reader.is_awaited for read in reader.inputs]:
            # A topic's end is fixed only now: all that writes into it has caught up before.
            if topic.name not in ends:
                ends[topic.name] = progress.ends(topic)
            while behind := progress.behind(flow, topic, ends[topic.name]):
                report(flow.name, behind)
                if halt.wait(_POLL_S) or time.perf_counter() - started > timeout_s:
                    raise NotCaughtUpError(
                        f"flow {flow.name} is {behind} records of {topic.name} behind "
                        f"after {time.perf_counter() - started:.0f} s"
                    )
            took[flow.name] = time.perf_counter() - started
    finally:
        progress.close()
    return took
