"""Prometheus metrics of flows."""

import logging
import urllib.request
from collections.abc import Iterator

import msgspec
import pytest
from prometheus_client import REGISTRY

from flows.common import telemetry
from ops.stack.children import free_ports
from state.settings import Settings


def told(topic: str, **partitions: dict[str, int]) -> str:
    named = {name.removeprefix("p"): numbers for name, numbers in partitions.items()}
    return msgspec.json.encode({"name": "c", "topics": {topic: {"topic": topic, "partitions": named}}}).decode()


def sample(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def test_a_clients_statistics_become_lag_and_counts() -> None:
    """R28: a transaction's last record is read by nobody, and is no lag."""
    tell = telemetry.teller()
    tell(told("t1", p0={"app_offset": 5, "ls_offset": 9, "rxmsgs": 5}, p1={"app_offset": -1001, "ls_offset": 3}))
    tell(told("t1", p0={"app_offset": 8, "eof_offset": 9, "ls_offset": 9, "rxmsgs": 8, "txmsgs": 2}))
    assert sample("freshet_flow_lag", topic="t1", partition="0") == 0
    assert sample("freshet_flow_lag", topic="t1", partition="1") is None
    assert sample("freshet_flow_messages_read_total", topic="t1") == 8
    assert sample("freshet_flow_messages_written_total", topic="t1") == 2
    tell(told("t1", p0={"app_offset": 8, "eof_offset": 9, "ls_offset": 12, "rxmsgs": 8, "txmsgs": 2}))
    assert sample("freshet_flow_lag", topic="t1", partition="0") == 3


@pytest.fixture
def root_handlers() -> Iterator[None]:
    before = list(logging.getLogger().handlers)
    yield
    logging.getLogger().handlers[:] = before


@pytest.mark.usefixtures("root_handlers")
def test_flows_of_one_machine_share_the_setting() -> None:
    """R28: each takes the next free port."""
    (first,) = free_ports(1)
    settings = Settings(flow_metrics_port=first)
    port = telemetry.expose(settings, "one")
    other = telemetry.expose(settings, "other")
    assert port is not None
    assert other is not None
    assert first <= port < other
    logging.getLogger("anything").warning("something")
    with urllib.request.urlopen(f"http://127.0.0.1:{other}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    assert 'freshet_flow_up{flow="one"} 1.0' in text
    assert 'freshet_flow_logged_total{level="warning"}' in text
    assert "process_resident_memory_bytes" in text


def test_it_is_off_unless_asked_for() -> None:
    assert telemetry.expose(Settings(), "none") is None
    assert telemetry.statistics(Settings()) == {}
    assert set(telemetry.statistics(Settings(flow_metrics_port=9200))) == {"statistics.interval.ms", "stats_cb"}
