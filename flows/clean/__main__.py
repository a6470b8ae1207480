"""Kafka `events` -> validated, normalised, each once -> Kafka `clean`; what is invalid -> `rejected`.

A plain transactional loop: a batch's output, its dead letters and its offsets are one transaction, so that each event
is in `clean` exactly once, whatever is killed. Events that were seen before are dropped: `flows.clean.deduplication`.

Processes share the partitions as a consumer group. Each needs an `instance` of its own that stays the same when it is
started again: then its group membership and its transactions need not time out first.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from time import monotonic, time

from confluent_kafka import (
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
)
from confluent_kafka import TopicPartition as KafkaPartition

from flows.clean.cleaning import Cleaned, PartitionCleaner, Progress, Rejected
from flows.clean.known_events import RebuildError, rebuild
from flows.clean.tracing import EventTraces
from flows.common.batches import KafkaBatch
from flows.common.kafka_log import committed_offsets, watermarks
from flows.common.process import begin, collect_garbage_rarely, stop_on_signals, tell_ready
from flows.common.telemetry import statistics
from flows.common.traces import flow_traces
from state.partitioner import UserPartitions
from state.settings import Settings
from state.topics import CLEAN, EVENTS, PARTITIONER, REJECTED

FLOW = "clean"

log = logging.getLogger(__name__)

_IDLE_S = 0.25
_MAX_MESSAGES = 5000
_GATHER_S = ((800, 0.2), (300, 0.1), (20, 0.02))
"""Messages in a poll -> how long the next one gathers: a transaction costs the broker some ten requests, and each
reader of `clean` one more. Fewer messages are not worth waiting for others."""
_REQUEST_TIMEOUT_S = 20.0
_SESSION_TIMEOUT_MS = 6000
_TRANSACTION_TIMEOUT_MS = 10_000
_MAX_ABORTS = 5
_MAX_LETTER_BYTES = 900_000  # brokers take 1 MB unless told otherwise
_MAX_KEY_BYTES = 1024
_REPORT_EVERY_S = 10.0


class CleanFlow:
    """The loop. Everything runs in the thread that calls `run`."""

    def __init__(self, settings: Settings, stopping: threading.Event, traces: EventTraces | None = None) -> None:
        self._traces = traces
        self._settings = settings
        self._stopping = stopping
        self._events = EVENTS.full_name(settings)
        self._clean = CLEAN.full_name(settings)
        self._rejected = REJECTED.full_name(settings)
        member = f"{settings.group_id(FLOW)}-{settings.instance}"
        common = {
            "bootstrap.servers": settings.kafka_brokers,
            "client.id": member,
            "reconnect.backoff.max.ms": 1000,
        }
        self._producer = Producer(
            common
            | {
                "transactional.id": member,
                **statistics(settings),
                "transaction.timeout.ms": _TRANSACTION_TIMEOUT_MS,
                "partitioner": PARTITIONER,
                "compression.type": "lz4",
                "linger.ms": 5,
                # With the default of 100 ms, half of a click's way at 100 events/s was spent here. Presumably a
                # transaction that begins right after another is refused for a moment ("concurrent transactions") and
                # tried again after this pause; only the effect was observed.
                "retry.backoff.ms": 5,
                "retry.backoff.max.ms": 50,
            },
            logger=log,
        )
        self._consumer = Consumer(
            common
            | {
                "group.id": settings.group_id(FLOW),
                **statistics(settings),
                "group.instance.id": member,
                "session.timeout.ms": _SESSION_TIMEOUT_MS,
                "heartbeat.interval.ms": _SESSION_TIMEOUT_MS // 4,
                # Not the cooperative kind: its generation changes while a transaction of the last one is open.
                "partition.assignment.strategy": "range",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": 500,
                "fetch.queue.backoff.ms": 10,
                "queued.min.messages": 20_000,
                "queued.max.messages.kbytes": 16_384,
            },
            logger=log,
        )
        self._partition_of: Callable[[str], int]
        self._cleaners: dict[int, PartitionCleaner] = {}
        self._positions: dict[int, int] = {}
        """Of assigned partitions: offset to clean next, all before it is committed."""
        self._given_up: dict[int, tuple[PartitionCleaner, int]] = {}
        """Partitions between two assignments: what is known of them, and their positions."""
        self._n_aborts = 0
        self._counts: Counter[str] = Counter()

    def run(self) -> None:
        """Run until `stopping` is set. Raise `KafkaException` when fenced or when the broker is lost."""
        try:
            self._partition_of = UserPartitions(self._n_partitions())
            # First of all: it ends a transaction that a predecessor left open, whose outcome is needed below.
            self._producer.init_transactions(_REQUEST_TIMEOUT_S)
            self._consumer.subscribe([self._events], on_assign=self._assign, on_revoke=self._revoke)
            reported = monotonic()
            n_messages = 0
            while True:
                messages = self._poll(next((wait_s for n, wait_s in _GATHER_S if n_messages >= n), 0.0))
                if self._stopping.is_set():  # then `rebuild` may have given up: not all that was seen is known
                    break
                n_messages = len(messages)
                self._clean_messages(messages)
                if monotonic() - reported > _REPORT_EVERY_S:
                    reported = monotonic()
                    self._report()
        finally:
            self._report()
            self._consumer.close()

    def _n_partitions(self) -> int:
        topics = self._consumer.list_topics(timeout=_REQUEST_TIMEOUT_S).topics
        found = {name: len(topics[name].partitions) if name in topics else 0 for name in (self._events, self._clean)}
        if len(set(found.values())) != 1 or not found[self._events]:
            raise KafkaException(
                KafkaError(KafkaError.INVALID_PARTITIONS, f"expected topics with equally many partitions, got {found}")
            )
        return found[self._events]

    def _poll(self, gather_s: float) -> list[Message]:
        first = self._consumer.poll(_IDLE_S)
        return [] if first is None else [first, *self._consumer.consume(_MAX_MESSAGES - 1, gather_s)]

    def _assign(self, consumer: Consumer, partitions: Sequence[KafkaPartition]) -> None:
        # Waits for the outcome of transactions that are about to commit offsets here.
        committed = committed_offsets(consumer, list(partitions), _REQUEST_TIMEOUT_S) if partitions else []
        for where in committed:
            if where.error is not None:
                raise KafkaException(where.error)
            where.offset = self._start(where)
        # Of a partition that nobody else has read meanwhile, all is known still.
        kept = {w.partition for w in committed if self._given_up.get(w.partition, (None, -1))[1] == w.offset}
        progress = {w.partition: Progress.decode(w.metadata) for w in committed if w.partition not in kept}
        known = rebuild(self._settings, progress, self._stopping) if progress else {}
        for where in committed:
            partition = where.partition
            self._cleaners[partition] = (
                self._given_up[partition][0]
                if partition in kept
                else PartitionCleaner(partition, self._partition_of, known[partition], progress[partition])
            )
            self._positions[partition] = where.offset
            log.info("cleans %s[%d] from %d", self._events, partition, where.offset)
        self._given_up.clear()
        consumer.assign(committed)
        tell_ready(self._settings, FLOW)

    def _start(self, committed: KafkaPartition) -> int:
        first: int
        first, _ = watermarks(self._consumer, committed, _REQUEST_TIMEOUT_S)
        if 0 <= committed.offset < first:
            log.error("%s: %d to %d were deleted before they were cleaned", committed, committed.offset, first)
        return max(int(committed.offset), first)

    def _revoke(self, consumer: Consumer, partitions: Sequence[KafkaPartition]) -> None:
        """Called within a poll, so never while a transaction is open."""
        for where in partitions:
            partition = where.partition
            if partition in self._cleaners:
                self._given_up[partition] = self._cleaners.pop(partition), self._positions.pop(partition)
        log.info("gives up partitions %s", sorted(where.partition for where in partitions))

    def _clean_messages(self, messages: Iterable[Message]) -> None:
        batches = self._batches(messages)
        if not batches:
            return
        cleaned = [(batch, self._cleaners[batch.partition].clean(batch)) for batch in batches]
        committed = self._transact(cleaned)
        if self._traces is not None:
            self._traces.end("committed" if committed else "aborted")
        if not committed:
            return
        for batch, result in cleaned:
            self._cleaners[batch.partition].apply(result)
            self._positions[batch.partition] = batch.next_offset
            self._counts["clean"] += len(result.clean)
            self._counts["rejected"] += len(result.rejected)
            self._counts["duplicate"] += result.n_duplicates
            self._counts["misplaced"] += len(result.misplaced)

    def _batches(self, messages: Iterable[Message]) -> list[KafkaBatch]:
        found: dict[int, list[Message]] = {}
        ends: dict[int, int] = {}
        for message in messages:
            error = message.error()
            partition = message.partition()
            if error is None:
                # Messages that were fetched before their partition was given away, or given back, are not ours.
                if message.offset() >= self._positions.get(partition, message.offset() + 1):
                    found.setdefault(partition, []).append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                ends[partition] = message.offset()
            elif error.fatal() or not error.retriable():
                raise KafkaException(error)
            else:
                log.warning("kafka: %s", error)
        batches = [
            _batch(partition, ours, ends.get(partition, 0), self._traces is not None)
            for partition, ours in found.items()
        ]
        # Behind the last message may be a transaction's marker: commit that too, or the flow seems to lag forever.
        batches += [
            KafkaBatch(EVENTS.name, partition, [], [], [], [], end)
            for partition, end in ends.items()
            if partition not in found and end > self._positions.get(partition, end)
        ]
        return batches

    def _transact(self, cleaned: Sequence[tuple[KafkaBatch, Cleaned]]) -> bool:
        """Write all and the offsets in one transaction; return False when it was aborted and the batch comes again."""
        self._producer.begin_transaction()
        try:
            for batch, result in cleaned:
                self._produce(batch, result)
            group = self._consumer.consumer_group_metadata()
            offsets = [self._offset(batch, result) for batch, result in cleaned]
            _retry(lambda: self._producer.send_offsets_to_transaction(offsets, group, _REQUEST_TIMEOUT_S))
            _retry(lambda: self._producer.commit_transaction(_REQUEST_TIMEOUT_S))
        except KafkaException as error:
            self._n_aborts += 1
            if not error.args[0].txn_requires_abort() or self._n_aborts > _MAX_ABORTS:
                raise
            log.warning("aborts a transaction and cleans its events again: %s", error.args[0].str())
            _retry(lambda: self._producer.abort_transaction(_REQUEST_TIMEOUT_S))
            for batch, _ in cleaned:
                if batch.offsets:
                    self._consumer.seek(KafkaPartition(self._events, batch.partition, batch.offsets[0]))
            return False
        self._n_aborts = 0
        return True

    def _offset(self, batch: KafkaBatch, result: Cleaned) -> KafkaPartition:
        progress = self._cleaners[batch.partition].progress.after(result)
        return KafkaPartition(self._events, batch.partition, batch.next_offset, progress.encode())

    def _produce(self, batch: KafkaBatch, result: Cleaned) -> None:
        partition = batch.partition
        headers = {} if self._traces is None else self._traces.carry_on(batch, result)
        for at, (user, value) in enumerate(result.clean):
            self._send(self._clean, value, user, partition, headers.get(at))
        # To the partition where all of the user's events are remembered; the producer used another partitioner or key.
        for misplaced in result.misplaced:
            sent_with = batch.headers[misplaced.at] if batch.headers else None
            self._send(self._events, batch.values[misplaced.at], misplaced.user, misplaced.partition, sent_with)
        for rejected in result.rejected:
            self._send_letter(batch, rejected)

    def _send_letter(self, batch: KafkaBatch, rejected: Rejected) -> None:
        value, key = batch.values[rejected.at], batch.keys[rejected.at]
        headers = {
            "reason": rejected.error.reason,
            "field": rejected.error.field,
            "source": f"{self._events}/{batch.partition}/{batch.offsets[rejected.at]}",
        }
        if value is not None and len(value) > _MAX_LETTER_BYTES:
            headers["truncated"] = str(len(value))
            value = value[:_MAX_LETTER_BYTES]
        if key is None or len(key) > _MAX_KEY_BYTES:
            key = b""  # and not None, which stateful readers cannot have
        self._send(self._rejected, value, key, -1, list(headers.items()))

    def _send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        headers: Sequence[tuple[str, str | bytes]] | None = None,
    ) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key, partition, headers=headers)
                return
            except BufferError:
                self._producer.poll(0.1)  # ends: the queue empties, or its messages time out and fail the transaction

    def _report(self) -> None:
        if self._counts:
            log.info(
                "events: %s; remembered: %d",
                ", ".join(f"{n} {what}" for what, n in sorted(self._counts.items())),
                sum(len(cleaner.ids) for cleaner in self._cleaners.values()),
            )
            self._counts.clear()
        for partition, cleaner in self._cleaners.items():
            if cleaner.ids.n_evicted:
                log.warning(
                    "%s[%d]: %d ids were forgotten before their time, more than %d were remembered",
                    self._events,
                    partition,
                    cleaner.ids.n_evicted,
                    cleaner.ids.capacity,
                )


def _batch(partition: int, messages: Sequence[Message], end: int, headers: bool) -> KafkaBatch:
    return KafkaBatch(
        EVENTS.name,
        partition,
        [message.offset() for message in messages],
        [message.key() for message in messages],
        [message.value() for message in messages],
        [_arrival(message) for message in messages],
        max(end, messages[-1].offset() + 1),
        headers=[message.headers() or () for message in messages] if headers else (),
    )


def _arrival(message: Message) -> int:
    """Return the broker's time (epoch ms). A topic that somebody else created may carry the clients' instead."""
    kind: int
    timestamp: int
    kind, timestamp = message.timestamp()
    return timestamp if kind == TIMESTAMP_LOG_APPEND_TIME else min(timestamp, int(time() * 1000))


def _retry(call: Callable[[], None]) -> None:
    end = monotonic() + _REQUEST_TIMEOUT_S
    while True:
        try:
            call()
            return
        except KafkaException as error:
            if not error.args[0].retriable() or monotonic() > end:
                raise
            log.warning("kafka: %s, tries again", error.args[0].str())


def main() -> None:
    """Run the flow as a process."""
    settings = begin(FLOW)
    collect_garbage_rarely()
    try:
        traces = flow_traces(settings, FLOW)
        CleanFlow(settings, stop_on_signals(), None if traces is None else EventTraces(traces)).run()
    except (KafkaException, RebuildError) as error:
        log.critical("stops, to be started again: %s", error)
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
