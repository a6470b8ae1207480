"""`freshet doctor`: what is judged how, and that every complaint says what to do."""

from collections.abc import Mapping

import pytest

from ops.lag import PartitionLag
from ops.operating import findings, kafka_version
from ops.operating.findings import Finding, TopicFacts
from ops.operating.kafka_version import KafkaVersion
from ops.stack import kafka
from state.settings import Settings
from state.topics import ALL, EVENTS, ITEMS, METRICS, Topic

SETTINGS = Settings(partitions=8)
REDIS: Mapping[str, object] = {
    "redis_version": "7.2.4",
    "valkey_version": "9.1.2",
    "role": "master",
    "cluster_enabled": 0,
    "maxmemory_policy": "noeviction",
    "used_memory": 10 << 20,
    "maxmemory": 100 << 20,
    "aof_enabled": 1,
    "aof_last_write_status": "ok",
}


def facts(topic: Topic, n_partitions: int = 8, n_replicas: int = 1, **config: str) -> TopicFacts:
    return TopicFacts(n_partitions, n_replicas, kafka.config(topic) | {"x": "y"} | config)


@pytest.mark.parametrize("topic", ALL, ids=lambda topic: topic.name)
def test_a_topic_as_it_is_created_is_well(topic: Topic) -> None:
    """R28"""
    n_partitions = 1 if topic is METRICS else 8
    assert findings.of_topic(topic, facts(topic, n_partitions), SETTINGS, n_brokers=1).level == "ok"


def changed_topics() -> list[tuple[Finding, str, str]]:
    of = findings.of_topic
    cleanup = facts(ITEMS, **{"cleanup.policy": "delete"})
    retention = facts(EVENTS, **{"retention.ms": "60000"})
    return [
        (of(EVENTS, None, SETTINGS, 1), "failed", "freshet topics"),
        (of(EVENTS, facts(EVENTS, 4), SETTINGS, 1), "failed", "FRESHET_PARTITIONS=4"),
        (of(ITEMS, cleanup, SETTINGS, 1), "failed", "cleanup.policy=compact"),
        (of(EVENTS, retention, SETTINGS, 1), "warning", "retention.ms=604800000"),
        (of(EVENTS, facts(EVENTS), SETTINGS, 3), "warning", "replicas"),
    ]


@pytest.mark.parametrize(("finding", "level", "remedy"), changed_topics())
def test_a_topic_that_is_not_as_it_should_be_says_how_to_mend_it(finding: Finding, level: str, remedy: str) -> None:
    """R28"""
    assert finding.level == level
    assert remedy in (finding.remedy or "")


def test_a_broker_that_allows_too_little_is_told() -> None:
    assert findings.of_broker(1, kafka.SERVER).level == "ok"
    assert findings.of_broker(1, {"group.min.session.timeout.ms": "10000"}).level == "failed"
    assert findings.of_broker(1, {"transaction.max.timeout.ms": "1000"}).level == "failed"
    assert findings.of_broker(1, {"auto.create.topics.enable": "true"}).level == "warning"


def lag(position: int | None, events: int, seconds: float = 1.0) -> list[PartitionLag]:
    return [PartitionLag("learn", "clean", 0, position, (position or 0) + events, events, seconds, None)]


@pytest.mark.parametrize(
    ("before", "after", "level", "found"),
    [
        (lag(5, 0), lag(5, 0, 0.0), "ok", "everything"),
        (lag(5, 100), lag(9, 96), "ok", "moves on"),
        (lag(5, 100, 90), lag(9, 96, 90), "warning", "catches up"),
        (lag(5, 100), lag(5, 100), "failed", "stands still"),
        (lag(None, 100), lag(None, 100), "failed", "has not begun"),
    ],
)
def test_a_flow_is_judged_by_whether_it_moves(
    before: list[PartitionLag], after: list[PartitionLag], level: str, found: str
) -> None:
    """R28"""
    finding = findings.of_flow("learn", before, after)
    assert finding.level == level
    assert found in finding.found
    assert (finding.remedy is None) == (level == "ok")


def test_a_partition_that_nobody_reads_is_told_though_the_flow_moves_on() -> None:
    """R30: one of a fixed number of processes is missing."""

    def of(*positions: int, seconds: float = 90) -> list[PartitionLag]:
        return [PartitionLag("learn", "clean", p, at, 100, 100 - at, seconds, None) for p, at in enumerate(positions)]

    finding = findings.of_flow("features", of(5, 7), of(9, 7))
    assert (finding.level, "clean[1]" in finding.found) == ("warning", True)
    assert "no progress" not in findings.of_flow("features", of(5, 7), of(9, 8)).found
    assert findings.of_flow("features", of(5, 7, seconds=5), of(9, 7, seconds=5)).level == "ok"


@pytest.mark.parametrize(
    ("version", "level", "found"),
    [
        (KafkaVersion({11: 9, 28: 5}, {"metadata.version": 27}), "ok", "4.1 or later: metadata.version 27"),
        (KafkaVersion({11: 9, 28: 5}, {"metadata.version": 14}), "ok", "3.6: "),
        (KafkaVersion({11: 7, 28: 3}, {}), "warning", "before 3.3"),
        (KafkaVersion({11: 4, 28: 5}, {}), "failed", "static members"),
        (KafkaVersion({11: 5, 28: 2}, {}), "failed", "transactions"),
    ],
)
def test_a_kafka_that_is_too_old_is_told(version: KafkaVersion, level: str, found: str) -> None:
    """R28"""
    finding = findings.of_kafka_version(version)
    assert (finding.level, found in finding.found) == (level, True)
    assert (finding.remedy is None) == (level == "ok")


@pytest.mark.parametrize("told", [b"", b"\0\0\0\1", b"\0\0\0\1\0\x23", b"HTTP/1.1 400 Bad Request"])
def test_what_is_no_answer_of_a_broker_is_refused(told: bytes) -> None:
    """R28"""
    with pytest.raises(ValueError, match=r"not an answer|older than|error"):
        kafka_version.parse(told)


def test_little_memory_is_told() -> None:
    """R28"""
    gib = 1 << 30
    assert [findings.of_memory(free, 16 * gib).level for free in (8 * gib, gib)] == ["ok", "warning"]


def test_a_flow_that_gathers_is_blamed_only_when_it_takes_too_long() -> None:
    assert findings.of_flow("lake", lag(5, 100, 20), lag(5, 100, 20), gathers_s=90).level == "ok"
    assert findings.of_flow("lake", lag(5, 100, 95), lag(5, 100, 95), gathers_s=90).level == "failed"


def test_a_redis_as_it_should_be_is_well() -> None:
    assert {finding.level for finding in findings.of_redis(REDIS)} == {"ok"}


@pytest.mark.parametrize(
    ("change", "check", "level"),
    [
        ({"redis_version": "6.0.9"}, "redis version", "failed"),
        ({"role": "slave"}, "redis role", "failed"),
        ({"cluster_enabled": 1}, "redis cluster", "failed"),
        ({"maxmemory_policy": "allkeys-lru"}, "redis eviction", "failed"),
        ({"used_memory": 80 << 20}, "redis memory", "warning"),
        ({"used_memory": 95 << 20}, "redis memory", "failed"),
        ({"maxmemory": 0, "total_system_memory": 11 << 20}, "redis memory", "failed"),
        ({"aof_enabled": 0}, "redis persistence", "warning"),
        ({"aof_last_write_status": "err"}, "redis persistence", "failed"),
    ],
)
def test_what_is_wrong_with_redis_is_told(change: Mapping[str, object], check: str, level: str) -> None:
    """R28"""
    (finding,) = [finding for finding in findings.of_redis(REDIS | change) if finding.level != "ok"]
    assert (finding.check, finding.level) == (check, level)
    assert finding.remedy


def test_disk_clock_and_state_format() -> None:
    gib = 1 << 30
    assert [findings.of_disk("/x", free, 100 * gib).level for free in (50 * gib, 5 * gib, gib // 4)] == [
        "ok",
        "warning",
        "failed",
    ]
    assert [findings.of_clock("redis", s).level for s in (0.2, -5.0, 400.0)] == ["ok", "warning", "failed"]
    assert findings.of_state_format(10, [], []).level == "ok"
    assert findings.of_state_format(10, ["v0:old"], []).level == "warning"
    assert findings.of_state_format(10, ["v0:old"], ["v1:user:{id}:profile"]).level == "failed"


def test_warnings_pass() -> None:
    warning, failed = Finding("a", "warning", "", ""), Finding("b", "failed", "", "")
    assert findings.is_well([warning])
    assert not findings.is_well([warning, failed])
