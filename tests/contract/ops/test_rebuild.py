"""`freshet rebuild` on a real Kafka and a real Redis: the log gives the same state again."""

import random
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta

import msgspec
import pytest
import redis
from confluent_kafka import Producer, TopicPartition

from flows.common.batches import KafkaBatch
from flows.common.kafka_log import KafkaLog
from flows.lake.store import StoredTable, Stretch
from flows.lake.tables import TABLES
from ops.lag import Progress
from ops.operating.databases import Databases
from ops.operating.digest import Digest, digests
from ops.operating.rebuild_command import Outcome, run
from ops.operating.rebuilding import Origin
from ops.stack import kafka
from ops.stack.children import Child, wait_until
from ops.stack.errors import StackError
from ops.stack.parts import FLOWS
from state.entries import CATALOGUE, ITEM_MODEL, METRIC_WINDOWS, SHOWN, USER_PROFILE
from state.records import CleanEvent, Item, MetricWindow, Shown
from state.redis_commit import Keys
from state.redis_store import AsyncRedisStore, RedisStore
from state.settings import Settings
from state.store import Changes
from state.topics import CLEAN, ITEMS, PARTITIONER
from tests.conftest import MakeSettings

RunProcess = Callable[..., AbstractContextManager[Child]]

START = 1_790_000_000_000
N_EVENTS = 2000
LIVE = [flow for flow in FLOWS if flow.name in {"features", "catalogue"}]
_MINUTE = timedelta(seconds=60)


@pytest.fixture
def settings(make_settings: MakeSettings, redis_url: str) -> Settings:
    """A system with a database of its own, as `rebuild` asks for."""
    with redis.Redis.from_url(redis_url) as client:
        used = {int(name.removeprefix("db")) for name in client.info("keyspace")}
    number = next(n for n in range(1, 16) if n not in used)
    return make_settings(partitions=2, redis_url=f"{redis_url.removesuffix('/0')}/{number}")


def events(first: int, n_events: int) -> list[CleanEvent]:
    """Events of 50 users in sessions, with feedback, some of it taken back, and one user who is erased."""
    rng = random.Random(first)
    found = []
    for number in range(first, first + n_events):
        user = f"u{rng.randrange(50)}"
        kind = rng.choices(["click", "view", "like", "hide", "undo", "rating"], [8, 4, 2, 1, 1, 2])[0]
        value = 80.0 if kind == "rating" else None
        ts = START + number * 500 - rng.randrange(20_000)
        found.append(CleanEvent(f"e{number}", kind, user, f"i{rng.randrange(80)}", ts, f"s-{user}", None, None, value))
    return [*found, CleanEvent(f"x{first}", "erase", "u7", None, START + (first + n_events) * 500)]


def send(settings: Settings, events: list[CleanEvent]) -> None:
    producer = Producer({"bootstrap.servers": settings.kafka_brokers, "partitioner": PARTITIONER})
    for event in events:
        producer.produce(CLEAN.full_name(settings), msgspec.msgpack.encode(event), event.user_id)
    assert producer.flush(30) == 0


def send_items(settings: Settings) -> None:
    producer = Producer({"bootstrap.servers": settings.kafka_brokers, "partitioner": PARTITIONER})
    for number in range(80):
        item = Item(item_id=f"i{number}", title=f"Item {number}", genres=[f"g{number % 7}"])
        producer.produce(ITEMS.full_name(settings), msgspec.json.encode(item), item.item_id)
    producer.produce(ITEMS.full_name(settings), b"", "i79")
    assert producer.flush(30) == 0


def caught_up(settings: Settings, names: list[str]) -> bool:
    progress = Progress(settings)
    try:
        flows = [flow for flow in LIVE if flow.name in names]
        return not any(progress.behind(flow, topic, progress.ends(topic)) for flow in flows for topic in flow.inputs)
    finally:
        progress.close()


def digest(settings: Settings) -> dict[str, Digest]:
    with redis.Redis.from_url(settings.redis_url) as client:
        return digests(client, Keys(settings))


def rebuild(settings: Settings, origin: Origin = "kafka", check: bool = False) -> Outcome:
    return run(settings, origin, threading.Event(), check=check, keep=False)


def wipe(settings: Settings) -> None:
    with redis.Redis.from_url(settings.redis_url) as client:
        client.unlink(*client.scan_iter())


def into_the_lake(settings: Settings) -> None:
    table = next(table for table in TABLES if table.topic == CLEAN)
    with KafkaLog(settings, "test") as log:
        stored = StoredTable(settings.lake_root, table, log.cluster_id)
        for partition in range(settings.partitions):
            low, high = log.bounds(CLEAN, partition)
            found = list(log.read(CLEAN, partition, low, high))
            batch = KafkaBatch(
                CLEAN.name,
                partition,
                [m.offset for m in found],
                [m.key for m in found],
                [m.value for m in found],
                [m.timestamp for m in found],
                high,
            )
            stored.append([table.rows(batch).rows], {partition: Stretch(low, high)})


def test_a_rebuild_gives_the_same_state_again(settings: Settings, run_process: RunProcess) -> None:
    """R23, R27: after 2 000 events, then wiped; flows go on from what was built, and nobody erased comes back."""
    send_items(settings)
    with run_process("flows.catalogue", settings):
        assert wait_until(lambda: caught_up(settings, ["catalogue"]), _MINUTE)
    send(settings, events(0, N_EVENTS))
    with run_process("flows.features", settings):
        assert wait_until(lambda: caught_up(settings, ["features"]), _MINUTE)
    before = digest(settings)
    assert before["profiles"].n == 49
    assert before["catalogue"].n == 79
    assert before["item activity"].n > 100

    checked = rebuild(settings, check=True)
    assert [kind.kind for kind in checked.kinds if not kind.is_equal] == []
    assert (checked.is_switched, checked.n_events) == (False, N_EVENTS + 1)

    wipe(settings)
    assert rebuild(settings).is_switched
    assert digest(settings) == before
    store = RedisStore(settings)
    assert store.get_many(USER_PROFILE, ["u7"]) == [None]
    assert len(dict(store.scan_rows(ITEM_MODEL))) > 50

    send(settings, events(N_EVENTS, 200))
    with run_process("flows.features", settings):
        assert wait_until(lambda: caught_up(settings, ["features"]), _MINUTE)
    assert {kind.is_equal for kind in rebuild(settings, check=True).kinds} == {True}

    into_the_lake(settings)
    after = digest(settings)
    delete_half_from_kafka(settings)
    wipe(settings)
    assert rebuild(settings, "lake").n_events == N_EVENTS + 1 + 201
    assert digest(settings) == after


def delete_half_from_kafka(settings: Settings) -> None:
    """Drop the older half of each partition of `clean`, as retention does."""
    with KafkaLog(settings, "test") as log:
        halves = [
            TopicPartition(CLEAN.full_name(settings), p, sum(log.bounds(CLEAN, p)) // 2)
            for p in range(settings.partitions)
        ]
    client = kafka.admin(settings.kafka_brokers)  # held: without it the answers never come
    answers = client.delete_records(halves)
    assert all(answer.result(30).low_watermark > 0 for answer in answers.values())


async def test_what_serving_keeps_and_reads_outlives_the_switch(settings: Settings) -> None:
    """R5, R31: feedback that no flow has applied, what was shown, windows; copies in memory are loaded again."""
    send_items(settings)
    applied = CleanEvent("e1", "like", "anna", "i1", START)
    waiting = CleanEvent("e2", "hide", "anna", "i2", START)
    send(settings, [applied])
    entry = METRIC_WINDOWS[60_000]
    serving = AsyncRedisStore(settings, timeout_s=10)
    try:
        await serving.add_overlay(applied, waiting)
        await serving.put(SHOWN, "bert", Shown(["i3"], [START]))
        await serving.put(entry, "slates:0:0", MetricWindow(False, {"": {"slates": 3}}))
        changes = serving.follow([CATALOGUE])
        assert not (await anext(changes)).rows[CATALOGUE]
        rebuild(settings)
        state = await serving.user_state("anna")
        assert state.profile is not None
        assert state.profile.feedback == {"i1": ["like"]}
        assert state.pending == [waiting]
        assert await serving.get(SHOWN, "bert") == Shown(["i3"], [START])
        assert await serving.get(entry, "slates:0:0") is not None
        loaded = await anext(changes)
        while not loaded.complete:
            loaded = await anext(changes)
        assert len(loaded.rows[CATALOGUE]) == 79
        await changes.aclose()
    finally:
        await serving.aclose()


def test_a_rebuild_that_was_killed_is_taken_over_when_asked_to(settings: Settings) -> None:
    send_items(settings)
    killed = Databases(settings)
    killed.spare.set("v1:user:anna:profile", b"half")
    with pytest.raises(StackError, match="under way in database"):
        rebuild(settings)
    assert killed.spare.dbsize() == 1
    assert run(settings, "kafka", threading.Event(), check=False, keep=False, take_over=True).is_switched
    assert killed.spare.dbsize() == 0
    assert digest(settings)["catalogue"].n == 79
    assert not RedisStore(settings).get_many(USER_PROFILE, ["anna"])[0]
    killed.close()


def test_state_of_others_in_the_same_database_is_left_alone(settings: Settings) -> None:
    other = settings.model_copy(update={"namespace": "another"})
    changes = Changes()
    changes.upsert(CATALOGUE, "i1", Item(item_id="i1"))
    RedisStore(other).commit(changes)
    with pytest.raises(StackError, match="keys of others"):
        rebuild(settings)
    assert dict(RedisStore(other).scan_rows(CATALOGUE))
