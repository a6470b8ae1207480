"""Traces of lists and of what users did with them, until the example that tells of both.

The example goes on in the trace of the request for the list, and is linked to the trace of the event. It is known in
memory only: what waits while the flow is started again is told in no trace.
"""

from time import time_ns
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from flows.attribution.slates import SlateHead
from flows.common.batches import KafkaBatch
from flows.common.caches import Newest
from flows.common.traces import FlowTraces
from state.records import CleanEvent, Example
from state.topics import CLEAN, IMPRESSIONS

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

_MAX_REMEMBERED = 10_000

_decode_head = msgspec.msgpack.Decoder(SlateHead).decode
_decode_event = msgspec.msgpack.Decoder(CleanEvent).decode


class _Read(NamedTuple):
    """A message that carried a trace, and when it was read, epoch ns."""

    sender: "SpanContext"
    topic: str
    partition: int
    offset: int
    at_ns: int


class ExampleTraces:
    """Remembers, of one partition, which lists and events are traced."""

    def __init__(self, traces: FlowTraces) -> None:
        self._traces = traces
        self._lists: Newest[str, _Read] = Newest(_MAX_REMEMBERED)  # by request id
        # By user, item and time.
        self._events: Newest[tuple[str, str | None, int], _Read] = Newest(_MAX_REMEMBERED)

    def read(self, batch: KafkaBatch) -> None:
        """Take note of a batch that the flow has taken."""
        for at, sender in self._traces.traced(batch):
            read = _Read(sender, batch.topic, batch.partition, batch.offsets[at], time_ns())
            message = batch.values[at] or b""
            try:
                if batch.topic == IMPRESSIONS.name:
                    self._lists.remember(_decode_head(message).request_id, read)
                elif batch.topic == CLEAN.name:
                    event = _decode_event(message)
                    self._events.remember((event.user_id, event.item_id, event.ts), read)
            except msgspec.MsgspecError:
                continue  # the flow itself tells of it

    def headers(self, example: Example) -> list[tuple[str, bytes]] | None:
        """Return the headers of an example's message, None when nothing that it tells of is traced."""
        if not self._lists and not self._events:
            return None
        shown = self._lists.get(example.request_id or "")
        done = next(
            (
                self._events.get((example.user_id, item_id, example.ts))
                for item_id, outcome in zip(example.items, example.outcomes, strict=True)
                if outcome is not None
            ),
            None,
        )
        cause = shown or done
        if cause is None:
            return None
        span = self._traces.follow(
            cause.sender,
            cause.at_ns,
            () if done is None or done is cause else (done.sender,),
            topic=cause.topic,
            partition=cause.partition,
            offset=cause.offset,
        )
        span.set_attribute("freshet.reason", example.reason)
        if example.request_id is not None:
            span.set_attribute("freshet.request_id", example.request_id)
        span.end()
        return self._traces.headers(span)
