"""OpenTelemetry traces, over HTTP and through Kafka. Imported only where `Settings.traces` says where they go.

The W3C header `traceparent` (https://www.w3.org/TR/trace-context/) is what joins the parts: a request's to serving, and
a Kafka message's. A message has one only when its trace is recorded, so what flows do for traces is bounded by the
share of requests that are (`Settings.trace_share`), and by who sends `traceparent` with them.
"""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from state.settings import Settings

HEADER = "traceparent"

Headers = Sequence[tuple[str, bytes]]
"""Of a Kafka message."""

_propagator = TraceContextTextMapPropagator()


def start(settings: Settings, service: str) -> Tracer:
    """Return what makes the spans of this process. They are sent in the background, and at its end.

    A receiver that is away costs nothing but spans: their queue is bounded. Log records in a trace have `trace_id`.
    """
    assert settings.traces is not None
    names = {"service.name": service, "service.namespace": settings.group_id("").rstrip("-")}
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(settings.trace_share)),
        resource=Resource.create(names | {"service.instance.id": settings.instance}),
    )
    exporter = OTLPSpanExporter(endpoint=f"{settings.traces.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    _name_traces_in_logs()
    return provider.get_tracer("freshet")


def parent_in(value: str | None) -> Context:
    """Return the context that a header names; an empty one when there is none, or no valid one."""
    return _propagator.extract({} if value is None else {HEADER: value}, context=Context())


def headers(span: Span) -> list[tuple[str, bytes]] | None:
    """Return the headers of a message that a span sends; None when its trace is not recorded."""
    if not span.get_span_context().trace_flags.sampled:
        return None
    carrier: dict[str, str] = {}
    _propagator.inject(carrier, context=trace.set_span_in_context(span, Context()))
    return [(HEADER, carrier[HEADER].encode())]


def sent_by(message: Headers) -> SpanContext | None:
    """Return the span that sent a message, None when its trace is not recorded."""
    for name, value in message:
        if name == HEADER:
            found = trace.get_current_span(parent_in(value.decode(errors="replace"))).get_span_context()
            return found if found.is_valid and found.trace_flags.sampled else None
    return None


def follow(
    tracer: Tracer,
    name: str,
    sender: SpanContext,
    began_ns: int,
    links: Iterable[SpanContext],
    topic: str,
    partition: int,
    offset: int,
) -> Span:
    """Begin a span of what the message there led to, in its trace, as of `began_ns` (epoch)."""
    return tracer.start_span(
        name,
        trace.set_span_in_context(trace.NonRecordingSpan(sender), Context()),
        SpanKind.CONSUMER,
        {
            "messaging.system": "kafka",
            "messaging.destination.name": topic,
            "messaging.destination.partition.id": str(partition),
            "messaging.kafka.offset": offset,
        },
        [Link(context) for context in links],
        began_ns,
    )


def _name_traces_in_logs() -> None:
    make = logging.getLogRecordFactory()

    def with_trace(*given: Any, **named: Any) -> logging.LogRecord:
        record = make(*given, **named)
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            record.trace_id = trace.format_trace_id(context.trace_id)
        return record

    logging.setLogRecordFactory(with_trace)
