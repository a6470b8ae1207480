"""`flows.learn` as a process, on a real Kafka and a real Redis."""

import random
from collections.abc import Iterable
from datetime import timedelta

import msgspec
import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition

from online_models.engine.inputs import FEATURE_SET, N_INPUTS
from online_models.replica import Replica
from online_models.users.view import UserView
from ops.stack.children import Child, wait_until
from state.entries import ITEM_USERS, LEARNER, LEARNER_USER, USER_VECTOR
from state.records import CleanEvent, Example, Item
from state.redis_store import RedisStore
from state.settings import Settings
from state.topics import CLEAN, EXAMPLES, ITEMS, PARTITIONER, Topic
from tests.conftest import MakeSettings, RunProcess

FLOW = "learn"
START = 1_700_000_000_000
N_EVENTS = 20_000
N_EXAMPLES = 200
N_USERS = 300
PATIENCE = timedelta(seconds=60)

Positions = dict[tuple[str, int], int]


def catalogue() -> list[Item]:
    return [Item(item_id=f"i{k}", genres=["Drama" if k % 2 else "War"], price=1.0 + k) for k in range(100)]


def events(n_events: int = N_EVENTS, seed: int = 1) -> list[CleanEvent]:
    """Of 300 users and 200 items, half of them in the catalogue; some are late. All were served."""
    rng = random.Random(seed)
    return [
        CleanEvent(
            f"{seed}-{n}",
            rng.choice(["view", "click", "like", "dislike"]),
            f"u{rng.randrange(N_USERS)}",
            f"i{int(rng.paretovariate(0.7)) % 200}",
            START + n * 1000 - rng.choice([0, 0, 0, 300_000]),
            request_id="r",
        )
        for n in range(n_events)
    ]


def examples() -> list[Example]:
    """Every third one comes twice, as after a crash of the attribution flow."""
    made = []
    for n in range(N_EXAMPLES):
        features = np.random.default_rng(n).normal(size=(6, N_INPUTS)).astype(np.float32)
        example = Example(
            example_id=f"x{n}",
            request_id="r",
            user_id=f"u{n}",
            ts=START + n,
            surface="home",
            items=[f"i{k}" for k in range(5)],
            labels=[0, 1, 0, 0, -1],
            outcomes=[None, "click", None, None, None],
            propensities=[1.0] * 5,
            features=features.tobytes(),
            feature_set=FEATURE_SET,
            model_version="1",
        )
        made += [example, example] if n % 3 == 0 else [example]
    return made


def produce(settings: Settings, topic: Topic, messages: Iterable[tuple[str, bytes]]) -> None:
    producer = Producer({"bootstrap.servers": settings.kafka_brokers, "partitioner": PARTITIONER, "linger.ms": 5})
    for key, value in messages:
        producer.produce(topic.full_name(settings), value, key)
        producer.poll(0)
    assert producer.flush(30) == 0


def produce_items(settings: Settings) -> None:
    produce(settings, ITEMS, ((item.item_id, msgspec.json.encode(item)) for item in catalogue()))
    produce(settings, ITEMS, [("broken", b'{"item_id": 5}')])


def produce_log(settings: Settings) -> None:
    produce_examples(settings)
    produce_events(settings, events())


def produce_examples(settings: Settings) -> None:
    produce(settings, EXAMPLES, ((e.user_id, msgspec.msgpack.encode(e)) for e in examples()))


def produce_events(settings: Settings, some: list[CleanEvent]) -> None:
    produce(settings, CLEAN, ((e.user_id, msgspec.msgpack.encode(e)) for e in some))


def ends(settings: Settings) -> Positions:
    consumer = Consumer({"bootstrap.servers": settings.kafka_brokers, "group.id": "test"})
    found = {
        (topic.name, p): consumer.get_watermark_offsets(TopicPartition(topic.full_name(settings), p), timeout=10)[1]
        for topic in (ITEMS, CLEAN, EXAMPLES)
        for p in range(settings.partitions)
    }
    consumer.close()
    return {where: end for where, end in found.items() if end}


def applied(store: RedisStore) -> Positions:
    """Positions in partitions that hold something."""
    return {where: mark.next_offset for where, mark in store.watermarks(FLOW).items() if mark.next_offset}


def wait_until_applied(store: RedisStore, settings: Settings, process: Child) -> None:
    end = ends(settings)
    done = wait_until(lambda: applied(store) == end or process.returncode is not None, PATIENCE)
    assert done, f"{applied(store)} instead of {end}: {process.log.read_text()}"
    assert process.returncode is None, process.log.read_text()


def everything(store: RedisStore) -> dict[str, dict[str, object]]:
    """All that the flow has written, but for its watermarks."""
    rows = {table.name: dict(store.scan_rows(table)) for table in (*Replica.TABLES, LEARNER, ITEM_USERS, USER_VECTOR)}
    users = [f"u{n}" for n in range(N_USERS)]
    return rows | {"users": dict(zip(users, store.get_many(LEARNER_USER, users), strict=True))}


def test_a_learner_that_is_killed_goes_on_where_it_was(make_settings: MakeSettings, run_process: RunProcess) -> None:
    """R23, R31: after kill -9 twice the rows are those of an uninterrupted run; SIGTERM ends with code 0."""
    through, killed = (make_settings(partitions=1, learn_replay_share=1e9) for _ in range(2))
    stores = {settings.namespace: RedisStore(settings) for settings in (through, killed)}
    for settings in (through, killed):
        store = stores[settings.namespace]
        produce_items(settings)
        with run_process("flows.learn", settings) as process:
            wait_until_applied(store, settings, process)
            assert process.stop() == 0
        produce_examples(settings)
    produce_events(through, events())
    store, log = stores[killed.namespace], events()
    third = N_EVENTS // 3
    for first in (0, third):
        produce_events(killed, log[first : first + third // 2])
        with run_process("flows.learn", killed) as process:
            process.wait_until(lambda: applied(store).get((CLEAN.name, 0), 0) > first, PATIENCE)  # noqa: B023
            produce_events(killed, log[first + third // 2 : first + third])
            process.kill()  # while it learns these
    produce_events(killed, log[2 * third :])
    for settings in (through, killed):
        with run_process("flows.learn", settings) as process:
            wait_until_applied(stores[settings.namespace], settings, process)
            assert process.stop() == 0, process.log.read_text()
    expected, found = everything(stores[through.namespace]), everything(store)
    assert {name: len(rows) for name, rows in found.items()} == {name: len(rows) for name, rows in expected.items()}
    for name, rows in expected.items():
        assert found[name] == rows, name


def test_a_replica_follows_the_process(make_settings: MakeSettings, run_process: RunProcess) -> None:
    """R14: what an event changes is in the rows that serving follows, over several partitions."""
    settings = make_settings(partitions=3)
    store = RedisStore(settings)
    produce_items(settings)
    produce(settings, CLEAN, ((e.user_id, msgspec.msgpack.encode(e)) for e in events(2000)))
    with run_process("flows.learn", settings) as process:
        wait_until_applied(store, settings, process)
        replica = Replica()
        replica.apply({table: dict(store.scan_rows(table)) for table in Replica.TABLES}, complete=True)
        assert replica.n_items == len({e.item_id for e in events(2000)} | {item.item_id for item in catalogue()})
        follow = [CleanEvent(f"new{n}", "click", f"new{n}", item, START) for n in range(5) for item in ("a", "b")]
        produce(settings, CLEAN, ((e.user_id, msgspec.msgpack.encode(e)) for e in follow))
        wait_until_applied(store, settings, process)
        assert process.stop() == 0
    replica.apply({table: dict(store.scan_rows(table)) for table in Replica.TABLES}, complete=True)
    context = replica.context(UserView.of_items(("a",), START))
    assert [replica.item_id(slot) for slot in context.covisited(5)] == ["b"]
