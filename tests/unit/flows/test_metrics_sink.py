"""When windows are told."""

from collections import Counter
from typing import Any

import msgspec
import pytest

from flows.common.batches import KafkaBatch
from flows.metrics import sink as sinks
from flows.metrics.sink import Messages, WindowSink
from flows.metrics.tallies import TallyEvents
from state.memory_store import MemoryStore
from state.metrics import WIDTHS
from state.records import CleanEvent, MetricResult
from state.settings import Settings

START = 1_700_000_400_000


class _Producer:
    """Keeps what is told."""

    def __init__(self) -> None:
        self.told: list[MetricResult] = []

    def produce(self, topic: str, value: bytes, key: str, on_delivery: object) -> None:
        self.told.append(msgspec.json.decode(value, type=MetricResult))

    def flush(self, timeout: float) -> int:
        return 0

    def take(self) -> Counter[int]:
        """Return width -> events in its newest result."""
        newest = {r.end_ms - r.start_ms: r.sums["click"] for r in self.told}
        self.told.clear()
        return Counter(newest)


class _NoSlates:
    def find(self, *_: object) -> dict[str, Any]:
        return {}


class _State(dict[str, Any]):
    """What Quix keeps of a partition."""

    def set(self, name: str, value: object) -> None:
        self[name] = value

    def delete(self, name: str) -> None:
        self.pop(name, None)


class _Flow:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(sinks, "monotonic", lambda: self.now)
        self.sink = WindowSink(
            Settings(), "metrics", TallyEvents(_NoSlates(), window_ms=1), MemoryStore()  # type: ignore[arg-type]
        )  # fmt: skip
        self.producer = _Producer()
        self.sink._topic, self.sink._producer = "metrics", self.producer
        self.state: Any = _State()
        self.n = 0

    def click(self) -> None:
        self.n += 1
        value = msgspec.msgpack.encode(CleanEvent(f"e{self.n}", "click", "u", "i", START + self.n))
        batch = KafkaBatch("clean", 0, [self.n], [b"u"], [value], [START], self.n + 1, headers=[()])
        self.sink.add(Messages(batch, self.state), None, START, None, "clean", 0, self.n)


@pytest.fixture
def flow(monkeypatch: pytest.MonkeyPatch) -> _Flow:
    return _Flow(monkeypatch)


def test_wide_windows_are_told_also_when_no_message_follows(flow: _Flow) -> None:
    """R28: they are told more rarely than they change, so that something may be left when traffic pauses."""
    minute, five, hour = WIDTHS
    flow.click()
    flow.sink.flush()
    assert flow.producer.take() == {minute: 1, five: 1, hour: 1}
    flow.click()
    flow.sink.flush()
    assert flow.producer.take() == {minute: 2}
    flow.sink.tell_rest({0})
    assert flow.producer.take() == {}  # not yet
    flow.now += 6
    flow.sink.tell_rest({0})
    assert flow.producer.take() == {five: 2}
    flow.now += 20
    flow.sink.tell_rest({0})
    assert flow.producer.take() == {hour: 2}
    flow.now += 100
    flow.sink.tell_rest({0})
    assert flow.producer.take() == {}


def test_of_partitions_that_are_not_as_kept_nothing_is_told(flow: _Flow) -> None:
    """R23: those of others, and those with messages that no checkpoint has taken."""
    for _ in range(2):
        flow.click()
        flow.sink.flush()
    flow.producer.take()
    flow.now += 100
    flow.sink.tell_rest(set())
    flow.click()
    flow.sink.tell_rest({0})
    assert flow.producer.take() == {}
    flow.sink.flush()
    assert flow.producer.take() == dict.fromkeys(WIDTHS, 3)
