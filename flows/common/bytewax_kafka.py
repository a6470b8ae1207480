"""Kafka in and out of a Bytewax flow.

`KafkaSource` reads all partitions of a process with one consumer and emits one `KafkaBatch` per partition and poll.
`KafkaSink` writes with an idempotent producer and has every message acknowledged before an epoch's snapshot.
Bytewax's own connectors are not used: their source jumps to the log's end when an offset is gone, their sink forgets
messages that could not be delivered.
"""

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from functools import lru_cache
from time import monotonic
from typing import NamedTuple

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from flows.common.batches import KafkaBatch
from flows.common.in_step import InStep, Where
from flows.common.kafka_log import watermarks
from flows.common.process import tell_ready
from flows.common.telemetry import statistics
from state.settings import Settings
from state.topics import PARTITIONER, Topic

log = logging.getLogger(__name__)

_ONLY_PART = "kafka"
_MAX_MESSAGES = 2000
_PREFETCH_KIB = 16_384
_FETCH_WAIT = timedelta(milliseconds=500)  # for a first message, which ends it: what an idle flow costs the broker
_GATHER_BYTES = 2**18
_IDLE_WAIT_S = 0.1
_BUSY_WAIT_S = 0.005  # shorter, so that timers set by the last batch are on time
_BUSY_POLLS = 12
_METADATA_TIMEOUT_S = 15.0
_LEADERS_SETTLE_S = 10.0
_ASK_AGAIN_S = 0.2
_FLUSH_TIMEOUT_S = 30.0
_DELIVERY_TIMEOUT_MS = 20_000

Positions = dict[tuple[str, int], int]
"""(topic, partition) -> offset to read next."""


class LogGapError(Exception):
    """The log no longer has the offset to go on from."""


class KafkaSource(FixedPartitionedSource[KafkaBatch, Positions]):
    """Reads `partitions` of each topic (None: all that it has), committed messages only.

    Begins at the recovered position if the flow has recovery, else at `start`, else at the log's begin. An offset that
    the log no longer has raises `LogGapError`. Setting `stopping` ends the input, and with it the flow, after the batch
    in hand.

    With `commit`, positions go to the consumer group `freshet-<flow>` at each epoch. With `tell_ends`, each arrival at
    the end of a partition gives a batch, if need be an empty one. With `in_step`, no topic is read further than that
    ahead of another one's messages in the same partition. With `gather`, messages wait that long in the broker for
    others to be fetched with: for flows that no list waits for, since each fetch costs the broker the same.
    """

    def __init__(
        self,
        settings: Settings,
        flow: str,
        partitions: Mapping[Topic, Sequence[int] | None],
        stopping: threading.Event,
        start: Mapping[tuple[str, int], int] | None = None,
        *,
        commit: bool = False,
        tell_ends: bool = False,
        in_step: timedelta | None = None,
        gather: timedelta | None = None,
    ) -> None:
        self._settings = settings
        self._flow = flow
        self._group = settings.group_id(flow)
        self._partitions = partitions
        self._stopping = stopping
        self._start = dict(start or {})
        self._commit = commit
        self._tell_ends = tell_ends
        self._in_step = in_step
        self._gather = gather

    def list_parts(self) -> list[str]:
        return [_ONLY_PART]

    def build_part(self, step_id: str, for_part: str, resume_state: Positions | None) -> "_KafkaSourcePart":
        consumer = Consumer(
            {
                "bootstrap.servers": self._settings.kafka_brokers,
                "group.id": self._group,
                **statistics(self._settings),
                "client.id": self._group,
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": int((self._gather or _FETCH_WAIT) / timedelta(milliseconds=1)),
                "fetch.min.bytes": 1 if self._gather is None else _GATHER_BYTES,
                "queued.min.messages": 20_000,
                "queued.max.messages.kbytes": _PREFETCH_KIB,
            },
            logger=log,
        )
        names = {topic.full_name(self._settings): topic.name for topic in self._partitions}
        positions = self._start if resume_state is None else resume_state
        assignment = [
            TopicPartition(topic.full_name(self._settings), p, positions.get((topic.name, p), OFFSET_BEGINNING))
            for topic, partitions in self._partitions.items()
            for p in (_all_partitions(consumer, topic.full_name(self._settings)) if partitions is None else partitions)
        ]
        log.info("reads %s", ", ".join(f"{a.topic}[{a.partition}] from {a.offset}" for a in assignment))
        consumer.assign(assignment)
        tell_ready(self._settings, self._flow)
        assigned = {(names[a.topic], a.partition) for a in assignment}
        in_step = None if self._in_step is None else InStep(assigned, self._in_step)
        return _KafkaSourcePart(
            consumer,
            names,
            dict(positions),
            self._stopping,
            commit=self._commit,
            tell_ends=self._tell_ends,
            in_step=in_step,
            headers=self._settings.traces is not None,
        )


class _KafkaSourcePart(StatefulSourcePartition[KafkaBatch, Positions]):
    def __init__(
        self,
        consumer: Consumer,
        names: dict[str, str],
        positions: Positions,
        stopping: threading.Event,
        *,
        commit: bool,
        tell_ends: bool,
        in_step: InStep | None,
        headers: bool = False,
    ) -> None:
        self._consumer = consumer
        self._names = names
        self._full_names = {name: full_name for full_name, name in names.items()}
        self._positions = positions
        self._stopping = stopping
        self._commit = commit
        self._tell_ends = tell_ends
        self._in_step = in_step
        self._headers = headers
        self._paused: set[Where] = set()
        self._committed: Positions = {}
        self._idle_polls = 0

    def next_batch(self) -> list[KafkaBatch]:
        """Wait a few ms for a message, then take what else is there.

        Nothing but timers runs beside this source, so it may wait; an event is then worked on when it comes, not when
        a sleep ends.
        """
        if self._stopping.is_set():
            raise StopIteration
        first = self._consumer.poll(_BUSY_WAIT_S if self._idle_polls < _BUSY_POLLS else _IDLE_WAIT_S)
        if first is None:
            self._idle_polls += 1
            return []
        self._idle_polls = 0
        return self._batches([first, *self._consumer.consume(_MAX_MESSAGES - 1, 0)])

    def _batches(self, messages: Sequence[Message]) -> list[KafkaBatch]:
        batches: dict[tuple[str, int], list[Message]] = {}
        lost: list[Message] = []
        for message in messages:
            error = message.error()
            if error is None or error.code() == KafkaError._PARTITION_EOF:
                batches.setdefault((message.topic(), message.partition()), []).append(message)
            elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                lost.append(message)
            elif error.fatal() or not _passes(error):
                raise KafkaException(error)
            else:
                log.warning("kafka: %s", error)
        if self._in_step is not None:
            self._keep_in_step(self._in_step, batches)
        found_batches = [self._batch(where, found) for where, found in batches.items()]
        if lost:
            self._go_on(lost)
        return [batch for batch in found_batches if batch is not None]

    def _go_on(self, lost: Sequence[Message]) -> None:
        """Read on where we are. Raise `LogGapError` when the log does not have it.

        The client has lost its place for another reason at times, at the end of a partition that was paused: seen once
        in three runs of a backlog that is read in step.
        """
        for message in lost:
            topic, partition = self._names[message.topic()], message.partition()
            where = TopicPartition(message.topic(), partition)
            position = self._positions.get((topic, partition), OFFSET_BEGINNING)
            first, end = self._bounds(where, position)
            if position != OFFSET_BEGINNING and not first <= position <= end:
                raise LogGapError(
                    f"{message.topic()}[{partition}] does not have offset {position}, but {first} to {end}: Kafka was "
                    "emptied, or kept less than the flow was behind. Remove the flow's state (its keys in Redis, its "
                    "recovery folder) to build it again from what the log has."
                )
            log.warning("%s[%d]: %s; goes on at %d", message.topic(), partition, message.error().str(), position)
        where_now = {
            (w.topic, w.partition): self._positions.get((self._names[w.topic], w.partition), OFFSET_BEGINNING)
            for w in self._consumer.assignment()
        }
        self._consumer.assign([TopicPartition(*where, offset) for where, offset in where_now.items()])
        if self._paused:
            self._consumer.pause(self._where(self._paused))

    def _bounds(self, where: TopicPartition, position: int) -> tuple[int, int]:
        """Return the log's bounds, once brokers are at one.

        A partition's new leader may not know yet how far the old one had let readers come (KIP-207): seen once, as a
        log that ended before the very offset that had been reached. A log that was emptied stays so.
        """
        until = monotonic() + _LEADERS_SETTLE_S
        while True:
            first, end = watermarks(self._consumer, where, _METADATA_TIMEOUT_S)
            if position <= end or monotonic() > until or self._stopping.wait(_ASK_AGAIN_S):
                return first, end

    def _keep_in_step(self, in_step: InStep, batches: Mapping[Where, Sequence[Message]]) -> None:
        for (full_name, partition), found in batches.items():
            times = [message.timestamp()[1] for message in found if message.error() is None]
            in_step.read(
                (self._names[full_name], partition), max(times, default=None), at_end=found[-1].error() is not None
            )
        waiting = in_step.waiting()
        if waiting != self._paused:
            self._consumer.pause(self._where(waiting - self._paused))
            self._consumer.resume(self._where(self._paused - waiting))
            self._paused = waiting

    def _where(self, positions: Iterable[Where]) -> list[TopicPartition]:
        return [TopicPartition(self._full_names[topic], partition) for topic, partition in positions]

    def _batch(self, where: tuple[str, int], found: list[Message]) -> KafkaBatch | None:
        """Return the messages as columns, None when an end of partition tells nothing new."""
        full_name, partition = where
        topic = self._names[full_name]
        before = self._positions.get((topic, partition), -1)
        # An end of partition is at the offset behind the last control record.
        last = found[-1]
        next_offset = last.offset() if last.error() is not None else last.offset() + 1
        self._positions[topic, partition] = next_offset
        messages = [message for message in found if message.error() is None]
        if not messages and next_offset <= before and not self._tell_ends:
            return None
        return KafkaBatch(
            topic,
            partition,
            [message.offset() for message in messages],
            [message.key() for message in messages],
            [message.value() for message in messages],
            [message.timestamp()[1] for message in messages],
            next_offset,
            at_end=last.error() is not None,
            headers=[message.headers() or () for message in messages] if self._headers else (),
        )

    def snapshot(self) -> Positions:
        if self._commit and self._positions != self._committed:
            self._committed = dict(self._positions)
            self._consumer.commit(
                offsets=[TopicPartition(self._full_names[t], p, offset) for (t, p), offset in self._committed.items()],
                asynchronous=True,
            )
        return dict(self._positions)

    def close(self) -> None:
        self._consumer.close()


def _passes(error: KafkaError) -> bool:
    """Whether the client goes on by itself: a broker that is away comes back."""
    return bool(error.retriable()) or error.code() in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN)


def _all_partitions(consumer: Consumer, full_name: str) -> list[int]:
    metadata = consumer.list_topics(full_name, timeout=_METADATA_TIMEOUT_S).topics[full_name]
    if metadata.error is not None:
        raise KafkaException(metadata.error)
    return sorted(metadata.partitions)


class Outgoing(NamedTuple):
    """One message to write."""

    topic: Topic
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]] | None = None


class KafkaSink(FixedPartitionedSink[Outgoing, None]):
    """Writes the `Outgoing` of (any key, `Outgoing`) items. A message that cannot be delivered raises.

    At least once: after a crash, what was written since the last epoch is written again.
    """

    def __init__(self, settings: Settings, flow: str) -> None:
        self._settings = settings
        self._flow = flow

    def list_parts(self) -> list[str]:
        return [_ONLY_PART]

    def part_fn(self, item_key: str) -> int:
        return 0

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> "_KafkaSinkPart":
        producer = Producer(
            {
                "bootstrap.servers": self._settings.kafka_brokers,
                "client.id": f"freshet-{self._flow}",
                **statistics(self._settings),
                "enable.idempotence": True,
                "partitioner": PARTITIONER,
                "compression.type": "lz4",
                "linger.ms": 100,  # each message of a batch of its own costs the broker a request
                "delivery.timeout.ms": _DELIVERY_TIMEOUT_MS,
            },
            logger=log,
        )
        return _KafkaSinkPart(producer, self._settings)


class _KafkaSinkPart(StatefulSinkPartition[Outgoing, None]):
    def __init__(self, producer: Producer, settings: Settings) -> None:
        self._producer = producer
        self._full_name = lru_cache(lambda topic: topic.full_name(settings))

    def write_batch(self, values: list[Outgoing]) -> None:
        for message in values:
            self._produce(message)
        self._producer.poll(0)

    def _produce(self, message: Outgoing) -> None:
        full_name = self._full_name(message.topic)
        while True:
            try:
                self._producer.produce(
                    full_name, message.value, message.key, headers=message.headers, on_delivery=_raise_on_failure
                )
                return
            except BufferError:
                self._producer.poll(0.1)  # ends: the queue empties, or its messages time out, which raises here

    def snapshot(self) -> None:
        waiting = self._producer.flush(_FLUSH_TIMEOUT_S)
        if waiting:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"{waiting} messages were not acknowledged"))

    def close(self) -> None:
        self.snapshot()


def _raise_on_failure(error: KafkaError | None, message: Message) -> None:
    if error is not None:
        raise KafkaException(error)
