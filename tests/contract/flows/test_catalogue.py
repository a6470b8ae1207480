"""`python -m flows.catalogue` on a real Kafka and a real Redis."""

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta

import msgspec
import pytest
import redis
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from ops.stack.children import Child
from state.control import ControlDocument, version_field
from state.entries import CATALOGUE, CONTROL, CONTROL_HISTORY
from state.redis_store import RedisStore
from state.settings import Settings
from state.topics import CONTROL as CONTROL_TOPIC
from state.topics import ITEMS, PARTITIONER, REJECTED

RunProcess = Callable[..., AbstractContextManager[Child]]


class Items:
    """Writes to `items` and reads the table."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer = Producer({"bootstrap.servers": settings.kafka_brokers, "partitioner": PARTITIONER})
        self._store = RedisStore(settings)

    def send(self, item_id: str, value: bytes | None) -> None:
        self._producer.produce(ITEMS.full_name(self._settings), value, item_id.encode())
        self._producer.poll(0)

    def put(self, item_id: str, **fields: object) -> None:
        self.send(item_id, json.dumps({"item_id": item_id} | fields).encode())

    def flush(self) -> None:
        assert self._producer.flush(30) == 0

    def titles(self) -> dict[str, str]:
        return {name: item.title for name, item in self._store.scan_rows(CATALOGUE)}

    def wait_for(self, expected: dict[str, str], timeout_s: float = 60.0) -> None:
        """Wait until the table is as expected."""
        begin = time.monotonic()
        while self.titles() != expected and time.monotonic() - begin < timeout_s:
            pass
        assert self.titles() == expected


@pytest.fixture
def items(settings: Settings) -> Items:
    return Items(settings)


def dead_letters(settings: Settings, n_letters: int) -> list[Message]:
    consumer = Consumer({"bootstrap.servers": settings.kafka_brokers, "group.id": "test"})
    consumer.assign([TopicPartition(REJECTED.full_name(settings), p, 0) for p in range(settings.partitions)])
    letters: list[Message] = []
    end = time.monotonic() + 60
    while len(letters) < n_letters and time.monotonic() < end:
        letters += consumer.consume(100, 0.2)
    return letters


def test_items_come_change_and_go(settings: Settings, items: Items, run_process: RunProcess) -> None:
    with run_process("flows.catalogue", settings) as process:
        items.put("a", title="old")
        items.put("b", title="b")
        items.flush()
        items.wait_for({"a": "old", "b": "b"})
        for n in range(20):
            items.put("a", title=f"new {n}")
            items.flush()
            items.wait_for({"a": f"new {n}", "b": "b"})
        items.send("b", None)
        items.send("never was", None)
        items.flush()
        items.wait_for({"a": "new 19"})
        assert process.stop() == 0


def test_an_invalid_item_is_rejected_with_its_reason_and_the_others_count(
    settings: Settings, items: Items, run_process: RunProcess
) -> None:
    """R23"""
    with run_process("flows.catalogue", settings):
        items.put("bad", price=-1)
        items.send("broken", b"\xff{")
        items.put("good", title="good")
        items.flush()
        items.wait_for({"good": "good"})
        letters = dead_letters(settings, 2)
    found = {letter.key(): (letter.value(), dict(letter.headers())) for letter in letters}
    assert set(found) == {b"bad", b"broken"}
    value, headers = found[b"bad"]
    assert json.loads(value) == {"item_id": "bad", "price": -1}
    assert headers["field"] == b"price"
    assert b">= 0" in headers["reason"]
    assert headers["source"].decode().startswith(ITEMS.full_name(settings) + "/")
    assert found[b"broken"][0] == b"\xff{"


def test_a_killed_flow_goes_on(settings: Settings, items: Items, run_process: RunProcess) -> None:
    """R31; `freshet bench recovery` measures how soon."""
    with run_process("flows.catalogue", settings) as process:
        items.put("a", title="a")
        items.flush()
        items.wait_for({"a": "a"})
        process.kill()
    items.put("b", title="b")
    items.flush()
    with run_process("flows.catalogue", settings):
        items.wait_for({"a": "a", "b": "b"})


def test_an_emptied_redis_is_filled_again(settings: Settings, items: Items, run_process: RunProcess) -> None:
    with run_process("flows.catalogue", settings) as process:
        for n in range(100):
            items.put(f"i{n}", title=f"t{n}")
        items.send("i0", None)
        items.flush()
        expected = {f"i{n}": f"t{n}" for n in range(1, 100)}
        items.wait_for(expected)
        assert process.stop() == 0
    client = redis.Redis.from_url(settings.redis_url)
    client.delete(*client.scan_iter(f"{settings.namespace}:*"))
    assert items.titles() == {}
    with run_process("flows.catalogue", settings):
        items.wait_for(expected)
        items.put("new", title="new")
        items.flush()
        items.wait_for(expected | {"new": "new"})


def test_a_large_catalogue_is_read_whole(settings: Settings, items: Items, run_process: RunProcess) -> None:
    n_items = 20_000
    for n in range(n_items):
        items.put(f"i{n}", title=f"t{n}", genres=["Drama", "Comedy"], description="d" * 200)
    items.flush()
    with run_process("flows.catalogue", settings):
        items.wait_for({f"i{n}": f"t{n}" for n in range(n_items)})


def test_an_emptied_redis_gets_the_control_documents_back(settings: Settings, run_process: RunProcess) -> None:
    """R9: Kafka holds every version of the rules."""
    producer = Producer({"bootstrap.servers": settings.kafka_brokers, "partitioner": PARTITIONER})
    documents = [ControlDocument("rules", n, b"{}", "anna", n) for n in (1, 2, 3)]
    for document in documents:
        name = version_field("rules", document.version)
        producer.produce(CONTROL_TOPIC.full_name(settings), msgspec.msgpack.encode(document), name)
    assert producer.flush(30) == 0
    store = RedisStore(settings)
    with run_process("flows.catalogue", settings) as process:
        process.wait_until(lambda: bool(store.get_rows(CONTROL, ["rules"])), timedelta(seconds=30))
        process.stop()
    assert store.get_rows(CONTROL, ["rules"]) == {"rules": documents[-1]}
    assert dict(store.scan_rows(CONTROL_HISTORY)) == {version_field("rules", d.version): d for d in documents}
