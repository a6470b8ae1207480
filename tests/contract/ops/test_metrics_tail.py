"""`freshet metrics tail` on a real Kafka: what it prints, and how it ends."""

import json
import os
import signal
import subprocess
import sys
import time

import msgspec
import pytest
from confluent_kafka import Producer

from ops.stack.children import environment
from state.records import MetricResult
from state.settings import Settings
from state.topics import METRICS

MINUTE = 60_000


class Results:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer = Producer({"bootstrap.servers": settings.kafka_brokers})

    def tell(self, family: str, minute: int, partition: int, final: bool = False, **sums: int) -> None:
        start = minute * MINUTE
        result = MetricResult(family, start, start + MINUTE, {}, partition, sums, final)
        self._producer.produce(METRICS.full_name(self._settings), msgspec.json.encode(result), family)
        assert self._producer.flush(30) == 0


@pytest.fixture
def results(settings: Settings) -> Results:
    return Results(settings)


def tail(settings: Settings, *arguments: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "ops", "metrics", "tail", *arguments]
    env = os.environ | environment(settings)
    return subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_newest_values_are_printed_as_json_lines(settings: Settings, results: Results) -> None:
    """R28: partitions are added up, and only the last result of each counts."""
    for clicks in (1, 2):
        results.tell("slates", 10, 0, items=10 * clicks)
        results.tell("outcomes", 10, 0, click=clicks)
    results.tell("slates", 10, 1, final=True, items=20)
    results.tell("slates", 11, 1, final=True, items=50)
    results.tell("outcomes", 11, 1, final=True, click=5)
    ended = tail(settings, "--metric", "ctr", "--no-follow")
    out, errors = ended.communicate(timeout=120)
    assert ended.returncode == 0, errors
    assert [json.loads(line) for line in out.splitlines()] == [
        {"metric": "ctr", "start": 10 * MINUTE, "end": 11 * MINUTE, "by": {}, "value": 0.05, "final": False},
        {"metric": "ctr", "start": 11 * MINUTE, "end": 12 * MINUTE, "by": {}, "value": 0.1, "final": True},
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_follows_until_it_is_interrupted(settings: Settings, results: Results, number: signal.Signals) -> None:
    results.tell("events", 10, 0, click=1)
    process = tail(settings, "--metric", "events")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["value"] == 1
    results.tell("events", 10, 0, click=2)
    assert json.loads(process.stdout.readline())["value"] == 2
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in errors


def test_a_reader_that_has_seen_enough_ends_it(settings: Settings, results: Results) -> None:
    results.tell("events", 10, 0, click=1)
    process = tail(settings, "--metric", "events")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    begin = time.monotonic()
    number = 1
    while process.poll() is None and time.monotonic() - begin < 60:
        number += 1
        results.tell("events", 10, 0, click=number)
    assert process.poll() == 0
    assert process.stderr is not None
    assert "Error" not in process.stderr.read()
