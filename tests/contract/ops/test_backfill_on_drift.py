"""`freshet backfill --on-drift` on a real Kafka: what it waits for."""

import threading
from datetime import timedelta

import msgspec
from confluent_kafka import Producer

from ops.backfill.waiting import drifted
from state.metrics import DRIFT
from state.records import MetricResult
from state.settings import Settings
from state.topics import METRICS

MINUTE = 60_000


def test_an_alarm_ends_the_waiting_and_other_metrics_do_not(settings: Settings) -> None:
    """R19: the policy hears of drift by the topic `metrics`; it ends when it is told to."""
    producer = Producer({"bootstrap.servers": settings.kafka_brokers})
    for family, dimensions in (
        ("alarms", {"signal": "residual"}),
        (DRIFT.name, {}),
        (DRIFT.name, {"signal": "input_liking"}),
    ):
        result = MetricResult(family, MINUTE, 2 * MINUTE, dimensions, 0, {"alarms": 1}, False)
        producer.produce(METRICS.full_name(settings), msgspec.json.encode(result), family)
    assert producer.flush(30) == 0
    stop = threading.Event()
    assert drifted(settings, stop, since=timedelta(hours=1)) == "input_liking"
    stop.set()
    assert drifted(settings, stop) is None
