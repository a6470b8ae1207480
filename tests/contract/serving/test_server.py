"""The server as it runs, with a real Kafka and a real Redis, and without them; no flow runs in any of these tests."""

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import numpy as np
import pytest
from confluent_kafka import Consumer

from online_models.engine.inputs import N_INPUTS
from ops.stack import kafka as kafka_server
from ops.stack import redis_server
from ops.stack.children import Child, free_ports, wait_until
from serving.pipelines.ladder import BUDGET_MS
from state import topics
from state.entries import CATALOGUE
from state.records import Event, Impression, Item
from state.redis_store import RedisStore
from state.settings import Settings
from state.store import Changes
from tests.contract.serving.slow_proxy import slow_proxy

Serve = Callable[[Settings], AbstractContextManager[httpx.Client]]

N_ITEMS = 120
_START = timedelta(seconds=30)


@pytest.fixture
def serve(run_process: Any) -> Serve:
    @contextmanager
    def running(settings: Settings) -> Iterator[httpx.Client]:
        with (
            run_process("serving", settings) as process,
            httpx.Client(base_url=f"http://{settings.host}:{settings.port}", timeout=60) as client,
        ):
            process.wait_until(lambda: is_ready(client), _START)
            yield client

    return running


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def fill_catalogue(settings: Settings) -> None:
    changes = Changes()
    for n in range(N_ITEMS):
        changes.upsert(CATALOGUE, f"m{n}", Item(item_id=f"m{n}", genres=[f"G{n % 8}"]))
    RedisStore(settings).commit(changes)


def recommended(client: httpx.Client, user: str, limit: int = 20) -> dict[str, Any]:
    answer = client.get(f"/v1/users/{user}/recommendations", params={"limit": limit})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def ids(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def hide(client: httpx.Client, user: str, item: str) -> dict[str, Any]:
    answer = client.post(f"/v1/users/{user}/feedback", json={"item_id": item, "type": "hide"})
    assert answer.status_code == 202, answer.text
    told: dict[str, Any] = answer.json()
    return told


def post_event(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    event = {"type": "click", "user_id": "u1", "item_id": "m1", "ts": int(time.time() * 1000)} | fields
    answer = client.post("/v1/events", json=event)
    assert answer.status_code == 202, answer.text
    told: dict[str, Any] = answer.json()
    return told


def taken(answer: httpx.Response) -> dict[str, Any]:
    """Return what became of a batch, but for how many of it a busy broker has not taken within a second."""
    told: dict[str, Any] = answer.json()
    assert 0 <= told.pop("pending") <= told["accepted"]
    return told


def n_queued(client: httpx.Client) -> float:
    """Return how many messages wait for Kafka."""
    lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith("freshet_kafka_queued{")]
    assert lines
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def consumed(settings: Settings, topic: topics.Topic, n_messages: int) -> list[Any]:
    consumer = Consumer(
        {"bootstrap.servers": settings.kafka_brokers, "group.id": "test", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([topic.full_name(settings)])
    messages: list[Any] = []
    try:
        assert wait_until(lambda: len(messages.extend(consumer.consume(100, 0.2)) or messages) >= n_messages, _START)
    finally:
        consumer.close()
    return messages


def test_a_thousand_hides_are_gone_from_the_very_next_list(settings: Settings, serve: Serve) -> None:
    """R5: with the flows stopped, of random users and items, as feedback and as events."""
    fill_catalogue(settings)
    chance = random.Random(5)
    stale = 0
    with serve(settings) as client:
        for n in range(1000):
            user = f"u{chance.randrange(50)}"
            item = chance.choice(ids(recommended(client, user)))
            if n % 2:
                hide(client, user, item)
            else:
                post_event(client, event_id=f"e{n}", type="hide", user_id=user, item_id=item)
            stale += item in ids(recommended(client, user, limit=100))
    assert stale == 0


def test_a_slow_redis_degrades_lists_and_fails_none(make_settings: Any, serve: Serve, redis_url: str) -> None:
    """R5, R10: every answer of Redis is 200 ms late."""
    with slow_proxy(urlsplit(redis_url).port or 6379) as proxy:
        settings = make_settings(redis_url=f"redis://127.0.0.1:{proxy.port}/0", request_budget_ms=BUDGET_MS)
        fill_catalogue(settings)
        with serve(settings) as client:
            hide(client, "u1", "m7")
            assert wait_until(lambda: recommended(client, "u1")["degraded"] is None, _START)
            proxy.delay_s = 0.2
            assert wait_until(lambda: recommended(client, "u1")["degraded"], _START)
            for n in range(60):
                answer = recommended(client, f"u{n % 3}")
                assert answer["degraded"]["user"]
                assert len(answer["items"]) == 20
            assert "store" in hide(client, "u1", "m8")["degraded"]
            assert not {"m7", "m8"} & set(ids(recommended(client, "u1", 100)))
            proxy.delay_s = 0.0
            assert wait_until(lambda: recommended(client, "u1")["degraded"] is None, _START)
            assert client.get("/v1/users/u1").json()["hidden"] == ["m7", "m8"]


def test_a_slow_sender_of_too_much_is_answered_and_not_cut_off(settings: Settings, serve: Serve) -> None:
    """An answer before the body is read would reach the sender as a reset connection."""
    part = b"x" * 500_000
    head = f"POST /v1/events HTTP/1.1\r\nhost: freshet\r\nconnection: close\r\ncontent-length: {6 * len(part)}\r\n\r\n"
    with serve(settings), socket.create_connection((settings.host, settings.port), timeout=60) as sender:
        sender.sendall(head.encode())
        for _ in range(6):
            sender.sendall(part)
            threading.Event().wait(0.02)
        assert sender.recv(12) == b"HTTP/1.1 413"


def test_what_is_posted_and_shown_is_in_kafka(settings: Settings, serve: Serve) -> None:
    """R13, R22, R23"""
    fill_catalogue(settings)
    now_ms = int(time.time() * 1000)
    events = [
        {"event_id": f"e{n}", "type": "click", "user_id": f"u{n % 3}", "item_id": f"m{n}", "ts": now_ms}
        for n in range(300)
    ]
    with serve(settings) as client:
        answer = client.post("/v1/events", json={"events": events})
        assert (answer.status_code, taken(answer)) == (202, {"accepted": 300, "rejected": []})
        answer = client.put("/v1/items", json={"items": [{"item_id": "new"}, {"item_id": "newer"}]})
        assert (answer.status_code, taken(answer)) == (202, {"accepted": 2, "rejected": []})
        shown = recommended(client, "u1")
        oversized = client.post("/v1/events", content=b'{"events":["' + b"x" * 3_000_000 + b'"]}')
        assert (oversized.status_code, oversized.headers["content-type"]) == (413, "application/problem+json")
    messages = consumed(settings, topics.EVENTS, 300)
    assert sorted(msgspec.json.decode(m.value(), type=Event).event_id for m in messages) == sorted(
        e["event_id"] for e in events
    )
    assert all(m.key().decode() == msgspec.json.decode(m.value(), type=Event).user_id for m in messages)
    assert {len({m.partition() for m in messages if m.key() == key}) for key in (b"u0", b"u1", b"u2")} == {1}
    assert {m.key() for m in consumed(settings, topics.ITEMS, 2)} == {b"new", b"newer"}
    (message,) = consumed(settings, topics.IMPRESSIONS, 1)
    impression = msgspec.msgpack.decode(message.value(), type=Impression)
    assert (message.key(), impression.request_id) == (b"u1", shown["request_id"])
    assert impression.items == ids(shown)
    features = np.frombuffer(impression.features, "<f4").reshape(-1, N_INPUTS)
    assert len(features) == len(impression.items) + 1  # and their mean


def test_redis_may_stop_and_come_back(make_settings: Any, serve: Serve, tmp_path: Path) -> None:
    """R5, R10: no 5xx, no waiting, hidden items stay hidden, feedback survives; and a start without Redis."""
    (port,) = free_ports(1)
    settings = make_settings(redis_url=f"redis://127.0.0.1:{port}/0")

    def redis() -> Child:
        server = Child("redis", redis_server.command(tmp_path / "redis", port), tmp_path / "redis.log")
        server.wait_until(lambda: redis_server.answers(settings.redis_url), _START)
        return server

    server = redis()
    try:
        fill_catalogue(settings)
        with serve(settings) as client:
            hide(client, "u1", "m7")
            assert "m7" not in ids(recommended(client, "u1", 100))
            server.stop()
            for _ in range(200):
                answer = recommended(client, "u1", 100)
                assert answer["degraded"]["user"]
                assert "m7" not in ids(answer)
                assert len(answer["items"]) == 100
            assert "store" in hide(client, "u1", "m8")["degraded"]
            assert not {"m7", "m8"} & set(ids(recommended(client, "u1", 100)))
            server = redis()
            assert wait_until(lambda: recommended(client, "u1")["degraded"] is None, _START)
            assert not {"m7", "m8"} & set(ids(recommended(client, "u1", 100)))
            assert client.get("/v1/users/u1").json()["hidden"] == ["m7", "m8"]
        server.stop()
        with serve(settings) as client:
            assert client.get("/health/ready").json()["origin"] == "disk"
            answer = recommended(client, "u2")
            assert len(answer["items"]) == 20
            assert {"models", "user"} <= set(answer["degraded"])
    finally:
        server.stop()


def test_without_kafka_lists_go_on_and_events_wait(make_settings: Any, serve: Serve) -> None:
    """R10"""
    (nobody_there,) = free_ports(1)
    settings = make_settings()
    fill_catalogue(settings)
    with serve(settings.model_copy(update={"kafka_brokers": f"127.0.0.1:{nobody_there}"})) as client:
        event = {"event_id": "e", "type": "click", "user_id": "u", "item_id": "m1", "ts": int(time.time() * 1000)}
        answer = client.post("/v1/events", json=event)
        assert (answer.status_code, answer.json()) == (202, {"accepted": 1, "rejected": [], "pending": 1})
        assert wait_until(lambda: "events" in (recommended(client, "u1")["degraded"] or {}), _START)
        assert hide(client, "u1", "m3")["pending"] == 1
        answer_list = recommended(client, "u1", 100)
        assert "m3" not in ids(answer_list)
        assert len(answer_list["items"]) == 100


def test_a_kafka_that_stops_is_told_and_what_waited_arrives(settings: Settings, serve: Serve, tmp_path: Path) -> None:
    """R10, R23: no 5xx, and nothing that was accepted is lost."""
    port, controller_port = free_ports(2)
    settings = settings.model_copy(update={"kafka_brokers": f"127.0.0.1:{port}"})

    def kafka() -> Child:
        broker = Child("kafka", kafka_server.command(tmp_path / "kafka", port, controller_port), tmp_path / "kafka.log")
        admin = kafka_server.admin(settings.kafka_brokers)
        broker.wait_until(lambda: kafka_server.answers(admin), 4 * _START)
        return broker

    broker = kafka()
    try:
        kafka_server.create_topics(settings)
        fill_catalogue(settings)
        with serve(settings) as client:
            post_event(client, event_id="before")
            assert wait_until(lambda: n_queued(client) == 0, _START)
            broker.kill()
            assert post_event(client, event_id="after")["pending"] == 1
            assert wait_until(lambda: "events" in (recommended(client, "u1")["degraded"] or {}), _START)
            for n in range(60):
                answer = recommended(client, f"u{n % 3}")
                assert answer["degraded"]["events"]
                assert len(answer["items"]) == 20
            broker = kafka()
            assert wait_until(lambda: recommended(client, "u1")["degraded"] is None, _START)
            events = [msgspec.json.decode(m.value(), type=Event) for m in consumed(settings, topics.EVENTS, 2)]
            assert [event.event_id for event in events] == ["before", "after"]
            assert wait_until(lambda: post_event(client, event_id="then")["pending"] == 0, _START)
    finally:
        broker.kill()


def test_metrics_are_those_of_all_workers(make_settings: Any, serve: Serve) -> None:
    """R28"""
    settings = make_settings(workers=2)
    fill_catalogue(settings)
    n_requests = 60
    with serve(settings) as client:
        for n in range(n_requests):
            # A connection each, so that both workers get some.
            with httpx.Client(base_url=client.base_url, timeout=60) as other:
                recommended(other, f"u{n}")
        line = next(
            line
            for line in client.get("/metrics").text.splitlines()
            if line.startswith("freshet_request_seconds_count") and "recommendations" in line
        )
    assert float(line.rsplit(" ", 1)[1]) == n_requests
