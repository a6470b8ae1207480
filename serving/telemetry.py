"""Prometheus metrics of serving, right also when several gunicorn workers share them."""

import os
import time
from functools import cache

import falcon.asgi
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

MULTIPROCESS_DIR = "PROMETHEUS_MULTIPROC_DIR"
_BUCKETS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

REQUEST_SECONDS = Histogram(
    "freshet_request_seconds", "Requests answered", ["method", "route", "status"], buckets=_BUCKETS
)
STAGE_SECONDS = Histogram(
    "freshet_stage_seconds", "Time in a pipeline's stage, of a sample of lists", ["surface", "stage"], buckets=_BUCKETS
)
STAGES_SKIPPED = Counter("freshet_stage_skipped", "Stages that failed or were late", ["surface", "stage"])
RUNGS = Counter("freshet_degraded_lists", "Lists that were less than full, by rung of the ladder", ["surface", "rung"])
USER_READS = Counter(
    "freshet_feature_store_reads", "User states asked for: hit, miss (unknown user) or error", ["result"]
)
MESSAGES = Counter(
    "freshet_messages", "Events and items posted: acknowledged by Kafka, pending or rejected", ["result"]
)
IMPRESSIONS = Counter("freshet_impressions", "Lists logged", ["result"])
LIVE = Gauge("freshet_live_lists", "Live lists that are open", multiprocess_mode="livesum")
REPLICA_ITEMS = Gauge("freshet_replica_items", "Servable items in memory", multiprocess_mode="min")
REPLICA_FRESH = Gauge("freshet_replica_fresh", "1 while the memory follows Redis", multiprocess_mode="min")
QUEUED = Gauge("freshet_kafka_queued", "Messages that wait for Kafka", ["outbox"], multiprocess_mode="livesum")


@cache
def _stage(surface: str, stage: str) -> Histogram:
    return STAGE_SECONDS.labels(surface, stage)


def observe_stage(surface: str, stage: str, seconds: float, skipped: bool) -> None:
    """Note one run of a stage, or that it was skipped."""
    if skipped:
        STAGES_SKIPPED.labels(surface, stage).inc()
    else:
        _stage(surface, stage).observe(seconds)


@cache
def rungs(surface: str, told: str) -> Counter:
    """Return the counter of lists of a surface that came to this rung."""
    return RUNGS.labels(surface, told)


@cache
def user_reads(result: str) -> Counter:
    """Return the counter of user states with this result."""
    return USER_READS.labels(result)


@cache
def impressions(result: str) -> Counter:
    """Return the counter of lists with this result."""
    return IMPRESSIONS.labels(result)


@cache
def _request(method: str, route: str, status: int) -> Histogram:
    return REQUEST_SECONDS.labels(method, route, str(status))


class RequestTimer:
    """Falcon middleware: every request by route, never by path, so that ids are no labels."""

    async def process_request(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        req.context.started = time.perf_counter()

    async def process_response(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, resource: object, req_succeeded: bool
    ) -> None:
        seconds = time.perf_counter() - req.context.started
        _request(req.method, req.uri_template or "none", resp.status_code).observe(seconds)


def exposition() -> bytes:
    """Return the metrics of all workers in Prometheus' text format."""
    if MULTIPROCESS_DIR not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
