"""Health, metrics and the description of the interface."""

import asyncio
from collections.abc import Callable

import falcon.asgi
from prometheus_client import CONTENT_TYPE_LATEST

from serving import telemetry
from serving.contract.answers import Live, Ready
from serving.contract.bodies import send
from serving.kafka.event_log import EventLog
from serving.memory.mirror import Mirror


class HealthLive:
    """Liveness."""

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        send(resp, Live())


class HealthReady:
    """Readiness: 503 until there is something to answer from."""

    def __init__(self, mirror: Mirror, troubles: Callable[[], dict[str, str]]) -> None:
        self._mirror = mirror
        self._troubles = troubles

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        ready = self._mirror.ready
        answer = Ready(
            ready=ready,
            items=self._mirror.current.n_items,
            origin=self._mirror.origin,
            degraded=self._troubles() or None,
        )
        send(resp, answer, 200 if ready else 503)


class Metrics:
    """Prometheus' text format."""

    def __init__(self, mirror: Mirror, log: EventLog) -> None:
        self._mirror = mirror
        self._log = log

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        telemetry.REPLICA_ITEMS.set(self._mirror.current.n_items)
        telemetry.REPLICA_FRESH.set(self._mirror.degraded is None)
        telemetry.QUEUED.labels("events").set(self._log.events.n_queued)
        telemetry.QUEUED.labels("impressions").set(self._log.impressions.n_queued)
        resp.content_type = CONTENT_TYPE_LATEST
        resp.data = await asyncio.to_thread(telemetry.exposition)


class Document:
    """A document that never changes."""

    def __init__(self, content: bytes, content_type: str, policy: str | None = None) -> None:
        self._content = content
        self._content_type = content_type
        self._policy = policy

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.content_type = self._content_type
        resp.data = self._content
        if self._policy is not None:
            resp.set_header("content-security-policy", self._policy)


def troubles_of(mirror: Mirror, log: EventLog) -> dict[str, str]:
    """Return part -> what is wrong, for what no stage of a request would notice."""
    troubles = {}
    if mirror.degraded is not None:
        troubles["models"] = mirror.degraded
    if log.events.stalled or log.impressions.stalled:
        troubles["events"] = f"Kafka does not answer: {log.events.n_queued + log.impressions.n_queued} messages wait"
    return troubles
