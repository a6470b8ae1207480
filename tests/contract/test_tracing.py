"""Traces, from a request to what is learned from it: real processes, and a receiver that speaks OTLP over HTTP."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ops.stack.children import wait_until
from state.entries import CATALOGUE
from state.records import Item
from state.redis_store import RedisStore
from state.settings import Settings
from state.store import Changes
from tests.conftest import MakeSettings, RunProcess

PATIENCE = timedelta(seconds=60)
OURS, ANOTHERS = "0af7651916cd43dd8448eb211c80319c", "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "b7ad6b7169203331"


class Told(NamedTuple):
    """One span, as it was received."""

    service: str
    name: str
    trace: str
    span: str
    parent: str
    links: tuple[str, ...]
    attributes: dict[str, str]


class Receiver:
    """What a collector is to the exporters."""

    def __init__(self) -> None:
        self.spans: list[Told] = []
        self.requests: list[str] = []

    def take(self, path: str, body: bytes) -> None:
        self.requests.append(path)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = next(a.value.string_value for a in resource.resource.attributes if a.key == "service.name")
            for scope in resource.scope_spans:
                self.spans += [
                    Told(
                        service,
                        span.name,
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        tuple(link.trace_id.hex() for link in span.links),
                        {a.key: a.value.string_value for a in span.attributes},
                    )
                    for span in scope.spans
                ]

    def find(self, service: str, trace: str, name: str | None = None) -> list[Told]:
        return [s for s in self.spans if s.service == service and s.trace == trace and name in (None, s.name)]


@pytest.fixture
def receiver() -> Iterator[tuple[Receiver, str]]:
    received = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.take(self.path, self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield received, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def fill_catalogue(settings: Settings) -> None:
    changes = Changes()
    for n in range(40):
        changes.upsert(CATALOGUE, f"m{n}", Item(item_id=f"m{n}", genres=[f"G{n % 4}"]))
    RedisStore(settings).commit(changes)


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def asked(client: httpx.Client, trace: str, sampled: str = "01", user: str = "anna") -> dict[str, Any]:
    header = {"traceparent": f"00-{trace}-{CALLER}-{sampled}"}
    answer = client.get(f"/v1/users/{user}/recommendations", params={"limit": 5}, headers=header)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def clicked(client: httpx.Client, listed: dict[str, Any], trace: str) -> None:
    event = {
        "event_id": f"click-{trace}",
        "type": "click",
        "user_id": "anna",
        "item_id": listed["items"][1]["item_id"],
        "request_id": listed["request_id"],
        "ts": int(time.time() * 1000),
    }
    header = {"traceparent": f"00-{trace}-{CALLER}-01"}
    assert client.post("/v1/events", json=event, headers=header).status_code == 202


def test_from_the_request_to_the_learned_example_is_one_trace(
    make_settings: MakeSettings,
    run_process: RunProcess,
    receiver: tuple[Receiver, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """R28: the caller's trace holds the request, its stages, its impression, the example and what learned from it."""
    received, address = receiver
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    settings = make_settings(partitions=2, traces=address, trace_share=0)
    fill_catalogue(settings)
    with ExitStack() as stack:
        serving = stack.enter_context(run_process("serving", settings))
        for flow in ("clean", "attribution", "learn"):
            stack.enter_context(run_process(f"flows.{flow}", settings))
        client = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{settings.port}", timeout=60))
        serving.wait_until(lambda: is_ready(client), PATIENCE)
        asked(client, "1" * 32, sampled="00", user="berta")  # a list of anna's could be repeated under load
        client.get("/v1/popular")  # of a share of 0
        listed = asked(client, OURS)
        clicked(client, listed, ANOTHERS)
        assert wait_until(lambda: bool(received.find("learn", OURS)), PATIENCE), received.spans
        assert wait_until(lambda: bool(received.find("learn", ANOTHERS)), PATIENCE), received.spans

    (request,) = received.find("serving", OURS, "GET /v1/users/{user_id}/recommendations")
    assert request.parent == CALLER
    stages = [span.name for span in received.find("serving", OURS) if span.parent == request.span]
    assert {"user", "retrieve", "rank", "select", "log impression"} <= set(stages), stages
    (impression,) = received.find("serving", OURS, "log impression")
    assert impression.attributes["freshet.request_id"] == listed["request_id"]
    (example,) = received.find("attribution", OURS)
    assert example.parent == impression.span
    assert example.attributes["messaging.destination.name"] == "impressions"
    assert example.links == (ANOTHERS,)
    (learned,) = received.find("learn", OURS)
    assert learned.parent == example.span
    assert learned.attributes["messaging.destination.name"] == "examples"

    (posted,) = received.find("serving", ANOTHERS)
    (cleaned,) = received.find("clean", ANOTHERS)
    assert (posted.name, cleaned.parent) == ("POST /v1/events", posted.span)
    assert [span.parent for span in received.find("learn", ANOTHERS)] == [cleaned.span]

    assert {span.trace for span in received.spans} == {OURS, ANOTHERS}  # no other caller asked for a trace
    assert not [span for span in received.spans if "anna" in str(span)]
    assert set(received.requests) == {"/v1/traces"}


def test_nothing_of_it_is_loaded_when_it_is_off() -> None:
    """R28: tracing that is off costs no import, so that it cannot cost a request anything."""
    code = """
import sys
import serving.app, flows.clean.__main__, flows.attribution.__main__, flows.learn.__main__
print([name for name in sys.modules if name.startswith(("opentelemetry.exporter", "state.tracing", "serving.tracing"))])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
