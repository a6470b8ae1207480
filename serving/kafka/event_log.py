"""What serving writes to Kafka: events and items that a client waits for, impressions that nobody waits for."""

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from confluent_kafka import KafkaError, Message, Producer

from state.settings import Settings
from state.topics import PARTITIONER, Topic

_POLL_S = 0.05
_STALLED_AFTER_S = 1.5
_log = logging.getLogger("serving")


class QueueFullError(Exception):
    """Kafka does not take messages as fast as they come, and the queue for them is full."""


@dataclass
class Delivery:
    """The fate of one batch, filled in by the producer's thread."""

    n_messages: int
    loop: asyncio.AbstractEventLoop
    done: asyncio.Event = field(default_factory=asyncio.Event)
    n_acked: int = 0
    failed: dict[int, str] = field(default_factory=dict)
    """Position in the batch -> why the broker refused it."""

    @property
    def n_pending(self) -> int:
        return self.n_messages - self.n_acked - len(self.failed)

    def reported(self, position: int, error: KafkaError | None, _: Message) -> None:
        if error is None:
            self.n_acked += 1
        else:
            self.failed[position] = error.str()
        if not self.n_pending:
            self.loop.call_soon_threadsafe(self.done.set)


class Outbox:
    """One idempotent producer with a bounded queue and a thread that serves its delivery reports.

    Messages in the queue wait for the broker as long as the process lives: a message is given up at shutdown only.
    """

    def __init__(self, settings: Settings, *, linger_ms: int, max_messages: int, max_kib: int) -> None:
        self._settings = settings
        self._max_messages = max_messages
        self._producer = Producer(
            {
                "bootstrap.servers": settings.kafka_brokers,
                "partitioner": PARTITIONER,
                "enable.idempotence": True,
                "acks": "all",
                "compression.type": "lz4",
                "linger.ms": linger_ms,
                "message.timeout.ms": 0,
                "message.max.bytes": 2_000_000,
                "queue.buffering.max.messages": max_messages,
                "queue.buffering.max.kbytes": max_kib,
                "socket.keepalive.enable": True,
                "reconnect.backoff.max.ms": 1000,
                "log_level": 2,
            }
        )
        self._idle_or_acked_at = time.monotonic()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve_reports, name="kafka-reports", daemon=True)
        self._thread.start()

    @property
    def n_queued(self) -> int:
        return len(self._producer)

    @property
    def stalled(self) -> bool:
        """True when messages wait and the broker has taken none for a while."""
        return self.n_queued > 0 and time.monotonic() - self._idle_or_acked_at > _STALLED_AFTER_S

    def put(self, topic: Topic, key: str, value: bytes) -> bool:
        """Queue one message that nobody waits for; return False when there is no room."""
        try:
            self._note_idle()
            self._producer.produce(topic.full_name(self._settings), value, key, on_delivery=self._report)
        except BufferError:
            return False
        return True

    async def deliver(self, topic: Topic, messages: Sequence[tuple[str, bytes | None]], wait_s: float) -> Delivery:
        """Queue a batch of (key, value) and wait for the broker to have it, at most `wait_s`.

        What is not acknowledged by then stays in the queue. While the broker is known to be silent nobody waits.
        Raise `QueueFullError` when there is no room; some of the batch may be queued then.
        """
        delivery = Delivery(len(messages), asyncio.get_running_loop())
        if self.n_queued + len(messages) > self._max_messages:
            raise QueueFullError
        self._note_idle()
        name = topic.full_name(self._settings)
        try:
            for position, (key, value) in enumerate(messages):
                self._producer.produce(name, value, key, on_delivery=partial(self._report_to, delivery, position))
        except BufferError as error:
            raise QueueFullError from error
        if messages and not self.stalled:
            try:
                await asyncio.wait_for(delivery.done.wait(), wait_s)
            except TimeoutError:
                _log.warning("Kafka has not acknowledged %d messages within %.1f s", delivery.n_pending, wait_s)
        return delivery

    def close(self, flush_s: float) -> None:
        """Send what is queued, at most for `flush_s`, and say what had to be given up."""
        left = self._producer.flush(flush_s)
        if left:
            _log.error("gave up %d messages that Kafka did not take", left)
        self._closing.set()
        self._thread.join(timeout=1)

    def _note_idle(self) -> None:
        if not self.n_queued:
            self._idle_or_acked_at = time.monotonic()

    def _report_to(self, delivery: Delivery, position: int, error: KafkaError | None, message: Message) -> None:
        self._report(error, message)
        delivery.reported(position, error, message)

    def _report(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self._idle_or_acked_at = time.monotonic()
        else:
            _log.error("%s: not delivered: %s", message.topic(), error.str())

    def _serve_reports(self) -> None:
        while not self._closing.is_set():
            self._producer.poll(_POLL_S)


class EventLog:
    """The outboxes. Impressions have their own, so that they never take the room of events."""

    def __init__(self, settings: Settings) -> None:
        self.events = Outbox(settings, linger_ms=2, max_messages=100_000, max_kib=64 * 1024)
        self.impressions = Outbox(settings, linger_ms=20, max_messages=20_000, max_kib=64 * 1024)

    def close(self) -> None:
        self.events.close(flush_s=5)
        self.impressions.close(flush_s=2)
