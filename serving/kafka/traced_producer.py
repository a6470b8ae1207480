"""Messages that carry the trace of the request in which they are sent. Imported only when `Settings.traces` is set."""

from typing import Any

from confluent_kafka import Producer
from opentelemetry import trace

from state import tracing


class TracedProducer(Producer):  # type: ignore[misc]
    """A producer whose messages name the current span. What waited on disk meanwhile names none."""

    def produce(self, topic: str, value: bytes | None, key: str, **options: Any) -> None:
        super().produce(topic, value, key, headers=tracing.headers(trace.get_current_span()), **options)
