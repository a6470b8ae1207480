"""`flows.features` as a process, on a real Kafka and a real Redis."""

import random
from collections import Counter
from datetime import timedelta

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from online_models.users import activity
from ops.stack.children import Child, wait_until
from state.entries import ITEM_ACTIVITY, USER_PROFILE
from state.records import Activity, CleanEvent
from state.redis_store import RedisStore
from state.settings import Settings
from state.topics import CLEAN, PARTITIONER
from tests.conftest import MakeSettings, RunProcess

FLOW = "features"
START = 1_700_000_000_000
N_EVENTS = 30_000
PATIENCE = timedelta(seconds=60)
POLL = timedelta(seconds=0.005)


def make_log(n_events: int = N_EVENTS, seed: int = 1) -> list[CleanEvent]:
    """A few hours of 300 users and 200 items, some events up to 5 minutes late."""
    rng = random.Random(seed)
    return [
        CleanEvent(
            f"{seed}-{n}",
            rng.choice(["view", "click", "like", "rating"]),
            f"u{rng.randrange(300)}",
            f"i{int(rng.paretovariate(0.7)) % 200}",
            START + n * 1000 - rng.choice([0, 0, 0, 300_000]),
            session_id=f"s{n // 50}-{n % 7}",
            value=4.0,
        )
        for n in range(n_events)
    ]


def produce(settings: Settings, log: list[CleanEvent]) -> None:
    """Write as flows.clean does: in transactions, which leave control records between the messages."""
    producer = Producer(
        {
            "bootstrap.servers": settings.kafka_brokers,
            "transactional.id": f"test-{settings.namespace}",
            "partitioner": PARTITIONER,
        }
    )
    producer.init_transactions(30)
    for first in range(0, len(log), 1000):
        producer.begin_transaction()
        for event in log[first : first + 1000]:
            producer.produce(CLEAN.full_name(settings), msgspec.msgpack.encode(event), event.user_id.encode())
        producer.commit_transaction(30)


def ends(settings: Settings) -> dict[tuple[str, int], int]:
    """Offsets behind each partition's last record, control records included."""
    consumer = Consumer({"bootstrap.servers": settings.kafka_brokers, "group.id": "test"})
    name = CLEAN.full_name(settings)
    found = {
        (CLEAN.name, p): consumer.get_watermark_offsets(TopicPartition(name, p), timeout=10)[1]
        for p in range(settings.partitions)
    }
    consumer.close()
    return {where: end for where, end in found.items() if end}


def applied(store: RedisStore) -> dict[tuple[str, int], int]:
    return {where: mark.next_offset for where, mark in store.watermarks(FLOW).items()}


def wait_until_applied(store: RedisStore, settings: Settings, *processes: Child) -> None:
    end = ends(settings)
    done = wait_until(lambda: applied(store) == end or any(p.returncode is not None for p in processes), PATIENCE)
    assert done, f"{applied(store)} instead of {end}"
    assert [p.returncode for p in processes] == [None] * len(processes), processes[0].log.read_text()


def item_counts(store: RedisStore) -> dict[str, dict[str, int]]:
    return {item: found.counts for item, found in items(store).items()}


def items(store: RedisStore) -> dict[str, Activity]:
    parts: dict[str, list[Activity]] = {}
    for name, part in store.scan_rows(ITEM_ACTIVITY):
        parts.setdefault(name.partition(":")[2], []).append(part)
    return {item: activity.merge(found) for item, found in parts.items()}


def user_counts(store: RedisStore, log: list[CleanEvent]) -> dict[str, dict[str, int]]:
    users = sorted({event.user_id for event in log})
    profiles = store.get_many(USER_PROFILE, users)
    return {user: profile.activity.counts for user, profile in zip(users, profiles, strict=True) if profile}


def assert_exact(store: RedisStore, log: list[CleanEvent]) -> None:
    by_item: dict[str, Counter[str]] = {}
    by_user: dict[str, Counter[str]] = {}
    for event in log:
        by_item.setdefault(str(event.item_id), Counter())[event.type] += 1
        by_user.setdefault(event.user_id, Counter())[event.type] += 1
    assert item_counts(store) == by_item
    assert user_counts(store, log) == by_user
    now_ms = max(event.ts for event in log)
    last_hour = Counter(e.item_id for e in log if e.ts // 300_000 * 300_000 > now_ms - 3_600_000)
    windows = {item: activity.windows(found, now_ms)["1h"] for item, found in items(store).items()}
    assert {item: sum(counts.values()) for item, counts in windows.items() if counts} == last_hour


def empty(store: RedisStore, settings: Settings) -> None:
    for key in store._redis.scan_iter(f"{settings.namespace}:*"):
        store._redis.delete(key)


def test_counts_are_exact_when_killed_midway_and_a_stop_is_clean(settings: Settings, run_process: RunProcess) -> None:
    """R23, R31: kill -9 twice, late events, transactions' control records; then SIGTERM ends with code 0."""
    log, store = make_log(), RedisStore(settings)
    third = len(log) // 3
    produce(settings, log[:third])
    left = []
    for part in (log[third : 2 * third], log[2 * third :]):
        before = sum(applied(store).values())
        with run_process("flows.features", settings) as process:
            begun = wait_until(lambda: sum(applied(store).values()) > before, PATIENCE, every=POLL)  # noqa: B023
            produce(settings, part)
            process.kill()
        assert begun, process.log.read_text()
        left.append(sum(ends(settings).values()) - sum(applied(store).values()))
    assert left[0] > 0, "killed too late to show anything"
    with run_process("flows.features", settings) as process:
        wait_until_applied(store, settings, process)
        assert_exact(store, log)
        more = make_log(500, seed=2)
        produce(settings, more)
        wait_until_applied(store, settings, process)
        assert process.stop() == 0
    assert_exact(store, log + more)


def test_emptied_redis_is_noticed_and_rebuilt_the_same(settings: Settings, run_process: RunProcess) -> None:
    """R23: Redis is a view of the log."""
    log, store = make_log(3000), RedisStore(settings)
    produce(settings, log)
    with run_process("flows.features", settings) as process:
        wait_until_applied(store, settings, process)
        before = items(store)
        empty(store, settings)
        assert wait_until(lambda: process.returncode is not None, timedelta(seconds=60))
        assert process.returncode != 0
        assert "StateLostError" in process.log.read_text()
    assert applied(store) == {}
    with run_process("flows.features", settings) as process:
        wait_until_applied(store, settings, process)
        assert items(store) == before
        assert_exact(store, log)


@pytest.mark.parametrize("n_partitions", [2])
def test_one_process_becomes_two_and_one_again(
    make_settings: MakeSettings, run_process: RunProcess, n_partitions: int
) -> None:
    """R30, R31: disjoint partitions, one Redis."""
    settings = make_settings(partitions=n_partitions)
    log, store = make_log(6000), RedisStore(settings)
    halves = [settings.model_copy(update={"flow_partitions": (p,)}) for p in range(n_partitions)]
    produce(settings, log[:2000])
    with run_process("flows.features", settings) as process:
        wait_until_applied(store, settings, process)
        assert process.stop() == 0
    with run_process("flows.features", halves[0]) as left, run_process("flows.features", halves[1]) as right:
        produce(settings, log[2000:4000])
        wait_until_applied(store, settings, left, right)
    with run_process("flows.features", settings) as process:
        produce(settings, log[4000:])
        wait_until_applied(store, settings, process)
    assert_exact(store, log)
