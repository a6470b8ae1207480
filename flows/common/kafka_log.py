"""Stretches of a partition, read beside a flow's input: what a recovery needs to know before it starts."""

from collections.abc import Callable, Iterator, Sequence
from threading import Event
from time import monotonic
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

from state.settings import Settings
from state.topics import Topic

_TIMEOUT_S = 15.0
_MAX_MESSAGES = 2000
_PAUSE_S = 0.1

T = TypeVar("T")


class LogMessage(NamedTuple):
    """One message of a partition."""

    offset: int
    timestamp: int
    """Epoch ms, as the topic says."""
    value: bytes | None
    key: bytes | None
    headers: Sequence[tuple[str, bytes]]


_PASSES = {
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
}
"""What brokers answer for a moment: after a start, when a leader moves, when a topic or a group is new."""


def committed_offsets(consumer: Consumer, wanted: list[TopicPartition], timeout_s: float) -> list[TopicPartition]:
    """Return what the consumer's group has committed, in the order of `wanted`. Raise `KafkaException`."""
    return _patiently(lambda: list(consumer.committed(wanted, timeout=timeout_s)), timeout_s)


def watermarks(consumer: Consumer, where: TopicPartition, timeout_s: float) -> tuple[int, int]:
    """Return a partition's first offset and the one behind its last. Raise `KafkaException`."""

    def ask() -> tuple[int, int]:
        first, end = consumer.get_watermark_offsets(where, timeout_s, cached=False)
        return first, end

    return _patiently(ask, timeout_s, lambda: consumer.list_topics(where.topic, timeout=timeout_s))


def offset_at(consumer: Consumer, where: TopicPartition, timeout_s: float) -> int:
    """Return the first offset of the time `where.offset` (epoch ms) or later, negative if there is none.

    Raise `KafkaException`.
    """

    def ask() -> int:
        (found,) = consumer.offsets_for_times([where], timeout=timeout_s)
        if found.error is not None:
            raise KafkaException(found.error)
        return int(found.offset)

    return _patiently(ask, timeout_s, lambda: consumer.list_topics(where.topic, timeout=timeout_s))


def _patiently(ask: Callable[[], T], timeout_s: float, look_again: Callable[[], object] = lambda: None) -> T:
    """Ask again while brokers answer what passes.

    `look_again`: at the metadata; the client itself believes for half a minute that a new topic is not there.
    """
    until = monotonic() + timeout_s
    while True:
        try:
            return ask()
        except KafkaException as error:
            if error.args[0].code() not in _PASSES or monotonic() > until:
                raise
            Event().wait(_PAUSE_S)
            look_again()


class KafkaLog:
    """Reads committed messages. Every method raises `KafkaException` when the broker does not answer in time."""

    def __init__(self, settings: Settings, group: str) -> None:
        self._settings = settings
        self._consumer = Consumer(
            {
                "bootstrap.servers": settings.kafka_brokers,
                "group.id": group,
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",  # what retention took is not an error here
                "fetch.wait.max.ms": 50,
            }
        )

    @property
    def cluster_id(self) -> str:
        """Tell this Kafka from any other."""
        return str(self._consumer.list_topics(timeout=_TIMEOUT_S).cluster_id)

    def bounds(self, topic: Topic, partition: int) -> tuple[int, int]:
        """Return the first offset and the one behind the last."""
        return watermarks(self._consumer, self._where(topic, partition), _TIMEOUT_S)

    def offset_at(self, topic: Topic, partition: int, timestamp: int) -> int:
        """Return the offset of the first message of that time or later, else the end."""
        when = self._where(topic, partition, max(0, timestamp))  # a negative one asks for something else
        found = offset_at(self._consumer, when, _TIMEOUT_S)
        return self.bounds(topic, partition)[1] if found == OFFSET_END else found

    def committed(self, topic: Topic, partition: int) -> int | None:
        """Return the group's committed offset."""
        (found,) = committed_offsets(self._consumer, [self._where(topic, partition)], _TIMEOUT_S)
        if found.error is not None:
            raise KafkaException(found.error)
        return int(found.offset) if found.offset >= 0 else None

    def read(self, topic: Topic, partition: int, begin: int, end: int) -> Iterator[LogMessage]:
        """Yield the messages from `begin` to before `end`, or to the log's end when that comes first."""
        if begin >= end:
            return
        self._consumer.assign([self._where(topic, partition, begin)])
        try:
            while (first := self._consumer.poll(_TIMEOUT_S)) is not None:
                for message in (first, *self._consumer.consume(_MAX_MESSAGES, 0)):
                    error = message.error()
                    if error is not None and error.code() != KafkaError._PARTITION_EOF:
                        raise KafkaException(error)
                    if error is not None or message.offset() >= end:
                        return
                    yield LogMessage(
                        message.offset(),
                        message.timestamp()[1],
                        message.value(),
                        message.key(),
                        message.headers() or (),
                    )
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"{topic.name}[{partition}] does not answer"))
        finally:
            self._consumer.unassign()

    def _where(self, topic: Topic, partition: int, offset: int = 0) -> TopicPartition:
        return TopicPartition(topic.full_name(self._settings), partition, offset)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._consumer.close()
