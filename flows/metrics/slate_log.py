"""Which list an event came from: follows `impressions` as far as events need it.

What it says follows from the log alone: it holds no state of its own, and reads back what it needs after a restart.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from flows.common.caches import Newest
from flows.common.kafka_log import offset_at, watermarks
from flows.metrics.tallies import SlateKind, decode_kind
from state.settings import Settings
from state.topics import IMPRESSIONS

log = logging.getLogger(__name__)

MAX_SLATES = 20_000
"""The newest of a partition that are remembered."""
_TIMEOUT_S = 10.0
_AT_MOST_S = 1.0
"""Of reading at a time: the checkpoint that waits for it is a transaction, which must not wait for long."""
_AT_ONCE = 500
_CLOCK_SKEW_MS = 30_000
"""A client's clock may be this much behind ours."""


@dataclass
class _Followed:
    """One partition of `impressions`, read up to `position`."""

    position: int
    kinds: Newest[str, SlateKind]
    newest_ts: int = 0
    until: int = 0
    """Lists newer than this are not needed yet: reading is paused there, else they would push out older ones."""
    paused: bool = False


class BehindError(Exception):
    """There is more to read than time allows; what was read is kept for the next call."""


class SlateLog:
    """The newest lists of each partition, by request id."""

    def __init__(self, settings: Settings, client_id: str, max_slates: int = MAX_SLATES) -> None:
        self._topic = IMPRESSIONS.full_name(settings)
        self._max_slates = max_slates
        self._followed: dict[int, _Followed] = {}
        config: dict[str, Any] = {
            "bootstrap.servers": settings.kafka_brokers,
            "client.id": client_id,
            "group.id": client_id,  # required, but never joined
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 100,
            "queued.min.messages": 1000,
            "queued.max.messages.kbytes": 4096,
        }
        self._consumer = Consumer(config, logger=log)
        # On the same connection, a question waits for the answer to the fetch before it.
        self._asker = Consumer(config, logger=log)

    def find(self, partition: int, wanted: Iterable[str], since: int, until: int) -> Mapping[str, SlateKind]:
        """Return the wanted lists that are known, of those made between `since` and `until` (epoch ms).

        The log is read as far as it goes now, but not further than `until`. Raise `KafkaException`, or `BehindError`
        to be called again.
        """
        followed = self._followed.get(partition)
        if followed is None:
            followed = self._followed[partition] = self._follow(partition, since)
        names = list(wanted)
        followed.until = max(followed.until, until + _CLOCK_SKEW_MS)
        if any(name not in followed.kinds for name in names):
            self._read(partition, followed)
        return {name: followed.kinds[name] for name in names if name in followed.kinds}

    def close(self) -> None:
        self._consumer.close()
        self._asker.close()

    def _follow(self, partition: int, since: int) -> _Followed:
        when = TopicPartition(self._topic, partition, max(0, since - _CLOCK_SKEW_MS))
        found = offset_at(self._asker, when, _TIMEOUT_S)
        low, high = self._ends(partition)
        start = high if found < 0 else max(low, found, high - self._max_slates)
        self._consumer.incremental_assign([TopicPartition(self._topic, partition, start)])
        return _Followed(start, Newest(self._max_slates))

    def _ends(self, partition: int) -> tuple[int, int]:
        return watermarks(self._asker, TopicPartition(self._topic, partition), _TIMEOUT_S)

    def _read(self, partition: int, followed: _Followed) -> None:
        """Read to the end of the log, or to what is newer than needed."""
        if followed.paused and followed.newest_ts <= followed.until:
            self._consumer.resume([TopicPartition(self._topic, partition)])
            followed.paused = False
        _, end = self._ends(partition)
        deadline = monotonic() + _AT_MOST_S
        while followed.position < end and followed.newest_ts <= followed.until:
            for message in self._consumer.consume(_AT_ONCE, 0.02):
                self._take(message)
            if monotonic() > deadline:
                raise BehindError(f"{self._topic}[{partition}]: at {followed.position} of {end}")

    def _take(self, message: Message) -> None:
        followed = self._followed.get(message.partition())
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                if followed is not None:  # nothing but control records before it
                    followed.position = max(followed.position, message.offset())
            elif error.fatal() or not error.retriable():
                raise KafkaException(error)
            return
        assert followed is not None
        followed.position = message.offset() + 1
        try:
            request_id, ts, kind = decode_kind(message.value() or b"")
        except msgspec.MsgspecError as broken:
            log.error("%s[%d] %d is left out: %s", self._topic, message.partition(), message.offset(), broken)
            return
        followed.newest_ts = max(followed.newest_ts, ts)
        followed.kinds.remember(request_id, kind)
        if not followed.paused and followed.newest_ts > followed.until:
            followed.paused = True
            self._consumer.pause([TopicPartition(self._topic, message.partition())])
