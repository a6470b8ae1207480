"""`freshet backfill` from a real Kafka and from the lake that a real flow wrote: the same model, and nothing else."""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import msgspec
import redis
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from flows.lake.store import files, stored_table
from flows.lake.tables import TABLES
from online_models.engine.defaults import default_weights
from ops.backfill.sources import KafkaSource, LakeSource, Served, merged
from ops.stack.children import Child, environment, wait_until
from state.entries import CATALOGUE, MODEL, USER_PROFILE
from state.records import BlobRow, Impression, UserProfile, Watermark
from state.redis_store import RedisStore
from state.registry import Registry
from state.settings import Settings
from state.store import Changes
from state.topics import ITEMS, PARTITIONER
from tests.unit.ops.backfill.log import FakeLog

RunProcess = Callable[..., AbstractContextManager[Child]]
MakeSettings = Callable[..., Settings]
_WAIT = timedelta(seconds=60)


def fill(settings: Settings, log: FakeLog) -> None:
    """Write it as flows do, in a transaction: behind the last message is its mark."""
    producer = Producer(
        {
            "bootstrap.servers": settings.kafka_brokers,
            "partitioner": PARTITIONER,
            "transactional.id": settings.group_id("log"),
        }
    )
    producer.init_transactions(30)
    producer.begin_transaction()
    for item in log.items.values():
        producer.produce(ITEMS.full_name(settings), msgspec.json.encode(item), item.item_id)
    for (topic, partition), records in log.records.items():
        name = ".".join(("freshet", settings.namespace, topic))
        for record in records.values():
            if isinstance(record, Served):
                n = len(record.scores)
                record = Impression(
                    record.request_id,
                    "u",
                    record.ts,
                    "home",
                    ["i"] * n,
                    record.scores,
                    [[]] * n,
                    [1.0] * n,
                    b"",
                    "",
                    "m",
                    "1",
                )
            producer.produce(name, msgspec.msgpack.encode(record), b"u", partition=partition)
    producer.commit_transaction(30)


def n_rows(settings: Settings) -> int:
    stored = [stored_table(settings.lake_root, table) for table in TABLES]
    return sum(file.n_rows for table in stored if table is not None for file in files(table))


def backfill(settings: Settings, source: str) -> Any:
    """Return the manifest of what was learned, in a process of its own: it lowers its priority."""
    argv = [sys.executable, "-m", "ops", "backfill", "--full-speed", "--json", "--from", source]
    done = subprocess.run(argv, env=environment(settings), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["manifest"]


def test_the_same_model_from_kafka_and_from_the_lake(make_settings: MakeSettings, run_process: RunProcess) -> None:
    """R19: one order of the log wherever it is read from; no live key, topic or consumer group is touched."""
    settings, log = make_settings(partitions=2, lake_delay_s=0.2), FakeLog(300)
    fill(settings, log)
    n_expected = len(log.items) + sum(map(len, log.records.values()))
    with run_process("flows.lake", settings) as process:
        assert wait_until(lambda: n_rows(settings) == n_expected, _WAIT)
        assert process.stop() == 0
    with KafkaSource(settings) as kafka, LakeSource(settings) as lake:
        assert kafka.catalogue() == lake.catalogue() == log.items
        assert kafka.span() == lake.span() == log.span()
        ends = {where: end for where, (_, end) in kafka.bounds().items()}
        from_kafka, from_lake = list(merged(kafka, {}, ends)), list(merged(lake, {}, ends))
        assert len(from_kafka) == n_expected - len(log.items)
        assert [message[:4] for message in from_kafka] == [message[:4] for message in from_lake]
        for one, other in zip(from_kafka, from_lake, strict=True):
            if not isinstance(one.record, Served):
                assert one.record == other.record
    put_live_state(settings, log)
    before = keys(settings), kafka_of(settings)
    assert len(before[0]) >= 3
    manifests = [backfill(settings, source) for source in ("kafka", "lake")]
    assert (keys(settings), kafka_of(settings)) == before
    names = [manifest["name"] for manifest in manifests]
    assert names[0][-4:] == names[1][-4:]  # the beginning of the weights' checksum
    assert manifests[0]["metrics"] == manifests[1]["metrics"]
    assert set(Registry(settings.models_root).names()) == set(names)


def put_live_state(settings: Settings, log: FakeLog) -> None:
    """Write some of what a live system has, the ranker that is compared with among it."""
    changes = Changes()
    for item_id, item in log.items.items():
        changes.upsert(CATALOGUE, item_id, item)
    changes.put(USER_PROFILE, "u", UserProfile(last_ts=1))
    changes.upsert(MODEL, "ranker", BlobRow(default_weights()))
    changes.advance("learn", "clean", 0, Watermark(1, 1))
    RedisStore(settings).commit(changes)


def kafka_of(settings: Settings) -> tuple[dict[str, int], list[str]]:
    """Return where each partition ends, and who has committed positions."""
    admin = AdminClient({"bootstrap.servers": settings.kafka_brokers})
    own = {
        TopicPartition(name, partition): OffsetSpec.latest()
        for name, topic in admin.list_topics(timeout=30).topics.items()
        if settings.namespace in name
        for partition in topic.partitions
    }
    found = admin.list_offsets(own)
    ends = {f"{where.topic}/{where.partition}": end.result(30).offset for where, end in found.items()}
    groups = admin.list_consumer_groups().result(30).valid
    return ends, sorted(group.group_id for group in groups if settings.namespace in group.group_id)


def keys(settings: Settings) -> dict[bytes, bytes]:
    client = redis.Redis.from_url(settings.redis_url)
    return {key: client.dump(key) or b"" for key in client.scan_iter(f"*{settings.namespace}*")}
