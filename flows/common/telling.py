"""What a flow tells by the way: alarms as metrics, and documents."""

import logging
from dataclasses import dataclass, field
from typing import Protocol

from confluent_kafka import KafkaError, Message, Producer

from flows.common.telemetry import statistics
from state.metrics import Family, dimensions_of
from state.records import MetricResult
from state.settings import Settings
from state.topics import PARTITIONER, Topic

log = logging.getLogger(__name__)

_FLUSH_TIMEOUT_S = 20.0
_MINUTE_MS = 60_000


class Teller(Protocol):
    """The way into Kafka."""

    def __call__(self, topic: Topic, key: str, value: bytes) -> None:
        """Send a message, or log that it was not."""


class KafkaTeller:
    """Sends results and documents; what Kafka does not take is logged: results come again, documents are in Redis."""

    def __init__(self, settings: Settings, flow: str) -> None:
        self._settings = settings
        self._producer = Producer(
            {
                "bootstrap.servers": settings.kafka_brokers,
                "client.id": settings.group_id(flow),
                **statistics(settings),
                "enable.idempotence": True,
                "partitioner": PARTITIONER,
                "compression.type": "lz4",
                "delivery.report.only.error": True,
            },
            logger=log,
        )

    def __call__(self, topic: Topic, key: str, value: bytes) -> None:
        try:
            self._producer.produce(topic.full_name(self._settings), value, key, on_delivery=_log_failure)
        except BufferError as error:
            log.error("%s: %s was not sent: %s", topic.name, key, error)
        self._producer.poll(0)

    def close(self) -> None:
        """Wait for what is under way."""
        if left := self._producer.flush(_FLUSH_TIMEOUT_S):
            log.error("%d messages were not acknowledged within %.0f s", left, _FLUSH_TIMEOUT_S)


def _log_failure(error: KafkaError | None, message: Message) -> None:
    if error is not None:
        log.error("%s: %r was not taken: %s", message.topic(), message.key(), error)


@dataclass
class Alarms:
    """Of one minute: cut -> alarms by name. Absolute, so that saying it twice says the same."""

    family: Family
    minute: int = 0
    sums: dict[str, dict[str, int]] = field(default_factory=dict)

    def note(self, name: str, cut: str, now_ms: int) -> list[MetricResult]:
        """Return what is to be told: nothing when it was told in this minute."""
        minute = now_ms - now_ms % _MINUTE_MS
        if minute != self.minute:
            self.minute, self.sums = minute, {}
        if name in self.sums.get(cut, {}):
            return []
        for of in (cut, ""):
            sums = self.sums.setdefault(of, {})
            sums[name] = sums.get(name, 0) + 1
        return [
            MetricResult(
                self.family.name, minute, minute + _MINUTE_MS, dimensions_of(of), 0, dict(self.sums[of]), False
            )
            for of in (cut, "")
        ]
