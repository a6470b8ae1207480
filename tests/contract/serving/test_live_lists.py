"""R6: live lists of the server as it runs: two workers, a real Redis, and its end."""

import json
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx

from ops.stack import redis_server
from ops.stack.children import Child, free_ports, wait_until
from state.entries import CATALOGUE, USER_PROFILE
from state.records import Item, UserProfile
from state.redis_store import RedisStore
from state.settings import Settings
from state.store import Changes

_START = timedelta(seconds=60)


def lists(answer: httpx.Response) -> Iterator[dict[str, Any]]:
    """Yield the answers of a stream; `id` is the event's."""
    fields: dict[str, str] = {}
    for line in answer.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            if fields.get("event") == "list":
                yield json.loads(fields["data"]) | {"id": fields["id"]}
            fields = {}


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def test_changes_reach_each_worker_and_a_restart_ends_streams_whole(make_settings: Any, run_process: Any) -> None:
    """R6, R31: by feedback to any worker and by flows; `Last-Event-ID` is good for the next process."""
    settings: Settings = make_settings(workers=2)
    store = RedisStore(settings)
    changes = Changes()
    for n in range(50):
        changes.upsert(CATALOGUE, f"m{n}", Item(item_id=f"m{n}", genres=[f"G{n % 8}"]))
    store.commit(changes)
    address = f"http://{settings.host}:{settings.port}"
    path = "/v1/users/u1/recommendations/live"
    with httpx.Client(base_url=address, timeout=60) as client:
        with run_process("serving", settings) as process:
            process.wait_until(lambda: is_ready(client), _START)
            with client.stream("GET", path) as one, client.stream("GET", path) as two:
                streams = [lists(one), lists(two)]
                assert len({next(stream)["id"] for stream in streams}) == 1
                for n in range(3):  # a connection each, so that both workers get some
                    answer = httpx.post(
                        f"{address}/v1/users/u1/feedback", json={"item_id": f"m{n}", "type": "hide"}, timeout=20
                    )
                    assert answer.status_code == 202
                    for stream in streams:
                        while f"m{n}" in ids(shown := next(stream)):
                            pass
                profile = UserProfile(seen={"m9": int(time.time() * 1000)}, last_ts=int(time.time() * 1000))
                changes = Changes()
                changes.put(USER_PROFILE, "u1", profile)
                store.commit(changes)
                for stream in streams:
                    while "m9" in ids(shown := next(stream)):
                        pass
                last = shown["id"]
                process.stop()
                for stream in streams:
                    assert list(stream) == []  # whole: a connection that is cut raises an error
        with run_process("serving", settings) as process:
            process.wait_until(lambda: is_ready(client), _START)
            with client.stream("GET", path, headers={"last-event-id": last}) as answer:
                httpx.post(f"{address}/v1/users/u1/feedback", json={"item_id": "m20", "type": "hide"}, timeout=60)
                assert "m20" not in ids(next(lists(answer)))


def ids(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def test_an_outage_of_redis_is_outlived(make_settings: Any, run_process: Any) -> None:
    """R6, R10: the stream stays, and tells what came meanwhile."""
    (port,) = free_ports(1)
    settings: Settings = make_settings(redis_url=f"redis://127.0.0.1:{port}/0")
    folder = Path(settings.home).parent

    def redis() -> Child:
        server = Child("redis", redis_server.command(folder / "redis", port), folder / "redis.log")
        server.wait_until(lambda: redis_server.answers(settings.redis_url), _START)
        return server

    server = redis()
    try:
        changes = Changes()
        for n in range(50):
            changes.upsert(CATALOGUE, f"m{n}", Item(item_id=f"m{n}"))
        RedisStore(settings).commit(changes)
        address = f"http://{settings.host}:{settings.port}"
        with run_process("serving", settings) as process, httpx.Client(base_url=address, timeout=30) as client:
            process.wait_until(lambda: is_ready(client), _START)
            with client.stream("GET", "/v1/users/u1/recommendations/live") as answer:
                stream = lists(answer)
                next(stream)
                server.stop()
                client.post("/v1/users/u1/feedback", json={"item_id": "m1", "type": "hide"})
                while "m1" in ids(next(stream)):
                    pass
                server = redis()
                assert wait_until(lambda: client.get("/v1/users/u1/recommendations").json()["degraded"] is None, _START)
                changes = Changes()
                changes.put(USER_PROFILE, "u1", UserProfile(seen={"m9": 5}, last_ts=int(time.time() * 1000)))
                RedisStore(settings).commit(changes)
                while "m9" in ids(next(stream)):
                    pass
    finally:
        server.stop()
