"""Kafka `clean`, `impressions`, `examples`, `rejected`, `items` -> rows -> the lake's tables (Parquet, Delta Lake).

A plain loop: what it consumes becomes columns at once, and is written when there is enough of it, or when it has
waited long enough. The lake itself says where to go on (`flows.lake.store`): each commit of rows carries their Kafka
offsets. The consumer group's offsets follow it and only tell how far it is.

Processes share the partitions as a consumer group; each needs an `instance` of its own.
"""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import monotonic, time

from arro3.core import RecordBatch
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from deltalake.exceptions import DeltaError

from flows.common.batches import KafkaBatch
from flows.common.kafka_log import watermarks
from flows.common.process import begin, collect_garbage_rarely, stop_on_signals, tell_ready
from flows.common.telemetry import statistics
from flows.lake.store import (
    KEPT,
    LakeConflictError,
    LakeSchemaError,
    StoredTable,
    Stretch,
    compact,
    drop_replaced,
    erase,
    to_erase,
    worth_compacting,
)
from flows.lake.tables import TABLES, LakeTable
from state.settings import Settings
from state.topics import CLEAN

FLOW = "lake"

log = logging.getLogger(__name__)

_MAX_MESSAGES = 2000
_GATHER_S = 0.5
_MAX_ROWS = 100_000
_MAX_BYTES = 32 * 2**20
_COMPACT_EVERY_S = 60.0
_ERASE_AFTER = timedelta(minutes=1)
_REQUEST_TIMEOUT_S = 20.0
_SESSION_TIMEOUT_MS = 6000
_REPORT_EVERY_S = 60.0


@dataclass
class Waiting:
    """Rows of one table that are not written yet."""

    stored: StoredTable
    rows: list[RecordBatch] = field(default_factory=list)
    stretches: dict[int, Stretch] = field(default_factory=dict)
    n_rows: int = 0
    n_bytes: int = 0
    since: float = 0.0
    n_left_out: int = 0
    n_written: int = 0

    def add(self, batch: KafkaBatch, start: int, now: float) -> None:
        """Take a batch whose first message was awaited at `start`."""
        found = self.stored.table.rows(batch)
        self.n_left_out += found.n_left_out
        if not self.stretches:
            self.since = now
        before = self.stretches.get(batch.partition)
        self.stretches[batch.partition] = Stretch(before.start if before else start, batch.next_offset)
        self.rows.append(found.rows)
        self.n_rows += found.rows.num_rows
        self.n_bytes += found.rows.nbytes

    def is_due(self, now: float, delay_s: float) -> bool:
        return bool(self.stretches) and (
            now - self.since >= delay_s or self.n_rows >= _MAX_ROWS or self.n_bytes >= _MAX_BYTES
        )

    def write(self) -> dict[int, Stretch]:
        """Write all; return what was written. Raise `LakeConflictError`."""
        if self.n_rows:
            self.stored.append(self.rows, self.stretches)
        self.n_written += self.n_rows
        written = self.stretches
        self.clear()
        return written

    def clear(self) -> None:
        self.rows, self.stretches, self.n_rows, self.n_bytes = [], {}, 0, 0


class LakeFlow:
    """The loop. Everything runs in the thread that calls `run`."""

    def __init__(self, settings: Settings, stopping: threading.Event) -> None:
        self._settings = settings
        self._stopping = stopping
        member = f"{settings.group_id(FLOW)}-{settings.instance}"
        self._consumer = Consumer(
            {
                "bootstrap.servers": settings.kafka_brokers,
                "client.id": member,
                "group.id": settings.group_id(FLOW),
                **statistics(settings),
                "group.instance.id": member,
                "session.timeout.ms": _SESSION_TIMEOUT_MS,
                "heartbeat.interval.ms": _SESSION_TIMEOUT_MS // 4,
                "partition.assignment.strategy": "range",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "reconnect.backoff.max.ms": 1000,
                "fetch.wait.max.ms": 500,
                "queued.min.messages": 5000,
                "queued.max.messages.kbytes": 4096,
                "fetch.max.bytes": 4 * 2**20,
                # With the default of a MiB, four partitions that were far behind filled each answer, presumably, and
                # others were not read for minutes; only this effect was observed.
                "max.partition.fetch.bytes": 2**18,
                "fetch.queue.backoff.ms": 10,
                "on_commit": _log_failed_commit,
            },
            logger=log,
        )
        self._waiting: dict[str, Waiting] = {}  # by the topic's full name
        self._positions: dict[tuple[str, int], int] = {}
        """Of assigned partitions: offset to take next."""
        self._compacts_at = monotonic() + _COMPACT_EVERY_S
        self._drops_at = self._compacts_at
        self._erases_at = monotonic()

    def run(self) -> None:
        """Run until `stopping` is set. Raise `KafkaException`, `LakeConflictError` or what the lake's store raises."""
        try:
            cluster = str(self._consumer.list_topics(timeout=_REQUEST_TIMEOUT_S).cluster_id)
            self._waiting = {
                table.topic.full_name(self._settings): Waiting(StoredTable(self._settings.lake_root, table, cluster))
                for table in TABLES
            }
            self._consumer.subscribe(
                list(self._waiting), on_assign=self._assign, on_revoke=self._revoke, on_lost=self._lose
            )
            reported = monotonic()
            while not self._stopping.is_set():
                messages = self._consumer.consume(_MAX_MESSAGES, _GATHER_S)
                self._take(messages)
                self._write_due()
                if len(messages) < _MAX_MESSAGES and monotonic() >= self._compacts_at:
                    self._compact()
                if len(messages) < _MAX_MESSAGES and monotonic() >= self._erases_at:
                    self._erase()
                if monotonic() - reported > _REPORT_EVERY_S:
                    reported = monotonic()
                    self._report()
            self._write_all()
        finally:
            self._report()
            self._consumer.close()

    def _assign(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        for where in partitions:
            first, _ = watermarks(consumer, where, _REQUEST_TIMEOUT_S)
            stored = self._waiting[where.topic].stored.position(where.partition)
            if stored is not None and stored < first:
                log.error("%s[%d]: %d to %d were deleted before they came to the lake", *_place(where), stored, first)
            where.offset = self._positions[_place(where)] = max(first, stored or 0)
        log.info("goes on at %s", ", ".join(f"{w.topic}[{w.partition}] {w.offset}" for w in partitions))
        consumer.assign(list(partitions))
        tell_ready(self._settings, FLOW)

    def _revoke(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        self._write_all()
        self._positions.clear()

    def _lose(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        """Another process may have them already; what is not written, it reads."""
        for waiting in self._waiting.values():
            waiting.clear()
        self._positions.clear()

    def _take(self, messages: Sequence[Message]) -> None:
        found: dict[tuple[str, int], list[Message]] = {}
        for message in messages:
            error = message.error()
            if error is None:
                found.setdefault((message.topic(), message.partition()), []).append(message)
            elif error.fatal() or not error.retriable():
                raise KafkaException(error)
            else:
                log.warning("kafka: %s", error)
        now = monotonic()
        for (topic, partition), ours in found.items():
            position = self._positions.get((topic, partition))
            # Messages that were fetched before their partition was given away are not ours.
            if position is None or ours[0].offset() < position:
                ours = [] if position is None else [message for message in ours if message.offset() >= position]
            if ours and position is not None:
                waiting = self._waiting[topic]
                batch = _batch(waiting.stored.table, partition, ours)
                waiting.add(batch, position, now)
                self._positions[topic, partition] = batch.next_offset

    def _write_due(self) -> None:
        now = monotonic()
        for topic, waiting in self._waiting.items():
            if waiting.is_due(now, self._settings.lake_delay_s):
                self._write(topic, waiting, asynchronous=True)

    def _write_all(self) -> None:
        for topic, waiting in self._waiting.items():
            if waiting.stretches:
                self._write(topic, waiting, asynchronous=False)

    def _write(self, topic: str, waiting: Waiting, *, asynchronous: bool) -> None:
        written = waiting.write()
        offsets = [TopicPartition(topic, partition, stretch.end) for partition, stretch in written.items()]
        self._consumer.commit(offsets=offsets, asynchronous=asynchronous)

    def _compact(self) -> None:
        """Put one partition's files together, then let messages come first again."""
        today = datetime.now(UTC).date().isoformat()
        for stored in (waiting.stored for waiting in self._waiting.values()):
            for partition in worth_compacting(stored.delta, stored.table, today, int(time() * 1000))[:1]:
                if compact(stored.delta, partition):
                    log.info("%s: compacted %s", stored.table.name, dict(partition))
                return
        self._compacts_at = monotonic() + _COMPACT_EVERY_S
        if monotonic() >= self._drops_at:
            for waiting in self._waiting.values():
                drop_replaced(waiting.stored.delta, KEPT)
            self._drops_at = monotonic() + KEPT.total_seconds()

    def _erase(self) -> None:
        """Take out the users whose erasure was read a while ago: by now, so was what they did before it (R27).

        Their rows of events go last, and with them the erasure itself: one that was interrupted is done again.
        """
        self._erases_at = monotonic() + 2 * self._settings.lake_delay_s
        *others, events = sorted(TABLES, key=lambda table: table.topic is CLEAN)
        root = self._settings.lake_root
        users = to_erase(root, events, datetime.now(UTC) - _ERASE_AFTER)
        for user_id in users:
            for table in (*others, events):
                erase(root, table, user_id)
        if users:
            log.info("erased %d users", len(users))
            for waiting in self._waiting.values():
                waiting.stored.delta.update_incremental()

    def _report(self) -> None:
        rows = {w.stored.table.name: w.n_written for w in self._waiting.values() if w.n_written}
        if rows:
            log.info("rows written since the start: %s", rows)
        left_out = {w.stored.table.name: w.n_left_out for w in self._waiting.values() if w.n_left_out}
        if left_out:
            log.error("messages that are no rows: %s", left_out)


def _batch(table: LakeTable, partition: int, messages: Sequence[Message]) -> KafkaBatch:
    return KafkaBatch(
        table.topic.name,
        partition,
        [message.offset() for message in messages],
        [message.key() for message in messages] if table.reads_keys else [],
        [message.value() for message in messages],
        [message.timestamp()[1] for message in messages],
        messages[-1].offset() + 1,
        headers=[message.headers() or () for message in messages] if table.reads_keys else (),
    )


def _place(where: TopicPartition) -> tuple[str, int]:
    return where.topic, where.partition


def _log_failed_commit(error: KafkaError | None, partitions: Sequence[TopicPartition]) -> None:
    """The next one makes up for it: these offsets only tell how far the flow is."""
    if error is not None:
        log.warning("offsets were not committed: %s", error.str())


def main() -> None:
    """Run the flow as a process; SIGTERM writes what waits, and stops it."""
    settings = begin(FLOW)
    collect_garbage_rarely()
    log.info("writes to %s", settings.lake_root)
    try:
        LakeFlow(settings, stop_on_signals()).run()
    except (KafkaException, LakeConflictError, LakeSchemaError, DeltaError, OSError) as error:
        log.critical("stops, to be started again: %s", error)
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
