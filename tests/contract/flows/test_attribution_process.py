"""`flows.attribution` as a process, on a real Kafka."""

import random
import shutil
import time
from collections.abc import Iterable
from contextlib import ExitStack
from datetime import timedelta
from functools import partial

import msgspec
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from ops.stack.children import wait_until
from state.records import CleanEvent, Example, Impression
from state.settings import Settings
from state.topics import CLEAN, EXAMPLES, IMPRESSIONS, PARTITIONER
from tests.conftest import MakeSettings, RunProcess
from tests.unit.flows.attribution_input import MINUTE, T0, Partition, event, slate

PATIENCE = timedelta(seconds=60)
N_USERS = 400
N_SLATES = 4000
N_EVENTS = 120_000
SPAN = 300 * MINUTE

Record = Impression | CleanEvent


def make_log(seed: int = 1) -> list[Record]:
    """Five hours: slates, clicks on them, events that no slate explains, and a last event long after."""
    rng = random.Random(seed)
    records: list[Record] = []
    for n in range(N_SLATES):
        items = rng.sample(range(300), 10)
        shown = slate(f"r{n}", f"u{rng.randrange(N_USERS)}", T0 + rng.randrange(SPAN), [f"i{i}" for i in items])
        records.append(shown)
        for item_id in rng.sample(shown.items, rng.choice([0, 0, 0, 1, 1, 3])):
            at = shown.ts + rng.randrange(25 * MINUTE)
            request_id = rng.choice([shown.request_id, None])
            kind = rng.choice(["click", "click", "like", "hide"])
            records.append(event(item_id, at, kind=kind, user_id=shown.user_id, request_id=request_id))
    while len(records) < N_EVENTS:
        user_id, at = f"u{rng.randrange(N_USERS)}", T0 + rng.randrange(SPAN)
        kind = rng.choice(["click", "view", "search"])
        records.append(event(f"i{rng.randrange(300)}", at, kind=kind, user_id=user_id, request_id=None))
    records.sort(key=lambda record: record.ts)
    end = T0 + SPAN + 120 * MINUTE
    return records + [event("i0", end, kind="search", user_id=f"u{n}", request_id=None) for n in range(N_USERS)]


def produce(settings: Settings, records: Iterable[Record]) -> None:
    """Write events as flows.clean does, in transactions, and slates as serving does."""
    config = {"bootstrap.servers": settings.kafka_brokers, "partitioner": PARTITIONER}
    clean = Producer(config | {"transactional.id": f"test-{settings.namespace}-{time.monotonic_ns()}"})
    clean.init_transactions(30)
    clean.begin_transaction()
    impressions = Producer(config)
    for n, record in enumerate(records):
        producer, topic = (impressions, IMPRESSIONS) if isinstance(record, Impression) else (clean, CLEAN)
        producer.produce(topic.full_name(settings), msgspec.msgpack.encode(record), record.user_id.encode())
        producer.poll(0)
        if n % 1000 == 999:
            clean.commit_transaction(30)
            clean.begin_transaction()
    assert impressions.flush(30) == 0
    clean.commit_transaction(30)


class Written:
    """What is in the topic of examples."""

    def __init__(self, settings: Settings) -> None:
        self._consumer = Consumer(
            {"bootstrap.servers": settings.kafka_brokers, "group.id": "test", "enable.partition.eof": True}
        )
        name = EXAMPLES.full_name(settings)
        self._partitions = [TopicPartition(name, p, 0) for p in range(settings.partitions)]

    def is_more_than(self, n_examples: float) -> bool:
        try:
            return self.n_examples > n_examples
        except KafkaException as error:
            if error.args[0].code() != KafkaError.NOT_LEADER_FOR_PARTITION:
                raise
            return False  # a partition that was made just now has no leader yet

    @property
    def n_examples(self) -> int:
        return sum(self._consumer.get_watermark_offsets(partition, timeout=10)[1] for partition in self._partitions)

    def read(self) -> list[Example]:
        """Return all of them, in the order of their ids."""
        self._consumer.assign(self._partitions)
        examples, n_ends = [], 0
        while n_ends < len(self._partitions):
            message = self._consumer.poll(10)
            if message.error() is None:
                examples.append(msgspec.msgpack.decode(message.value(), type=Example))
            else:
                assert message.error().code() == KafkaError._PARTITION_EOF
                n_ends += 1
        return by_id(examples)

    def __enter__(self) -> "Written":
        return self

    def __exit__(self, *reason: object) -> None:
        self._consumer.close()


def by_id(examples: list[Example]) -> list[Example]:
    return sorted(examples, key=lambda example: example.example_id)


@pytest.mark.parametrize("store_lost", [False, True], ids=["killed", "killed-and-store-lost"])
def test_every_example_is_written_once_when_killed_midway(
    settings: Settings, run_process: RunProcess, store_lost: bool
) -> None:
    """R23, R25, R31: kill -9 three times; each time the output goes on; how soon, `freshet bench recovery` measures."""
    log = make_log()
    produce(settings, log)
    reference = Partition.of()
    expected = reference.read(*log) + reference.reach_ends()
    with Written(settings) as written:
        for part in (0.1, 0.3, 0.5):
            n_before = written.n_examples
            with run_process("flows.attribution", settings) as process:
                goes_on = wait_until(partial(written.is_more_than, n_before), timedelta(seconds=60))
                assert goes_on, process.log.read_text()
                assert wait_until(partial(written.is_more_than, part * len(expected)), PATIENCE)
                process.kill()
            assert part * len(expected) < written.n_examples < len(expected), "not killed midway"
            if store_lost:
                shutil.rmtree(settings.home / "recovery")
        with run_process("flows.attribution", settings) as process:
            assert wait_until(partial(written.is_more_than, len(expected) - 1), PATIENCE), process.log.read_text()
            assert process.stop() == 0
        assert written.read() == by_id(expected)


def test_one_process_becomes_two_and_one_again(make_settings: MakeSettings, run_process: RunProcess) -> None:
    """R30, R31: each stops before the next ones start, as docs/operations.md asks for; every example is there once."""
    settings = make_settings(partitions=2)
    log = make_log()
    reference = Partition.of()
    expected = reference.read(*log) + reference.reach_ends()
    produce(settings, log)
    halves = [settings.model_copy(update={"flow_processes": 2, "flow_index": n}) for n in range(2)]
    with Written(settings) as written:
        for part, processes in ((0.1, [settings]), (0.4, halves), (1.0, [settings])):
            n_before = written.n_examples
            wanted = max(n_before, part * len(expected) - 1)
            with ExitStack() as stack:
                running = [stack.enter_context(run_process("flows.attribution", one)) for one in processes]
                enough = wait_until(partial(written.is_more_than, wanted), PATIENCE)
                assert enough, [process.log.read_text() for process in running]
                assert n_before < len(expected), "done before they came"
                assert wait_until(lambda: all("reads" in one.log.read_text() for one in running), PATIENCE)  # noqa: B023
                assert [process.stop() for process in running] == [0] * len(running)
        assert written.read() == by_id(expected)


def test_time_is_up_on_an_idle_partition(make_settings: MakeSettings, run_process: RunProcess) -> None:
    """R25: nothing comes, and the un-clicked slate is a negative nevertheless; so it is after a restart."""
    settings = make_settings(attribution_wait_s=1)
    now = time.time_ns() // 1_000_000
    produce(settings, [slate("r1", ts=now), event("b", now, request_id="r1"), slate("r2", "u2", ts=now)])
    with Written(settings) as written:
        with run_process("flows.attribution", settings) as process:
            assert wait_until(partial(written.is_more_than, 1), PATIENCE), process.log.read_text()
            produce(settings, [slate("r3", "u3", ts=time.time_ns() // 1_000_000)])
            assert process.stop() == 0
        with run_process("flows.attribution", settings) as process:
            assert wait_until(partial(written.is_more_than, 2), PATIENCE), process.log.read_text()
        assert [example.example_id for example in written.read()] == ["r1:1:1", "r2:expired", "r3:expired"]
