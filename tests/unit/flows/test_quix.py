from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from flows.common.batches import KafkaBatch
from flows.common.quix import BatchApplication, application
from state.settings import Settings

CLEAN = "freshet.clean"
Where = tuple[str, int]


class _Message:
    def __init__(self, partition: int, offset: int) -> None:
        self._partition, self._offset = partition, offset

    def error(self) -> None: ...

    def topic(self) -> str:
        return CLEAN

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes:
        return b"user"

    def value(self) -> bytes:
        return b"%d" % self._offset

    def timestamp(self) -> tuple[int, int]:
        return 1, 1000 + self._offset

    def headers(self) -> None: ...

    def __len__(self) -> int:
        return 1


class _Consumer:
    """Has the partitions `ours`, and calls `meanwhile` while messages are fetched."""

    def __init__(self, *messages: _Message, meanwhile: Callable[[], None] = lambda: None) -> None:
        self._messages = messages
        self._meanwhile = meanwhile
        self.ours = [TopicPartition(CLEAN, 0), TopicPartition(CLEAN, 1)]
        self.sought: list[tuple[int, int]] = []

    def poll(self, timeout: float) -> _Message:
        return self._messages[0]

    def consume(self, n: int, timeout: float) -> tuple[_Message, ...]:
        self._meanwhile()
        return self._messages[1:]

    def assignment(self) -> list[TopicPartition]:
        return self.ours

    def committed(self, wanted: list[TopicPartition]) -> list[TopicPartition]:
        return [TopicPartition(where.topic, where.partition, 3) for where in wanted]

    def seek(self, where: TopicPartition) -> None:
        self.sought.append((where.partition, where.offset))


class _Flow:
    """An application that reads what it is given; what comes to its dataframe, and which offsets it has stored."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.app: Any = application(
            Settings(home=home),
            "metrics",
            commit_interval_s=0.5,
            poll_timeout_s=0.25,
            exactly_once=True,
            kind=BatchApplication,
        )
        self.batches: list[KafkaBatch] = []
        self.stored: list[tuple[int, int]] = []
        monkeypatch.setattr(self.app._producer, "poll", lambda timeout: 0)
        monkeypatch.setattr(
            self.app._processing_context,
            "store_offset",
            lambda topic, partition, offset: self.stored.append((partition, offset)),
        )

    def read(self, consumer: _Consumer) -> None:
        self.app._consumer = consumer
        self.app._process_message({CLEAN: lambda batch, key, ts, headers: self.batches.append(batch)})


@pytest.fixture
def flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Flow:
    return _Flow(tmp_path, monkeypatch)


def test_a_row_is_what_a_poll_finds_of_a_partition(flow: _Flow) -> None:
    """R23: a checkpoint that fails begins again at the first of them."""
    flow.read(_Consumer(_Message(0, 5), _Message(1, 7), _Message(0, 6), _Message(0, 9)))
    assert [(b.topic, b.partition, b.offsets, b.values, b.timestamps, b.next_offset) for b in flow.batches] == [
        ("clean", 0, [5, 6, 9], [b"5", b"6", b"9"], [1005, 1006, 1009], 10),
        ("clean", 1, [7], [b"7"], [1007], 8),
    ]
    assert flow.stored == [(0, 5), (0, 9), (1, 7)]


def test_messages_of_a_partition_that_was_taken_meanwhile_are_left_to_others(flow: _Flow) -> None:
    """R23."""

    def lose() -> None:
        consumer.ours = [TopicPartition(CLEAN, 1)]
        flow.app._moved.add((CLEAN, 0))

    consumer = _Consumer(_Message(0, 5), _Message(1, 7), meanwhile=lose)
    flow.read(consumer)
    assert [batch.partition for batch in flow.batches] == [1]
    assert consumer.sought == []


def test_a_partition_that_was_taken_and_given_back_is_read_from_what_is_committed(flow: _Flow) -> None:
    """R23."""
    consumer = _Consumer(_Message(0, 5), _Message(1, 7), meanwhile=lambda: flow.app._moved.add((CLEAN, 0)))
    flow.read(consumer)
    assert [batch.partition for batch in flow.batches] == [1]
    assert consumer.sought == [(0, 3)]


def test_when_nothing_is_left_it_is_told_which_partitions_were_read_since_they_are_ours(flow: _Flow) -> None:
    """R28: what was given back and taken again may have been changed by another process meanwhile."""
    told: list[set[int]] = []
    flow.app.on_idle[CLEAN] = told.append
    nothing: Any = _Consumer()
    nothing.poll = lambda timeout: None
    flow.read(nothing)
    flow.read(_Consumer(_Message(0, 5), _Message(1, 7)))
    flow.read(nothing)
    flow.app._note_moved([TopicPartition(CLEAN, 0)])
    flow.read(nothing)
    assert told == [set(), {0, 1}, {1}]
