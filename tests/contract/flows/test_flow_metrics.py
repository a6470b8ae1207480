"""Flows tell Prometheus what they read, on a real Kafka; each kind of client that a flow has."""

import json
import time
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager

import msgspec
import pytest
from confluent_kafka import Producer

from ops.stack.children import Child, free_ports
from state.records import CleanEvent
from state.settings import Settings
from state.topics import CLEAN, PARTITIONER

RunProcess = Callable[..., AbstractContextManager[Child]]
N_EVENTS = 40


@pytest.mark.parametrize("flow", ["metrics", "lake", "features"])
def test_a_flow_tells_what_it_has_read_and_that_it_is_not_behind(
    flow: str, make_settings: Callable[..., Settings], run_process: RunProcess
) -> None:
    """R28; Quix Streams, a plain consumer, Bytewax."""
    (port,) = free_ports(1)
    settings = make_settings(flow_metrics_port=port, log_format="json")
    topic = CLEAN.full_name(settings)
    producer = Producer({"bootstrap.servers": settings.kafka_brokers, "partitioner": PARTITIONER})
    for number in range(N_EVENTS):
        event = CleanEvent(f"e{number}", "click", f"u{number}", "i", 1_780_000_000_000 + number)
        producer.produce(topic, msgspec.msgpack.encode(event), event.user_id.encode())
    assert producer.flush(30) == 0

    def told() -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    with run_process(f"flows.{flow}", settings) as process:
        wanted = [
            f'freshet_flow_messages_read_total{{topic="{topic}"}} {N_EVENTS}.0',
            f'freshet_flow_up{{flow="{flow}"}} 1.0',
        ]
        wanted += [f'freshet_flow_lag{{partition="{partition}",topic="{topic}"}} 0.0' for partition in range(4)]
        begin = time.monotonic()
        while not all(line in told() for line in wanted) and time.monotonic() - begin < 60:
            pass
        lines = told().splitlines()
        assert [line for line in wanted if line not in lines] == []
        process.stop()
    records = [json.loads(line) for line in process.log.read_text().splitlines() if line.startswith("{")]
    assert {"info"} <= {record["level"] for record in records}
