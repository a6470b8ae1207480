"""Impressions wait for a Kafka that is away, on disk if they must, and arrive in order; a real broker."""

import logging
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from confluent_kafka import Consumer

from ops.stack import kafka as kafka_server
from ops.stack.children import Child, free_ports, wait_until
from serving.kafka.event_log import Outbox
from serving.kafka.spool import Spools
from state.settings import Settings
from state.topics import IMPRESSIONS

_START = timedelta(seconds=60)
_PER_KEY = 3


class Broker:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = free_ports(2)
        self.address = f"127.0.0.1:{self._ports[0]}"
        self._process: Child | None = None

    def start(self) -> None:
        argv = kafka_server.command(self._folder / "kafka", *self._ports)
        self._process = Child("kafka", argv, self._folder / "kafka.log")
        admin = kafka_server.admin(self.address)
        self._process.wait_until(lambda: kafka_server.answers(admin), 2 * _START)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process = None


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path)
    made.start()
    yield made
    made.kill()


def outbox(settings: Settings) -> Outbox:
    return Outbox(settings, linger_ms=5, max_messages=20, max_kib=1024, spools=Spools(settings, "impressions"))


def put(box: Outbox, numbers: range) -> None:
    for n in numbers:
        assert box.put(IMPRESSIONS, f"u{n % _PER_KEY}", b"%d" % n)


def arrived(settings: Settings, n: int) -> dict[bytes, list[int]]:
    """Key -> what came for it, in the order of the log."""
    consumer = Consumer(
        {"bootstrap.servers": settings.kafka_brokers, "group.id": "test", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([IMPRESSIONS.full_name(settings)])
    found: list[tuple[bytes, int]] = []
    try:
        assert wait_until(
            lambda: (
                len(
                    found.extend((m.key(), int(m.value())) for m in consumer.consume(100, 0.2) if not m.error())
                    or found
                )
                >= n
            ),
            _START,
        )
    finally:
        consumer.close()
    by_key: dict[bytes, list[int]] = {}
    for key, value in found:
        by_key.setdefault(key, []).append(value)
    return by_key


def expected(n: int) -> dict[bytes, list[int]]:
    return {b"u%d" % key: list(range(key, n, _PER_KEY)) for key in range(_PER_KEY)}


def test_what_waits_longer_than_the_queue_arrives_in_order(broker: Broker, tmp_path: Path) -> None:
    """R10: more than the producer's queue holds, while the broker is stopped; more still while it catches up."""
    settings = Settings(kafka_brokers=broker.address, home=tmp_path / "home", partitions=1)
    kafka_server.create_topics(settings)
    box = outbox(settings)
    put(box, range(10))
    assert wait_until(lambda: box.n_queued == 0, _START)
    broker.kill()
    put(box, range(10, 1500))
    assert wait_until(lambda: box.n_queued == 1490, _START)
    broker.start()
    put(box, range(1500, 1600))
    assert wait_until(lambda: box.n_queued == 0, _START)
    put(box, range(1600, 1700))
    box.close(flush_s=10)
    assert arrived(settings, 1700) == expected(1700)


def test_a_process_that_ends_meanwhile_leaves_them_to_the_next_one(
    broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """R10: those in the producer's queue, too."""
    caplog.set_level(logging.WARNING)
    settings = Settings(kafka_brokers=broker.address, home=tmp_path / "home", partitions=1)
    kafka_server.create_topics(settings)
    broker.kill()
    box = outbox(settings)
    put(box, range(100))
    box.close(flush_s=0.1)
    assert "100 messages for Kafka wait on disk" in caplog.text
    box = outbox(settings)
    put(box, range(100, 200))
    broker.start()
    assert wait_until(lambda: box.n_queued == 0, _START)
    box.close(flush_s=10)
    assert arrived(settings, 200) == expected(200)


def test_a_full_spool_refuses_and_blocks_nobody(tmp_path: Path) -> None:
    """R10: bounded in bytes."""
    (nobody_there,) = free_ports(1)
    settings = Settings(kafka_brokers=f"127.0.0.1:{nobody_there}", home=tmp_path / "home", spool_mib=1)
    box = outbox(settings)
    value = b"x" * 10_000
    taken = sum(box.put(IMPRESSIONS, "u", value) for _ in range(200))
    assert 100 < taken < 130
    assert wait_until(lambda: box.n_queued == taken, _START)
    box.close(flush_s=0.0)
    kept = sum(path.stat().st_size for path in (tmp_path / "home" / "spool").glob("*.sqlite"))
    assert kept < 2 * 1024 * 1024
