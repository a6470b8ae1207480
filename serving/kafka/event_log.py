"""What serving writes to Kafka: events and items that a client waits for, impressions that nobody waits for."""

import asyncio
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, Message, Producer

from serving import telemetry
from serving.kafka.impressions import KafkaLists, LoggedLists
from serving.kafka.spool import Spool, Spools, Waiting
from state.settings import Settings
from state.topics import PARTITIONER, Topic

_POLL_S = 0.05
_STALLED_AFTER_S = 1.5
_SENT_AGAIN_AT_ONCE = 500
_log = logging.getLogger("serving")


DeliveryReport = Callable[[KafkaError | None, Message], None]


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

    Parameters
    ----------
    max_messages, max_kib
        Of the queue in memory.
    spools
        Where messages of `put` wait on disk when that is full, or when the process ends before Kafka has them.
    """

    def __init__(
        self, settings: Settings, *, linger_ms: int, max_messages: int, max_kib: int, spools: Spools | None = None
    ) -> None:
        self._settings = settings
        self._overflow = None if spools is None else _overflow(spools)
        self._max_messages = max_messages
        self._producer = _producer(
            settings,
            {
                "bootstrap.servers": settings.kafka_brokers,
                "partitioner": PARTITIONER,
                "enable.idempotence": True,
                "acks": "all",
                "compression.type": "lz4",
                "linger.ms": linger_ms,
                "message.timeout.ms": 0,
                # The client spins while a request waits for a broker that hangs. Sent again, nothing is there twice.
                "socket.timeout.ms": 3000,
                "message.max.bytes": 2_000_000,
                "queue.buffering.max.messages": max_messages,
                "queue.buffering.max.kbytes": max_kib,
                "socket.keepalive.enable": True,
                "reconnect.backoff.max.ms": 1000,
                "log_level": 2,
            },
        )
        self._idle_or_acked_at = time.monotonic()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve_reports, name="kafka-reports", daemon=True)
        self._thread.start()

    @property
    def n_queued(self) -> int:
        return len(self._producer) + (0 if self._overflow is None else self._overflow.n_messages)

    @property
    def stalled(self) -> bool:
        """True when messages wait and the broker has taken none for a while."""
        return self.n_queued > 0 and time.monotonic() - self._idle_or_acked_at > _STALLED_AFTER_S

    def put(self, topic: Topic, key: str, value: bytes) -> bool:
        """Queue one message that nobody waits for; return False when there is no room."""
        name = topic.full_name(self._settings)
        overflow = self._overflow
        if overflow is not None and overflow.active:
            return overflow.put(Waiting(name, key, value))  # behind those that wait
        try:
            self._note_idle()
            self._producer.produce(name, value, key, on_delivery=self._report)
        except BufferError:
            return overflow is not None and overflow.put(Waiting(name, key, value))
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
        """Send what is queued, at most for `flush_s`; keep on disk what Kafka did not take, or say that it is lost."""
        self._closing.set()
        self._thread.join()
        end = time.monotonic() + flush_s
        while self._overflow is not None and self._overflow.active and not self.stalled and time.monotonic() < end:
            self._producer.poll(_POLL_S)
            self._step(self._overflow)
        left = self._producer.flush(max(0.0, end - time.monotonic()))
        if self._overflow is not None:
            self._producer.purge()
            self._producer.poll(0)
            left = self._overflow.close()
        if left:
            _log.error("gave up %d messages that Kafka did not take", left)

    def _note_idle(self) -> None:
        if not self.n_queued:
            self._idle_or_acked_at = time.monotonic()

    def _report_to(self, delivery: Delivery, position: int, error: KafkaError | None, message: Message) -> None:
        self._report(error, message)
        delivery.reported(position, error, message)

    def _report(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self._idle_or_acked_at = time.monotonic()
        elif self._overflow is not None and error.code() in _PURGED:
            self._overflow.purged(message)
        else:
            _log.error("%s: not delivered: %s", message.topic(), error.str())

    def _serve_reports(self) -> None:
        while not self._closing.is_set():
            self._producer.poll(_POLL_S)
            if self._overflow is not None:
                self._step(self._overflow)

    def _step(self, overflow: "Overflow") -> None:
        overflow.step(self._producer, self._max_messages // 2, self._report)


_PURGED = (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT)


class Overflow:
    """Messages behind a full queue: collected in memory, written to a spool, sent when there is room again.

    As long as there are any, new ones go behind them, so that all keep their order. `put` is called in the event loop,
    everything else in the producer's thread, or after it has ended.
    """

    def __init__(self, spools: Spools) -> None:
        self._spools = spools
        self._spool: Spool = spools.own()
        self._lock = threading.Lock()
        self._collected: deque[Waiting] = deque()
        self._collected_bytes = 0
        self._sent_up_to: int | None = None
        self._n_unreported = 0
        self._some_came_back = False
        self._purged: list[Waiting] = []
        self._trouble = ""
        self.active = self._spool.n_messages > 0

    @property
    def n_messages(self) -> int:
        return len(self._collected) + self._spool.n_messages - self._n_unreported

    def put(self, message: Waiting) -> bool:
        """Return False when there is no room."""
        with self._lock:
            if message.n_bytes > self._spool.room - self._collected_bytes:
                return False
            self._collected.append(message)
            self._collected_bytes += message.n_bytes
            self.active = True
        return True

    def step(self, producer: Producer, room_below: int, report: DeliveryReport) -> None:
        """Write what was collected, and send the oldest when the producer's queue is short enough."""
        if not self.active:
            return
        try:
            self._write()
            if self._sent_up_to is None:
                if len(producer) < room_below:
                    self._send(producer, report)
            elif not self._n_unreported:
                self._spool.forget(self._sent_up_to)
                self._sent_up_to = None
            with self._lock:
                self.active = bool(self._collected or self._spool.n_messages)
            self._trouble = ""
        except sqlite3.Error as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                _log.error("messages for Kafka cannot be kept on disk: %s", error)

    def purged(self, message: Message) -> None:
        """Take back a message that the producer gave up: it is older than all others."""
        topic, key, value = message.topic(), message.key(), message.value()
        assert topic is not None
        self._purged.append(Waiting(topic, (key or b"").decode(), value or b""))

    def close(self) -> int:
        """Keep on disk what is left; return how many messages are lost."""
        left = len(self._purged) + len(self._collected)
        try:
            if self._sent_up_to is not None and not self._some_came_back:
                self._spool.forget(self._sent_up_to)
            self._spool.prepend(self._purged)
            left -= len(self._purged)
            left -= self._write()
            if self._spool.n_messages:
                _log.warning("%d messages for Kafka wait on disk", self._spool.n_messages)
            self._spool.close()
        except sqlite3.Error as error:
            _log.error("messages for Kafka cannot be kept on disk: %s", error)
        self._spools.close()
        return left

    def _write(self) -> int:
        """Move what was collected to the disk; return how many there was room for."""
        with self._lock:
            collected = list(self._collected)
        if collected:
            taken = self._spool.append(collected)
            with self._lock:
                for _ in collected:
                    self._collected_bytes -= self._collected.popleft().n_bytes
            if taken < len(collected):
                telemetry.impressions("dropped").inc(len(collected) - taken)
            return taken
        return 0

    def _send(self, producer: Producer, report: DeliveryReport) -> None:
        for number, message in self._spool.first(_SENT_AGAIN_AT_ONCE):

            def reported(error: KafkaError | None, about: Message) -> None:
                self._n_unreported -= 1
                if error is not None and error.code() in _PURGED:
                    self._some_came_back = True  # it is still in the spool
                else:
                    report(error, about)

            try:
                producer.produce(message.topic, message.value, message.key, on_delivery=reported)
            except BufferError:
                return
            self._n_unreported += 1
            self._sent_up_to = number


def _producer(settings: Settings, options: dict[str, Any]) -> Producer:
    if settings.traces is None:
        return Producer(options)
    from serving.kafka.traced_producer import TracedProducer

    return TracedProducer(options)


def _overflow(spools: Spools) -> Overflow | None:
    """Return it, None where the disk does not allow it: then there is the queue in memory."""
    try:
        return Overflow(spools)
    except (OSError, sqlite3.Error) as error:
        _log.error("messages for Kafka cannot be kept on disk: %s", error)
        return None


class EventLog:
    """The outboxes. Impressions have their own, so that they never take the room of events."""

    def __init__(self, settings: Settings) -> None:
        self.events = Outbox(settings, linger_ms=2, max_messages=100_000, max_kib=64 * 1024)
        spools = Spools(settings, "impressions")
        self.lists: LoggedLists = KafkaLists(settings)
        self.impressions = Outbox(settings, linger_ms=20, max_messages=20_000, max_kib=64 * 1024, spools=spools)

    def close(self) -> None:
        self.events.close(flush_s=5)
        self.impressions.close(flush_s=2)
