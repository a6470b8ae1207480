"""Reads dead letters from the topic `rejected`, and feeds them again into the topics that they came from.

That a letter was fed again is written into the topic `retried`, in the transaction that feeds it: so it is fed once,
whatever is killed and however often it is asked for. A letter of a user who was erased since, or of an item that was
sent again since, stays where it is.
"""

import time
from collections.abc import Collection, Iterator
from datetime import timedelta
from itertools import islice
from types import TracebackType
from typing import NamedTuple, Self

import msgspec
from confluent_kafka import Producer

from flows.common.kafka_log import KafkaLog, LogMessage
from ops.operating.letters import Fix, Letter, Outcome, Retried, kind_of, letter_of, mended
from ops.stack.kafka import n_partitions
from state.records import CleanEvent
from state.settings import Settings
from state.topics import CLEAN, EVENTS, ITEMS, PARTITIONER, REJECTED, RETRIED, Topic
from state.validation import ERASE, InvalidInputError

_TIMEOUT_S = 30.0
_AT_ONCE = 500
_ROLE = "retry"

_decode_event = msgspec.msgpack.Decoder(CleanEvent).decode


class _Last(NamedTuple):
    """When a user was erased, or an item was sent, for the last time."""

    ts: int
    """Epoch ms."""
    source: str
    """Topic, partition and offset: a refused item is itself in its topic, with the letter's own time."""


class DeadLetters:
    """The topic `rejected`. Every method raises `KafkaException` when Kafka does not answer."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._log = KafkaLog(settings, settings.group_id(_ROLE))

    def read(self, since: timedelta | None = None, reason: str | None = None) -> Iterator[Letter]:
        """Yield letters of so long ago, or all; those whose field or reason contains a text, in any case."""
        since_ms = 0 if since is None else _now_ms() - since // timedelta(milliseconds=1)
        for partition, message in self._messages(REJECTED, since_ms):
            letter = letter_of(message, partition, self._settings)
            if reason is None or reason.lower() in f"{letter.field}: {letter.reason}".lower():
                yield letter

    def fed_again(self) -> set[str]:
        """Return the ids of letters that were fed again."""
        return {message.key.decode() for _, message in self._messages(RETRIED, 0) if message.key is not None}

    def feed(self, fix: Fix, since: timedelta | None = None, reason: str | None = None) -> Retried:
        """Send these letters again, mended. What cannot be sent stays, and is counted."""
        producer = Producer(
            {
                "bootstrap.servers": self._settings.kafka_brokers,
                # One for all: who does the same meanwhile ends the other's open transaction.
                "transactional.id": self._settings.group_id(_ROLE),
                "partitioner": PARTITIONER,
                "log_level": 0,
            }
        )
        producer.init_transactions(_TIMEOUT_S)
        before = self.fed_again()  # after that: nobody else adds to it any more
        oldest, origins = _now_ms(), set[Topic | None]()
        for letter in self.read(since, reason):
            oldest = min(oldest, letter.ts)
            origins.add(letter.topic)
        later = self._later_than(oldest, origins)
        result = Retried()
        letters = self.read(since, reason)
        while some := list(islice(letters, _AT_ONCE)):
            producer.begin_transaction()
            for letter in some:
                result.outcomes[self._feed(producer, letter, fix, before, later, result)] += 1
            producer.commit_transaction(_TIMEOUT_S)
        return result

    def _feed(
        self,
        producer: Producer,
        letter: Letter,
        fix: Fix,
        before: Collection[str],
        later: dict[tuple[Topic, str], _Last],
        result: Retried,
    ) -> Outcome:
        if letter.id in before:
            return "fed again before"
        if not letter.is_whole:
            return "not whole"
        try:
            topic, key, value = mended(letter, fix, _now_ms())
        except InvalidInputError as error:
            result.refused[kind_of(str(error))] += 1
            return "still refused"
        last = later.get((topic, key))
        if last is not None and last.ts >= letter.ts and last.source != letter.source:
            return "superseded"
        producer.produce(topic.full_name(self._settings), value, key)
        producer.produce(RETRIED.full_name(self._settings), b"", letter.id)
        return "fed again"

    def _later_than(self, since_ms: int, origins: Collection[Topic | None]) -> dict[tuple[Topic, str], _Last]:
        """Return when users were erased and items sent last, from then on, by where and id."""
        found: dict[tuple[Topic, str], _Last] = {}
        if EVENTS in origins:
            for partition, message in self._messages(CLEAN, since_ms):
                event = _decode_event(message.value or b"")
                if event.type == ERASE:
                    found[EVENTS, event.user_id] = self._last(CLEAN, partition, message)
        if ITEMS in origins:
            for partition, message in self._messages(ITEMS, since_ms):
                if message.key is not None:
                    found[ITEMS, message.key.decode(errors="replace")] = self._last(ITEMS, partition, message)
        return found

    def _last(self, topic: Topic, partition: int, message: LogMessage) -> _Last:
        return _Last(message.timestamp, f"{topic.full_name(self._settings)}/{partition}/{message.offset}")

    def _messages(self, topic: Topic, since_ms: int) -> Iterator[tuple[int, LogMessage]]:
        """Yield the messages from then to now, with their partitions."""
        for partition in range(n_partitions(topic, self._settings)):
            first, end = self._log.bounds(topic, partition)
            if since_ms:
                first = self._log.offset_at(topic, partition, since_ms)
            for message in self._log.read(topic, partition, first, end):
                yield partition, message

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._log.__exit__(kind, error, traceback)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
