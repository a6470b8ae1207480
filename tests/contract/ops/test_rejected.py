"""`freshet rejected` beside a running `clean`: what was refused is mended, fed again, and counted once."""

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta

import msgspec
from confluent_kafka import Producer
from typer.testing import CliRunner

from flows.common.kafka_log import KafkaLog
from ops.cli import app
from ops.stack.children import Child, environment, wait_until
from state.records import CleanEvent
from state.settings import Settings
from state.topics import CLEAN, EVENTS, ITEMS, PARTITIONER, REJECTED, Topic

RunProcess = Callable[..., AbstractContextManager[Child]]

NOW = int(time.time() * 1000)


def send(settings: Settings, *events: dict[str, object]) -> None:
    producer = Producer({"bootstrap.servers": settings.kafka_brokers, "partitioner": PARTITIONER})
    for event in events:
        producer.produce(EVENTS.full_name(settings), json.dumps(event), str(event["user_id"]))
    assert producer.flush(30) == 0


def event(number: int, user: str = "anna", **fields: object) -> dict[str, object]:
    return {"event_id": f"e{number}", "type": "click", "user_id": user, "item_id": "i1", "ts": NOW} | fields


def rejected(settings: Settings, *arguments: str) -> dict[str, object]:
    result = CliRunner().invoke(app, ["rejected", "--json", *arguments], env=environment(settings))
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def messages(settings: Settings, topic: Topic) -> list[bytes]:
    with KafkaLog(settings, "test") as log:
        return [
            message.value or b""
            for partition in range(settings.partitions)
            for message in log.read(topic, partition, *log.bounds(topic, partition))
        ]


def cleaned(settings: Settings) -> list[str]:
    found = [msgspec.msgpack.decode(value, type=CleanEvent) for value in messages(settings, CLEAN)]
    return sorted(event.event_id for event in found if event.type != "erase")


def test_an_item_is_superseded_by_a_later_one_only(settings: Settings) -> None:
    """R23: not by the refused one itself, which is in the topic with the time that its letter has."""
    items, value = ITEMS.full_name(settings), b'{"item_id":"i1","price":-3}'
    headers = {"reason": "Expected `float` >= 0.0", "field": "price", "source": f"{items}/0/0"}
    producer = Producer({"bootstrap.servers": settings.kafka_brokers})
    producer.produce(items, value, "i1", partition=0, timestamp=NOW)
    producer.produce(REJECTED.full_name(settings), value, partition=0, timestamp=NOW, headers=headers)
    assert producer.flush(30) == 0
    fix = ("--reason", "price", "--retry", "--set", "price=0")
    assert rejected(settings, *fix)["outcomes"] == {"fed again": 1}
    mended = {"item_id": "i1", "price": 0}
    assert wait_until(lambda: mended in map(json.loads, messages(settings, ITEMS)), timedelta(seconds=60))


def test_letters_are_mended_and_counted_once(settings: Settings, run_process: RunProcess) -> None:
    """R23: by reason; a retry feeds each once, however often; nothing of an erased user comes back."""
    with run_process("flows.clean", settings):
        seconds = NOW // 1000
        bad_times = [event(1, ts=seconds), event(2, user="bert", ts=seconds), event(3, user="carl", ts=seconds)]
        send(settings, event(0), *bad_times, event(4, colour="red"))
        assert wait_until(lambda: len(messages(settings, REJECTED)) == 4, timedelta(seconds=60))
        send(settings, event(9, user="carl", type="erase", item_id=None))
        assert wait_until(lambda: len(messages(settings, CLEAN)) == 2, timedelta(seconds=60))

        shown = rejected(settings, "--limit", "2", "--since", "1h")
        assert shown["n_letters"] == 4
        assert sorted((count["field"], count["n"]) for count in shown["reasons"]) == [("colour", 1), ("ts", 3)]  # type: ignore[attr-defined]
        assert len(shown["samples"]) == 2  # type: ignore[arg-type]

        unmended = rejected(settings, "--reason", "before 1990", "--retry")
        assert unmended["outcomes"] == {"still refused": 3}
        fix = ("--reason", "before 1990", "--retry", "--set", f"ts={NOW}")
        assert rejected(settings, *fix)["outcomes"] == {"fed again": 2, "superseded": 1}
        assert rejected(settings, *fix)["outcomes"] == {"fed again before": 2, "superseded": 1}
        assert rejected(settings, "--reason", "colour", "--retry", "--drop", "colour")["outcomes"] == {"fed again": 1}
        assert wait_until(lambda: cleaned(settings) == ["e0", "e1", "e2", "e4"], timedelta(seconds=60))
        assert rejected(settings)["n_fed_again"] == 3
