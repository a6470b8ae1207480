"""Traces of posted events, on their way through `clean`."""

from collections.abc import Sequence
from time import time_ns
from typing import TYPE_CHECKING

from flows.clean.cleaning import Cleaned
from flows.clean.deduplication import fingerprint
from flows.common.batches import KafkaBatch
from flows.common.traces import FlowTraces
from state.validation import InvalidInputError, parse_event

if TYPE_CHECKING:
    from opentelemetry.trace import Span

Headers = list[tuple[str, bytes]]


class EventTraces:
    """Finds which clean events go on in a trace: by their ids, since the batch has changed places meanwhile."""

    def __init__(self, traces: FlowTraces) -> None:
        self._traces = traces
        self._open: list[Span] = []

    def carry_on(self, batch: KafkaBatch, cleaned: Cleaned) -> dict[int, Headers]:
        """Return the headers of clean events, by place in `cleaned.clean`. Their spans stay open until `end`."""
        found: dict[int, Headers] = {}
        began = time_ns()
        for message in self._traces.traced(batch):
            span = self._traces.begin(batch, message, began)
            self._open.append(span)
            at = _place(batch.values[message.at], batch.timestamps[message.at], cleaned.fingerprints)
            headers = self._traces.headers(span)
            if at is not None and headers is not None:
                found[at] = headers
        return found

    def end(self, outcome: str) -> None:
        """All that was carried on since the last time has come to this: `committed` or `aborted`."""
        for span in self._open:
            span.set_attribute("freshet.transaction", outcome)
            span.end()
        self._open.clear()


def _place(value: bytes | None, arrived: int, fingerprints: Sequence[int]) -> int | None:
    """Return which of the clean events a message became, None when it was refused, or is a repeat."""
    try:
        event = parse_event(value or b"", arrived)
        return fingerprints.index(fingerprint(event.user_id, event.event_id))
    except (InvalidInputError, ValueError):
        return None
