"""Rules and experiments in all workers, and lists found again in the log: with a real Kafka and a real Redis."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from datetime import timedelta
from typing import Any

import httpx
import msgspec
from confluent_kafka import Consumer, TopicPartition

from ops.stack.children import Child, wait_until
from state.control import ControlDocument, version_field
from state.entries import CATALOGUE, CONTROL
from state.records import Item
from state.redis_store import RedisStore
from state.settings import Settings
from state.store import Changes
from state.topics import CONTROL as CONTROL_TOPIC

RunProcess = Callable[..., AbstractContextManager[Child]]
MakeSettings = Callable[..., Settings]

N_CONNECTIONS = 24
"""Each is some worker's."""
URL = "/v1/admin/rules"
EXPERIMENTS = "/v1/admin/experiments"
_START = timedelta(seconds=60)


def fill_catalogue(settings: Settings) -> None:
    changes = Changes()
    for n in range(120):
        changes.upsert(CATALOGUE, f"m{n}", Item(item_id=f"m{n}", genres=[f"G{n % 8}"]))
    RedisStore(settings).commit(changes)


def is_ready(settings: Settings) -> bool:
    try:
        return httpx.get(f"http://{settings.host}:{settings.port}/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def connections(settings: Settings, n: int) -> list[httpx.Client]:
    return [httpx.Client(base_url=f"http://{settings.host}:{settings.port}", timeout=60) for _ in range(n)]


def shown(client: httpx.Client) -> set[str]:
    return {item["item_id"] for item in client.get("/v1/popular", params={"limit": 100}).json()["items"]}


def start_experiment(client: httpx.Client) -> None:
    arms = [{"name": "default"}, {"name": "popularity", "parameters": {"ranker": "popularity"}}]
    plan = {"name": "ranking", "arms": arms, "overrides": {"tester": "popularity"}}
    assert client.post(EXPERIMENTS, json=plan).status_code == 201
    assert client.post(f"{EXPERIMENTS}/ranking/start", json={}).status_code == 200


def test_rules_hold_in_all_workers_and_outlive_a_restart(make_settings: MakeSettings, run_process: RunProcess) -> None:
    """R9: a block by one worker is soon kept by all; Kafka has every version."""
    settings = make_settings(workers=2)
    fill_catalogue(settings)
    blocked = {f"m{n}" for n in range(60)}
    with run_process("serving", settings) as process, ExitStack() as stack:
        process.wait_until(lambda: is_ready(settings), _START)
        clients = [stack.enter_context(client) for client in connections(settings, N_CONNECTIONS)]
        assert all(shown(client) & blocked for client in clients)
        rules = {"blocks": [{"name": "recall", "items": sorted(blocked)}]}
        answer = clients[0].put(URL, json={"rules": rules, "version": 0, "note": "batch 12"})
        assert answer.status_code == 200
        assert wait_until(lambda: not any(shown(client) & blocked for client in clients), timedelta(seconds=60))
        assert clients[1].get(URL).json()["rules"] == rules
        rolled_back = clients[2].post(f"{URL}/rollback", json={})
        assert (rolled_back.status_code, rolled_back.json()["version"]) == (200, 2)
        assert wait_until(lambda: all(shown(client) & blocked for client in clients), timedelta(seconds=60))
        assert clients[3].post(f"{URL}/rollback", json={"to": 1}).status_code == 200
    with run_process("serving", settings) as process:
        process.wait_until(lambda: is_ready(settings), _START)
        (client,) = connections(settings, 1)
        with client:
            assert not shown(client) & blocked
    assert RedisStore(settings).get_rows(CONTROL, ["rules"])["rules"].version == 3
    consumer = Consumer({"bootstrap.servers": settings.kafka_brokers, "group.id": "test"})
    consumer.assign([TopicPartition(CONTROL_TOPIC.full_name(settings), p, 0) for p in range(settings.partitions)])
    found: dict[str, ControlDocument] = {}

    def read_all() -> bool:
        for message in consumer.consume(10, 0.2):
            document = msgspec.msgpack.decode(message.value() or b"", type=ControlDocument)
            found[(message.key() or b"").decode()] = document
        return len(found) == 3

    try:
        assert wait_until(read_all, _START)
    finally:
        consumer.close()
    assert {field: document.version for field, document in found.items()} == {
        version_field("rules", n): n for n in (1, 2, 3)
    }


def test_arms_are_given_by_all_workers_and_outlive_a_restart(
    make_settings: MakeSettings, run_process: RunProcess
) -> None:
    """R21: started by one worker, soon assigned by all; stopped likewise."""
    settings = make_settings(workers=2)
    fill_catalogue(settings)

    def arms(client: httpx.Client) -> dict[str, str]:
        found: dict[str, str] = client.get("/v1/users/tester/recommendations").json()["experiments"]
        return found

    for first in (True, False):
        with run_process("serving", settings) as process, ExitStack() as stack:
            process.wait_until(lambda: is_ready(settings), _START)
            clients = [stack.enter_context(client) for client in connections(settings, N_CONNECTIONS)]
            if first:
                start_experiment(clients[0])
                arm = {"ranking": "popularity"}
                assert wait_until(lambda: all(arms(client) == arm for client in clients), timedelta(seconds=60))  # noqa: B023
                continue
            assert all(arms(client) == {"ranking": "popularity"} for client in clients)
            assert clients[1].post(f"{EXPERIMENTS}/ranking/stop", json={"reason": "enough"}).status_code == 200
            assert wait_until(lambda: not any(arms(client) for client in clients), timedelta(seconds=60))  # noqa: B023


def test_a_list_is_found_in_kafka_by_its_id(make_settings: MakeSettings, run_process: RunProcess) -> None:
    """R9: the identical list, among many others, of several partitions."""
    settings = make_settings(partitions=3)
    fill_catalogue(settings)
    with run_process("serving", settings) as process, ExitStack() as stack:
        process.wait_until(lambda: is_ready(settings), _START)
        (client,) = (stack.enter_context(client) for client in connections(settings, 1))
        start_experiment(client)
        answers: list[dict[str, Any]] = [
            client.get(f"/v1/users/u{n % 11}/recommendations", params={"limit": 20, "exploration": 0.5}).json()
            for n in range(200)
        ]
        for answer in (answers[0], answers[77], answers[199]):
            path = f"/v1/admin/requests/{answer['request_id']}"
            assert wait_until(lambda path=path: client.get(path).status_code == 200, _START)  # type: ignore[misc]
            again = client.get(path).json()
            assert set(again["experiments"]) == {"ranking"}
            for field in ("items", "user_id", "surface", "model", "experiments", "degraded"):
                assert again[field] == answer[field]
