"""`python -m flows.metrics` on a real Kafka: counts are exact, also when it is killed."""

import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from ops.stack.children import Child
from state.records import CleanEvent
from state.settings import Settings
from state.topics import CLEAN, METRICS, PARTITIONER, REJECTED

RunProcess = Callable[..., AbstractContextManager[Child]]

MINUTE = 60_000
START = 1_380_000_000_000 // MINUTE * MINUTE


class Metrics:
    """Writes what is counted and reads the results."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer = Producer({"bootstrap.servers": settings.kafka_brokers, "partitioner": PARTITIONER})
        self._consumer = Consumer({"bootstrap.servers": settings.kafka_brokers, "group.id": "test"})
        self._consumer.assign([TopicPartition(METRICS.full_name(settings), 0, 0)])
        self.newest: dict[tuple[object, ...], dict[str, object]] = {}

    def send(self, number: int, event_type: str, ts: int) -> None:
        event = CleanEvent(f"e{number}", event_type, f"u{number % 50}", "i", ts)
        self._producer.produce(CLEAN.full_name(self._settings), msgspec.msgpack.encode(event), event.user_id.encode())
        self._producer.poll(0)

    def reject(self, field: str) -> None:
        self._producer.produce(REJECTED.full_name(self._settings), b"?", b"", headers=[("field", field.encode())])

    def flush(self) -> None:
        assert self._producer.flush(30) == 0

    def totals(self) -> Counter[tuple[str, str]]:
        """Return the counts by metric and dimension, of the newest results."""
        for message in self._consumer.consume(5000, 0.2):
            result = json.loads(message.value())
            assert message.key() == result["metric"].encode()
            assert result["end"] == result["start"] + MINUTE
            self.newest[result["metric"], result["start"], result["partition"], tuple(result["dimensions"].items())] = (
                result
            )
        totals: Counter[tuple[str, str]] = Counter()
        for result in self.newest.values():
            (name,) = result["dimensions"].values()
            totals[str(result["metric"]), name] += result["value"]
        return totals

    def wait_for(self, expected: dict[tuple[str, str], int], timeout_s: float = 30.0) -> None:
        begin = time.monotonic()
        while self.totals() != expected and time.monotonic() - begin < timeout_s:
            pass
        assert self.totals() == expected


@pytest.fixture
def metrics(settings: Settings) -> Metrics:
    return Metrics(settings)


def test_events_and_rejects_are_counted_by_minute_and_kind(
    settings: Settings, metrics: Metrics, run_process: RunProcess
) -> None:
    """R28"""
    for number in range(600):
        metrics.send(number, "click" if number % 3 else "view", START + number * 2000)
    for field in ("ts", "ts", "", "context[...]", "\x00 made up"):
        metrics.reject(field)
    metrics.flush()
    with run_process("flows.metrics", settings) as process:
        metrics.wait_for(
            {
                ("events", "click"): 400,
                ("events", "view"): 200,
                ("rejected", "ts"): 2,
                ("rejected", ""): 1,
                ("rejected", "context[...]"): 1,
                ("rejected", "unknown"): 1,
            }
        )
        assert process.stop() == 0
    events = [result for result in metrics.newest.values() if result["metric"] == "events"]
    assert {result["start"] for result in events} == {START + minute * MINUTE for minute in range(20)}
    assert {result["start"] for result in events if result["final"]} == {START + m * MINUTE for m in range(14)}


@pytest.mark.timeout(120)
def test_counts_are_exact_through_a_kill(settings: Settings, metrics: Metrics, run_process: RunProcess) -> None:
    """R23, R31; `freshet bench recovery` measures how soon it goes on."""
    n_events = 20_000
    with run_process("flows.metrics", settings) as process:
        for number in range(n_events):
            metrics.send(number, "click", START + number * 10)
        metrics.flush()
        begin = time.monotonic()
        while not metrics.totals() and time.monotonic() - begin < 30:
            pass
        process.kill()
    metrics.send(n_events, "view", START + n_events * 10)
    metrics.flush()
    with run_process("flows.metrics", settings):
        metrics.wait_for({("events", "click"): n_events, ("events", "view"): 1}, timeout_s=60.0)
