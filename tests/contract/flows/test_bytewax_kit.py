"""The Bytewax kit between real topics: nothing lost, nothing forgotten, errors loud."""

import threading
from collections.abc import Iterator, Sequence
from datetime import timedelta

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.operators import StatefulBatchLogic
from confluent_kafka import Consumer, Producer, TopicPartition

from flows.common.batches import KafkaBatch
from flows.common.bytewax_kafka import KafkaSink, KafkaSource, Outgoing
from flows.common.bytewax_run import run
from state.settings import Settings
from state.topics import CLEAN, EXAMPLES, PARTITIONER, Topic
from tests.conftest import MakeSettings

PATIENCE_S = 30.0


class Numbering(StatefulBatchLogic[KafkaBatch, Outgoing, int]):
    """Writes every message on with a running number; asks to stop after `stop_after` of them."""

    def __init__(self, n: int, to: Topic, stopping: threading.Event, stop_after: int) -> None:
        self.n = n
        self.to = to
        self.stopping = stopping
        self.stop_after = stop_after

    def on_batch(self, values: list[KafkaBatch]) -> tuple[list[Outgoing], bool]:
        written = []
        for batch in values:
            for value in batch.values:
                self.n += 1
                written.append(Outgoing(self.to, b"key", b"%d %s" % (self.n, value)))
        if self.n >= self.stop_after:
            self.stopping.set()
        return written, StatefulBatchLogic.RETAIN

    def snapshot(self) -> int:
        return self.n


def number(
    settings: Settings,
    stop_after: int,
    to: Topic = EXAMPLES,
    start: dict[tuple[str, int], int] | None = None,
    recovery: str | None = "numbering",
) -> None:
    """Run a flow that numbers the messages of `clean`."""
    stopping = threading.Event()
    overdue = threading.Timer(PATIENCE_S, stopping.set)
    overdue.start()
    flow = Dataflow("numbering")
    batches = op.input("read", flow, KafkaSource(settings, "numbering", {CLEAN: None}, stopping, start, commit=True))
    keyed = op.key_on("key", batches, lambda batch: "all")
    numbered = op.stateful_batch("number", keyed, lambda n: Numbering(n or 0, to, stopping, stop_after))
    op.output("write", numbered, KafkaSink(settings, "numbering"))
    try:
        run(flow, settings, recovery, epoch_interval=timedelta(seconds=0.2))
    finally:
        overdue.cancel()


def produce(settings: Settings, values: Sequence[bytes]) -> None:
    producer = Producer({"bootstrap.servers": settings.kafka_brokers, "partitioner": PARTITIONER})
    for value in values:
        producer.produce(CLEAN.full_name(settings), value, value)
    assert producer.flush(30) == 0


def read(settings: Settings, topic: Topic, n_messages: int) -> Iterator[bytes]:
    consumer = Consumer({"bootstrap.servers": settings.kafka_brokers, "group.id": "test"})
    consumer.assign([TopicPartition(topic.full_name(settings), p, 0) for p in range(settings.partitions)])
    for message in consumer.consume(n_messages, PATIENCE_S):
        assert message.error() is None
        yield message.value()
    consumer.close()


def test_stopped_flow_goes_on_where_it_was(settings: Settings) -> None:
    """R31: position and state come from the same snapshot; what was written is acknowledged before it."""
    values = [b"v%d" % n for n in range(3000)]
    produce(settings, values[:1000])
    number(settings, stop_after=1000)
    produce(settings, values[1000:])
    number(settings, stop_after=3000)
    written = [value.split() for value in read(settings, EXAMPLES, 3000)]
    assert sorted(int(n) for n, _ in written) == list(range(1, 3001))
    assert sorted(value for _, value in written) == sorted(values)


def test_positions_are_shown_in_the_consumer_group(settings: Settings) -> None:
    """R28."""
    produce(settings, [b"v%d" % n for n in range(100)])
    number(settings, stop_after=100)
    consumer = Consumer(
        {"bootstrap.servers": settings.kafka_brokers, "group.id": f"freshet-{settings.namespace}-numbering"}
    )
    asked = [TopicPartition(CLEAN.full_name(settings), p) for p in range(settings.partitions)]
    assert sum(committed.offset for committed in consumer.committed(asked, timeout=10)) == 100
    consumer.close()


def test_offset_that_the_log_no_longer_has_raises(
    make_settings: MakeSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """R23: a gap is told, never jumped over."""
    settings = make_settings(partitions=1)
    produce(settings, [b"v"])
    with pytest.raises(Exception, match="next_batch"):
        number(settings, stop_after=1, start={(CLEAN.name, 0): 7}, recovery=None)
    assert "clean[0] does not have offset 7" in caplog.text


def test_message_that_cannot_be_delivered_raises(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """R23."""
    produce(settings, [b"v"])
    with pytest.raises(Exception, match="Sink"):
        number(settings, stop_after=1, to=Topic("not a name", key="user"), recovery=None)
    assert "KafkaException" in caplog.text
