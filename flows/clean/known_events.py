"""Rebuilds what `flows.clean` remembers of a partition, from the tail of its own output."""

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic

import msgspec
from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from flows.clean.cleaning import Progress
from flows.clean.deduplication import CAPACITY, RecentIds, fingerprint
from state.settings import Settings
from state.topics import CLEAN

log = logging.getLogger(__name__)

_MAX_OFFSETS = 3 * CAPACITY  # of an event and its transaction's marker, with room for late ones
_MAX_MESSAGES = 10_000
_POLL_S = 0.2
_STALLED_S = 60.0  # a dead process' open transaction ends sooner
_PROGRESS_EVERY_S = 2.0
_REQUEST_TIMEOUT_S = 20.0


class _KnownEvent(msgspec.Struct, array_like=True):
    """The part of `CleanEvent` that is needed here; the rest is skipped."""

    event_id: str
    type: msgspec.Raw
    user_id: str
    item_id: msgspec.Raw
    ts: int


@dataclass
class _Tail:
    start: int
    end: int
    position: int
    stream_ts: int = 0
    ids: RecentIds = field(default_factory=RecentIds)


_decode = msgspec.msgpack.Decoder(_KnownEvent).decode


class RebuildError(Exception):
    """The tail of `clean` cannot be read to its end."""


def rebuild(settings: Settings, partitions: Mapping[int, Progress], stopping: threading.Event) -> dict[int, RecentIds]:
    """Return what is known of each partition. Raise `RebuildError` or `KafkaException`.

    Reads to what is now the end of `clean`, uncommitted messages included: if a transaction of a process that died is
    still open there, its outcome is awaited. Gives up, with what it has, when `stopping` is set.
    """
    tails = _tails(settings, partitions)
    n_offsets = sum(tail.end - tail.start for tail in tails.values())
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka_brokers,
            "group.id": settings.group_id("clean-rebuild"),  # required; nothing is ever committed
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 50,
            "fetch.queue.backoff.ms": 10,
            "queued.min.messages": 100_000,
            "queued.max.messages.kbytes": 16_384,
        }
    )
    started = moved = told = monotonic()
    try:
        consumer.assign([TopicPartition(CLEAN.full_name(settings), p, tail.start) for p, tail in tails.items()])
        while any(tail.position < tail.end for tail in tails.values()) and not stopping.is_set():
            messages = consumer.consume(_MAX_MESSAGES, _POLL_S)
            _remember(messages, tails)
            moved = monotonic() if messages else moved
            if monotonic() - moved > _STALLED_S:
                raise RebuildError(f"{CLEAN.full_name(settings)}: an open transaction bars the way to {_where(tails)}")
            if monotonic() - told > _PROGRESS_EVERY_S:
                told = monotonic()
                left = sum(max(0, tail.end - tail.position) for tail in tails.values())
                log.info("remembers what it has written: %.0f %%", 100 * (1 - left / n_offsets))
    finally:
        consumer.close()
    n_ids = sum(len(tail.ids) for tail in tails.values())
    log.info("remembers %d events of partitions %s, read in %.1f s", n_ids, sorted(tails), monotonic() - started)
    return {partition: tail.ids for partition, tail in tails.items()}


def _tails(settings: Settings, partitions: Mapping[int, Progress]) -> dict[int, _Tail]:
    topic = CLEAN.full_name(settings)
    admin = AdminClient({"bootstrap.servers": settings.kafka_brokers})

    def offsets(wanted: Mapping[int, OffsetSpec]) -> dict[int, int]:
        asked = admin.list_offsets(
            {TopicPartition(topic, p): spec for p, spec in wanted.items()},
            isolation_level=IsolationLevel.READ_UNCOMMITTED,
            request_timeout=_REQUEST_TIMEOUT_S,
        )
        return {where.partition: found.result().offset for where, found in asked.items()}

    ends = offsets(dict.fromkeys(partitions, OffsetSpec.latest()))
    since = offsets({p: OffsetSpec.for_timestamp(progress.needed_since) for p, progress in partitions.items()})
    tails = {}
    for partition, end in ends.items():
        found = since[partition] if since[partition] >= 0 else end
        start = max(found, end - _MAX_OFFSETS)
        tails[partition] = _Tail(start, end, position=start)
    return tails


def _remember(messages: list[Message], tails: Mapping[int, _Tail]) -> None:
    fingerprints: dict[int, list[int]] = {}
    newest: dict[int, int] = {}
    arrived: dict[int, int] = {}
    for message in messages:
        error = message.error()
        partition = message.partition()
        if error is not None:
            if error.code() != KafkaError._PARTITION_EOF:
                raise KafkaException(error)
            tails[partition].position = message.offset()
            continue
        event = _decode(message.value())
        fingerprints.setdefault(partition, []).append(fingerprint(event.user_id, event.event_id))
        newest[partition] = max(newest.get(partition, 0), event.ts)
        arrived[partition] = message.timestamp()[1]
        tails[partition].position = message.offset() + 1
    for partition, found in fingerprints.items():
        tail = tails[partition]
        tail.stream_ts = max(tail.stream_ts, newest[partition])
        tail.ids.add(found, newest[partition], tail.stream_ts, arrived[partition])


def _where(tails: Mapping[int, _Tail]) -> str:
    return ", ".join(f"[{p}] {tail.position} of {tail.end}" for p, tail in tails.items() if tail.position < tail.end)
