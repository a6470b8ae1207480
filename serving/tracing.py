"""Traces of requests: a span of each, of the stages of its list, and of the messages that it sends.

Imported only when `Settings.traces` is set. It is put around parts of the application once, at the start: pipelines and
resources know nothing of it. Neither keys nor ids of users are told.
"""

from collections.abc import Mapping
from time import perf_counter, time_ns

import falcon.asgi
from opentelemetry import context, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

from serving.pipelines.pipeline import Afterwards
from serving.pipelines.slate import Slate
from state import tracing
from state.settings import Settings

_NOT_STAGES = ("queue", "total")
_FAILED = 500


def traced(settings: Settings, impressions: Afterwards) -> "tuple[TracedRequests, TracedImpressions]":
    """Return the middleware for requests, and what logs their lists in their traces."""
    tracer = tracing.start(settings, "serving")
    return TracedRequests(tracer), TracedImpressions(impressions, tracer)


class TracedRequests:
    """Falcon middleware: a span of each request, in its caller's trace where the request names one."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    async def process_request(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        parent = tracing.parent_in(req.get_header(tracing.HEADER))
        span = self._tracer.start_span(req.method, parent, SpanKind.SERVER)
        req.context.span = span
        # A request is a task of its own, so it is current until the request is done.
        context.attach(trace.set_span_in_context(span))

    async def process_response(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, resource: object, req_succeeded: bool
    ) -> None:
        span: Span = req.context.span
        if span.is_recording():
            route = req.uri_template or "none"
            span.update_name(f"{req.method} {route}")
            span.set_attributes(
                {
                    "http.request.method": req.method,
                    "http.route": route,
                    "http.response.status_code": resp.status_code,
                }
            )
            if resp.status_code >= _FAILED:
                span.set_status(Status(StatusCode.ERROR))
        span.end()


class TracedImpressions:
    """Tells a list's stages, when it is answered; then logs it in a span that its message carries on."""

    def __init__(self, impressions: Afterwards, tracer: Tracer) -> None:
        self._impressions = impressions
        self._tracer = tracer

    def follow_up(self, slate: Slate) -> None:
        if not trace.get_current_span().get_span_context().trace_flags.sampled:
            self._impressions.follow_up(slate)
            return
        self._tell_stages(slate)
        with self._tracer.start_as_current_span("log impression", kind=SpanKind.PRODUCER, attributes=_told(slate)):
            self._impressions.follow_up(slate)

    def _tell_stages(self, slate: Slate) -> None:
        """Stages follow each other without a gap, so that their times tell when each began."""
        at = time_ns() - int((perf_counter() - slate.arrived) * 1e9)
        at += int(slate.timing_ms.get("queue", 0.0) * 1e6)
        for name, took_ms in slate.timing_ms.items():
            if name in _NOT_STAGES:
                continue
            span = self._tracer.start_span(name, start_time=at)
            if name in slate.degraded:
                span.set_status(Status(StatusCode.ERROR, slate.degraded[name]))
            at += int(took_ms * 1e6)
            span.end(at)


def _told(slate: Slate) -> Mapping[str, str | int]:
    return {
        "freshet.request_id": slate.request_id,
        "freshet.surface": slate.surface,
        "freshet.model": "/".join(slate.model),
        "freshet.items": len(slate.candidates),
        "freshet.rung": slate.rung.name.lower(),
    }
