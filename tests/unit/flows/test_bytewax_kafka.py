"""`KafkaSource`, when its client loses its place."""

import threading
from dataclasses import dataclass, field

import pytest
from confluent_kafka import KafkaError, TopicPartition

from flows.common import bytewax_kafka
from flows.common.bytewax_kafka import LogGapError, _KafkaSourcePart

NAME = "freshet.clean"


@dataclass
class Message:
    at: int
    failed: KafkaError | None = None

    def topic(self) -> str:
        return NAME

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.at

    def key(self) -> bytes:
        return b"u"

    def value(self) -> bytes:
        return b"v"

    def timestamp(self) -> tuple[int, int]:
        return 1, 1000 + self.at

    def error(self) -> KafkaError | None:
        return self.failed


@dataclass
class Client:
    """Tells that its place in partition 0 is lost, once; the log has offsets 0 to 9."""

    messages: list[Message]
    assigned: list[list[tuple[int, int]]] = field(default_factory=list)

    def poll(self, timeout_s: float) -> Message | None:
        return self.messages.pop(0) if self.messages else None

    def consume(self, n_messages: int, timeout_s: float) -> list[Message]:
        found, self.messages = self.messages, []
        return found

    def get_watermark_offsets(self, where: TopicPartition, timeout_s: float, cached: bool) -> tuple[int, int]:
        return 0, 10

    def assignment(self) -> list[TopicPartition]:
        return [TopicPartition(NAME, partition) for partition in (0, 1)]

    def assign(self, wanted: list[TopicPartition]) -> None:
        self.assigned.append([(one.partition, one.offset) for one in wanted])


def lost() -> Message:
    return Message(-1001, KafkaError(KafkaError._AUTO_OFFSET_RESET, "the client lost its place"))


def part(client: Client, position: int) -> _KafkaSourcePart:
    positions = {("clean", 0): position, ("clean", 1): 5}
    return _KafkaSourcePart(
        client, {NAME: "clean"}, positions, threading.Event(), commit=False, tell_ends=False, in_step=None
    )


def test_it_goes_on_behind_what_was_read_when_the_log_has_it() -> None:
    """R23: nothing is read twice, nothing is left out, no process dies."""
    client = Client([Message(3), Message(4), lost()])
    (batch,) = part(client, 3).next_batch()
    assert (batch.offsets, batch.next_offset) == ([3, 4], 5)
    assert client.assigned == [[(0, 5), (1, 5)]]


def test_a_new_leader_that_does_not_know_its_end_yet_is_asked_again() -> None:
    """R23: it is no gap when the log seems to end before what was read, for a moment."""
    client = Client([lost()])
    ends = iter([(0, 11), (0, 12)])
    client.get_watermark_offsets = lambda where, timeout_s, cached: next(ends)  # type: ignore[method-assign]
    assert part(client, 12).next_batch() == []
    assert client.assigned == [[(0, 12), (1, 5)]]


def test_a_place_that_the_log_does_not_have_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """R23"""
    monkeypatch.setattr(bytewax_kafka, "_LEADERS_SETTLE_S", 0.0)
    client = Client([lost()])
    with pytest.raises(LogGapError, match=r"clean\[0\] does not have offset 12, but 0 to 10"):
        part(client, 12).next_batch()
    assert client.assigned == []
