"""Reads the topic `metrics`: what `freshet metrics tail` shows."""

from collections.abc import Iterator
from datetime import timedelta
from time import time

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from state.metric_readings import Group, Readings
from state.metrics import WIDTHS, cut_of
from state.records import MetricResult
from state.settings import Settings
from state.topics import METRICS

WIDTH_OF = dict(zip(("1m", "5m", "1h"), WIDTHS, strict=True))
GRACE = timedelta(minutes=6)
"""Results of a window can be this much older than its last one: they are read, too."""

_TIMEOUT_S = 10.0
_AT_ONCE = 2000
_decode = msgspec.json.Decoder(MetricResult).decode


class Tail:
    """The results from some time ago up to now, and as they come."""

    def __init__(self, settings: Settings, since: timedelta, width: int) -> None:
        self.readings = Readings()
        self._width = width
        self._shown_from = int((time() - since.total_seconds()) * 1000)
        self._topic = METRICS.full_name(settings)
        self._consumer = Consumer(
            {
                "bootstrap.servers": settings.kafka_brokers,
                "group.id": "freshet-looking-on",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 200,
            }
        )
        self._behind: set[int] = set()

    def begin(self) -> None:
        """Find where to begin. Raise `KafkaException` when Kafka does not answer, or has no such topic."""
        found = self._consumer.list_topics(self._topic, timeout=_TIMEOUT_S).topics[self._topic]
        if found.error is not None:
            raise KafkaException(found.error)
        begin = max(0, self._shown_from - self._width - int(GRACE.total_seconds() * 1000))
        wanted = [TopicPartition(self._topic, partition, begin) for partition in found.partitions]
        starts = self._consumer.offsets_for_times(wanted, _TIMEOUT_S)
        self._consumer.assign(starts)
        self._behind = {start.partition for start in starts}

    def read(self, wait_s: float) -> list[Group]:
        """Take what there is, waiting `wait_s` for it; return the windows to show that have changed, in their order."""
        shown: set[Group] = set()
        for message in self._consumer.consume(_AT_ONCE, wait_s):
            group = self._take(message)
            if group is not None and message.timestamp()[1] >= self._shown_from:
                shown.add(group)
        return [group for group in self.readings.changed() if group in shown]

    @property
    def at_end(self) -> bool:
        """Whether all that was there at some moment has been read."""
        return not self._behind

    def close(self) -> None:
        self._consumer.close()

    def _take(self, message: Message) -> Group | None:
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                self._behind.discard(message.partition())
            elif error.fatal() or not error.retriable():
                raise KafkaException(error)
            return None
        result = _decode(message.value() or b"")
        width = result.end_ms - result.start_ms
        if width != self._width:
            return None
        group = width, result.start_ms, cut_of(**result.dimensions)
        self.readings.add(result.metric, group, result.partition, result.sums, result.final)
        return group


def until_end(tail: Tail) -> Iterator[list[Group]]:
    """Yield what has changed until all that is there has been read."""
    while not tail.at_end:
        yield tail.read(0.2)
