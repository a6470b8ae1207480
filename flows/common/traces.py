"""Traces through a flow: of messages that carry one, and so of those only that a recorded request led to.

`flow_traces` returns None, and nothing of OpenTelemetry is loaded, unless `Settings.traces` is set.
"""

from collections.abc import Iterator
from time import time_ns
from typing import TYPE_CHECKING, NamedTuple

from flows.common.batches import KafkaBatch
from flows.common.bytewax_run import StoreLogic
from state.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.trace import Span, SpanContext

_MAX_TRACED = 100
"""Messages of a batch that are followed: callers decide what is traced, and must not slow a flow down by it."""


class Traced(NamedTuple):
    """A message that carries a trace."""

    at: int
    """Place in its batch."""
    sender: "SpanContext"


class FlowTraces:
    """What a flow's process makes spans with."""

    def __init__(self, settings: Settings, flow: str) -> None:
        from state import tracing

        self._tracing = tracing
        self._tracer = tracing.start(settings, flow)
        self._flow = flow

    def traced(self, batch: KafkaBatch) -> Iterator[Traced]:
        """Yield the messages of a batch that carry a trace, not more than so many."""
        found = 0
        for at, headers in enumerate(batch.headers):
            if headers and (sender := self._tracing.sent_by(headers)) is not None:
                yield Traced(at, sender)
                found += 1
                if found == _MAX_TRACED:
                    return

    def begin(self, batch: KafkaBatch, message: Traced, began_ns: int, links: "tuple[SpanContext, ...]" = ()) -> "Span":
        """Begin a span of what becomes of one message, as of `began_ns` (epoch)."""
        return self.follow(
            message.sender,
            began_ns,
            links,
            topic=batch.topic,
            partition=batch.partition,
            offset=batch.offsets[message.at],
        )

    def follow(
        self,
        sender: "SpanContext",
        began_ns: int,
        links: "tuple[SpanContext, ...]" = (),
        *,
        topic: str,
        partition: int,
        offset: int,
    ) -> "Span":
        """Begin a span in the trace of the message that `sender` has sent, which stands there."""
        return self._tracing.follow(self._tracer, self._flow, sender, began_ns, links, topic, partition, offset)

    def headers(self, span: "Span") -> list[tuple[str, bytes]] | None:
        """Return the headers of a message by which its reader goes on in this span's trace."""
        return self._tracing.headers(span)


def flow_traces(settings: Settings, flow: str) -> FlowTraces | None:
    """Return what traces a flow, None where nothing is traced."""
    return None if settings.traces is None else FlowTraces(settings, flow)


def traced(logic: StoreLogic, traces: FlowTraces | None) -> StoreLogic:
    """Return the same logic; where messages carry traces, with spans of theirs until their effect is in the store."""
    return logic if traces is None else _TracedLogic(logic, traces)


class _TracedLogic:
    def __init__(self, logic: StoreLogic, traces: FlowTraces) -> None:
        self._logic = logic
        self._traces = traces
        self._open: list[Span] = []

    def apply(self, batch: KafkaBatch) -> None:
        began = time_ns()
        self._logic.apply(batch)
        self._open += [self._traces.begin(batch, message, began) for message in self._traces.traced(batch)]

    def flush(self) -> None:
        self._logic.flush()
        for span in self._open:
            span.end()
        self._open.clear()

    def verify(self) -> None:
        self._logic.verify()
