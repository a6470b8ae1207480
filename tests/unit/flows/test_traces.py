"""What a flow makes of traces that messages carry."""

from collections.abc import Iterator

import msgspec
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from flows.attribution.tracing import ExampleTraces
from flows.clean.cleaning import PartitionCleaner, Progress
from flows.clean.deduplication import RecentIds
from flows.clean.tracing import EventTraces
from flows.common.batches import KafkaBatch
from flows.common.traces import FlowTraces, flow_traces, traced
from state import tracing
from state.records import Example
from state.settings import Settings
from state.topics import EVENTS, IMPRESSIONS

TRACE = "0af7651916cd43dd8448eb211c80319c"
NOW = 1_700_000_000_000


def sent(span: int, sampled: bool = True) -> list[tuple[str, bytes]]:
    return [("reason", b"other"), ("traceparent", f"00-{TRACE}-{span:016x}-0{int(sampled)}".encode())]


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "start", lambda settings, service: provider.get_tracer(service))
    yield exporter
    provider.shutdown()


@pytest.fixture
def traces(exported: InMemorySpanExporter) -> FlowTraces:
    found = flow_traces(Settings(traces="http://127.0.0.1:1"), "flow")
    assert found is not None
    return found


def batch(
    headers: list[list[tuple[str, bytes]]], values: list[bytes] | None = None, topic: str = "clean"
) -> KafkaBatch:
    n = len(headers)
    messages: list[bytes | None] = [b"" for _ in range(n)] if values is None else [*values]
    return KafkaBatch(topic, 0, list(range(n)), [None] * n, messages, [NOW] * n, n, headers=headers)


class Folding:
    """A `StoreLogic`."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def apply(self, batch: KafkaBatch) -> None:
        self.done.append("apply")

    def flush(self) -> None:
        self.done.append("flush")

    def verify(self) -> None:
        self.done.append("verify")


def test_nothing_is_put_around_a_flow_without_traces() -> None:
    """R28: off, it costs nothing."""
    logic = Folding()
    assert traced(logic, flow_traces(Settings(), "flow")) is logic


def test_a_message_is_followed_until_its_effect_is_stored(traces: FlowTraces, exported: InMemorySpanExporter) -> None:
    """R28: spans go from the application of a batch to its commit; what is not recorded has none."""
    logic = Folding()
    around = traced(logic, traces)
    around.apply(batch([sent(1), [], sent(2, sampled=False), [("traceparent", b"nonsense")], sent(3)]))
    assert exported.get_finished_spans() == ()
    around.flush()
    around.verify()
    assert [span.parent.span_id for span in exported.get_finished_spans() if span.parent] == [1, 3]
    around.flush()
    assert len(exported.get_finished_spans()) == 2
    assert logic.done == ["apply", "flush", "verify", "flush"]


def test_callers_cannot_slow_a_flow_down_by_tracing_everything(traces: FlowTraces) -> None:
    """R29: of a batch a bounded number of messages is followed."""
    assert len(list(traces.traced(batch([sent(n + 1) for n in range(1000)])))) == 100


def test_clean_carries_on_the_trace_of_the_event_that_it_kept(
    traces: FlowTraces, exported: InMemorySpanExporter
) -> None:
    """R28: places change where events are refused or repeated; what is dropped is carried nowhere."""

    def event(event_id: str) -> bytes:
        return msgspec.json.encode({"event_id": event_id, "type": "click", "user_id": "u", "item_id": "i", "ts": NOW})

    cleaner = PartitionCleaner(0, lambda user: 0, RecentIds(), Progress())
    came = batch([sent(1), [], sent(3), sent(4)], [b"{", event("a"), event("b"), event("b")], EVENTS.name)
    cleaned = cleaner.clean(came)
    carried = EventTraces(traces)
    headers = carried.carry_on(came, cleaned)
    assert exported.get_finished_spans() == ()
    carried.end("committed")
    assert list(headers) == [1]  # `b`, behind `a` which nobody traces
    spans = exported.get_finished_spans()
    assert [span.parent.span_id for span in spans if span.parent] == [1, 3, 4]
    assert dict(spans[0].attributes or {})["freshet.transaction"] == "committed"


def test_an_example_goes_on_in_the_trace_of_its_list(traces: FlowTraces, exported: InMemorySpanExporter) -> None:
    """R28: also when it is told long after; an example of a list that nobody traces has no headers."""

    def example(request_id: str) -> Example:
        return Example(f"{request_id}:expired", request_id, "u", NOW, "home", ["i"], [0], [None], [1.0], b"", "", "1")

    told = ExampleTraces(traces)
    shown = [msgspec.msgpack.encode([request_id, "u", NOW]) for request_id in ("r1", "r2")]
    told.read(batch([sent(7), []], shown, IMPRESSIONS.name))
    assert told.headers(example("r2")) is None
    headers = told.headers(example("r1"))
    (span,) = exported.get_finished_spans()
    assert span.parent is not None
    assert span.parent.span_id == 7
    assert headers == [("traceparent", f"00-{TRACE}-{span.context.span_id:016x}-01".encode())]
