"""`python -m flows.clean` on a real Kafka: each valid event exactly once, through kills; the others with a reason."""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack

import msgspec
import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from flows.clean import __main__ as flow
from flows.clean import known_events
from ops.stack.children import Child
from state.records import CleanEvent
from state.settings import Settings
from state.topics import CLEAN, EVENTS, PARTITIONER, REJECTED, Topic

RunProcess = Callable[..., AbstractContextManager[Child]]

START = 1_380_000_000_000  # 2013: event time is not the wall clock


def event(number: int, user: str | None = None, **fields: object) -> bytes:
    """Return a valid event of one of 500 users; the events of a minute have numbers that follow each other."""
    return json.dumps(
        {
            "event_id": f"e{number}",
            "type": "rating",
            "user_id": user or f"u{number % 500}",
            "item_id": f"i{number % 97}",
            "ts": START + number * 1000,
            "value": 5,
        }
        | fields
    ).encode()


def user_of(raw: bytes) -> bytes:
    return json.loads(raw)["user_id"].encode()


class Kafka:
    """Both ends of the flow."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer = self.producer(PARTITIONER)

    def producer(self, partitioner: str) -> Producer:
        return Producer({"bootstrap.servers": self._settings.kafka_brokers, "partitioner": partitioner, "linger.ms": 5})

    def send(self, events: Iterable[bytes], producer: Producer | None = None) -> None:
        """Produce keyed by user; return when the broker has them."""
        producer = producer or self._producer
        for raw in events:
            producer.produce(EVENTS.full_name(self._settings), raw, user_of(raw))
            producer.poll(0)
        assert producer.flush(30) == 0

    def send_raw(self, value: bytes | None, key: bytes | None = None, partition: int = 0) -> None:
        self._producer.produce(EVENTS.full_name(self._settings), value, key, partition)
        assert self._producer.flush(30) == 0

    def reader(self, topic: Topic) -> "Reader":
        return Reader(self._settings, topic)


class Reader:
    """Collects the committed messages of a topic from its begin."""

    def __init__(self, settings: Settings, topic: Topic) -> None:
        self.messages: list[Message] = []
        self._consumer = Consumer(
            {
                "bootstrap.servers": settings.kafka_brokers,
                "group.id": "test",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 50,
            }
        )
        self._consumer.assign([TopicPartition(topic.full_name(settings), p, 0) for p in range(settings.partitions)])

    def poll(self, wait_s: float = 0.0) -> int:
        """Take what is there; return how many messages that were."""
        found = self._consumer.consume(5000, wait_s)
        assert all(message.error() is None for message in found)
        self.messages += found
        return len(found)

    def wait_for(self, n_messages: int, timeout_s: float = 60.0) -> list[Message]:
        """Wait for that many; return all."""
        end = time.monotonic() + timeout_s
        while len(self.messages) < n_messages and time.monotonic() < end:
            self.poll(0.1)
        return self.messages

    def events(self) -> list[CleanEvent]:
        return [msgspec.msgpack.decode(message.value(), type=CleanEvent) for message in self.messages]


@pytest.fixture
def kafka_io(settings: Settings) -> Kafka:
    return Kafka(settings)


def assert_each_once(reader: Reader, numbers: Iterable[int]) -> None:
    reader.poll(0.5)  # more than was waited for would be wrong
    counts = Counter(event.event_id for event in reader.events())
    expected = {f"e{number}" for number in numbers}
    assert sorted(set(counts) - expected) == []
    assert sorted(expected - set(counts)) == []
    assert [event_id for event_id, n in counts.items() if n > 1] == []


def duplicated_and_shuffled(n_events: int, seed: int) -> list[int]:
    """Return numbers below `n_events`, a fifth of them twice, each within 5 minutes of its event time."""
    chance = random.Random(seed)
    numbers = [*range(n_events), *chance.sample(range(n_events), n_events // 5)]
    return sorted(numbers, key=lambda number: number + chance.uniform(0, 300))


def test_events_arrive_normalised_in_their_users_partition(
    settings: Settings, kafka_io: Kafka, run_process: RunProcess
) -> None:
    kafka_io.send(
        [event(1, session_id="s", position=3, context={"page": "home", "n": 7}), event(2, item_id=None, type="search")]
    )
    reader = kafka_io.reader(CLEAN)
    with run_process("flows.clean", settings) as process:
        messages = reader.wait_for(2)
        assert process.stop() == 0
    by_id = {event.event_id: event for event in reader.events()}
    assert by_id == {
        "e1": CleanEvent(
            "e1", "rating", "u1", "i1", START + 1000, "s", position=3, value=5.0, context={"page": "home", "n": 7}
        ),
        "e2": CleanEvent("e2", "search", "u2", None, START + 2000, value=5.0),
    }
    assert {message.key() for message in messages} == {b"u1", b"u2"}
    probe = kafka_io.reader(EVENTS)
    probe.wait_for(2)
    assert {(m.key(), m.partition()) for m in probe.messages} == {(m.key(), m.partition()) for m in messages}


def test_what_is_invalid_lands_in_rejected_with_its_reason(
    settings: Settings, kafka_io: Kafka, run_process: RunProcess
) -> None:
    """R23"""
    now = int(time.time() * 1000)
    bad: list[tuple[bytes | None, str, str]] = [
        (b"\xff\x00\xfe", "", "not JSON"),
        (b"", "", "truncated"),
        (None, "", "truncated"),
        (b"[1]", "", "array"),
        (event(1, type="clack"), "type", "expected one of"),
        (event(1, ts=now + 3_600_000), "ts", "5 minutes ahead"),
        (event(1, ts=now // 1000), "ts", "milliseconds"),
        (event(1, value=float("nan")), "value", "finite"),
        (event(1, item_id=None), "item_id", "required"),
        (event(1, user_id="u\x00"), "user_id", "control"),
        (event(1, context={"n": 10**30}), "context[...]", "9223372036854775807"),
        (event(1, context={"pad": "x" * 950_000}), "", "at most 65536"),
    ]
    kafka_io.send_raw(event(7, user="good"), b"good")
    for raw, _, _ in bad:
        kafka_io.send_raw(raw, b"as it came", partition=1)
    kafka_io.send_raw(event(8, user="good"), b"good")
    rejected, clean = kafka_io.reader(REJECTED), kafka_io.reader(CLEAN)
    with run_process("flows.clean", settings):
        letters = rejected.wait_for(len(bad))
        clean.wait_for(2)
    assert_each_once(clean, [7, 8])
    by_offset = {}
    for letter in letters:
        headers = {name: value.decode() for name, value in letter.headers()}
        topic, partition, offset = headers["source"].split("/")
        assert (topic, partition) == (EVENTS.full_name(settings), "1")
        assert letter.key() == b"as it came"
        by_offset[int(offset)] = (letter.value(), headers)
    for (raw, field, reason), (_, (value, headers)) in zip(bad, sorted(by_offset.items()), strict=True):
        assert headers["field"] == field
        assert reason in headers["reason"]
        if raw is None or len(raw) < 900_000:
            assert value == raw
        else:
            assert value == raw[:900_000]
            assert headers["truncated"] == str(len(raw))


def test_a_late_event_is_kept(settings: Settings, kafka_io: Kafka, run_process: RunProcess) -> None:
    """R24"""
    kafka_io.send([event(1, "u"), event(2, "u", ts=START - 400 * 86_400_000)])
    reader = kafka_io.reader(CLEAN)
    with run_process("flows.clean", settings):
        reader.wait_for(2)
    assert_each_once(reader, [1, 2])


def test_each_event_is_there_exactly_once_through_kills(
    settings: Settings, kafka_io: Kafka, run_process: RunProcess
) -> None:
    """R23, R31: a fifth duplicated, shuffled, the process killed twice; the output moves again."""
    n_events, chunk = 40_000, 500
    numbers = duplicated_and_shuffled(n_events, seed=1)
    reader = kafka_io.reader(CLEAN)
    chunks = [numbers[start : start + chunk] for start in range(0, len(numbers), chunk)]
    kills = {len(chunks) // 3, 2 * len(chunks) // 3}
    with ExitStack() as processes:
        process = processes.enter_context(run_process("flows.clean", settings))
        for number, some in enumerate(chunks):
            if number in kills:
                process.kill()
                while reader.poll(0.3):  # what was committed before
                    pass
                process = processes.enter_context(run_process("flows.clean", settings))
            kafka_io.send(map(event, some))
            if number in kills:
                reader.wait_for(len(reader.messages) + 1)
            reader.poll(0.05)
        reader.wait_for(n_events)
        assert process.stop() == 0
    assert_each_once(reader, range(n_events))


def test_what_was_seen_before_a_restart_is_known_after_it(
    settings: Settings, kafka_io: Kafka, run_process: RunProcess
) -> None:
    """R23: also a whole log played again."""
    numbers = range(5000)
    reader = kafka_io.reader(CLEAN)
    with run_process("flows.clean", settings) as process:
        kafka_io.send(map(event, numbers))
        reader.wait_for(5000)
        assert process.stop() == 0
    with run_process("flows.clean", settings):
        kafka_io.send(map(event, numbers))
        kafka_io.send([event(5000)])
        reader.wait_for(5001)
    assert_each_once(reader, range(5001))


def test_events_of_other_partitioners_and_keys_come_to_their_users_partition_once(
    settings: Settings, kafka_io: Kafka, run_process: RunProcess
) -> None:
    """R23: the same event sent by two clients that partition differently is one event, also after a restart."""
    reader = kafka_io.reader(CLEAN)
    other = kafka_io.producer("consistent")
    with run_process("flows.clean", settings) as process:
        kafka_io.send(map(event, range(500)))
        kafka_io.send(map(event, range(1000)), other)
        kafka_io.send_raw(event(1000), None, partition=3)
        kafka_io.send_raw(event(1000), b"some other key", partition=2)
        reader.wait_for(1001)
        assert process.stop() == 0
    with run_process("flows.clean", settings):
        kafka_io.send(map(event, range(1000)), other)
        kafka_io.send(map(event, range(1002)))
        reader.wait_for(1002)
    assert_each_once(reader, range(1002))
    partitions: dict[bytes, set[int]] = {}
    for message in reader.messages:
        partitions.setdefault(message.key(), set()).add(message.partition())
    assert all(len(found) == 1 for found in partitions.values())


def test_processes_may_come_and_go_in_mid_stream(settings: Settings, kafka_io: Kafka, run_process: RunProcess) -> None:
    """R30: one process, two, one again."""
    n_events, chunk = 30_000, 500
    numbers = duplicated_and_shuffled(n_events, seed=2)
    second = settings.model_copy(update={"instance": "second"})
    reader = kafka_io.reader(CLEAN)
    position = 0

    def play(until: int) -> None:
        nonlocal position
        while position < until:
            kafka_io.send(event(number) for number in numbers[position : position + chunk])
            position += chunk
            reader.poll(0.05)

    with run_process("flows.clean", settings) as one:
        play(n_events // 4)
        reader.wait_for(1)
        with run_process("flows.clean", second) as other:
            end = time.monotonic() + 60
            while other.log.read_text().count("cleans ") < 4 + 2 + 2 and time.monotonic() < end:
                play(position + chunk if position + chunk < n_events // 2 else position)
                reader.poll(0.1)
            play(n_events // 2)
            assert other.stop() == 0
        play(len(numbers))
        reader.wait_for(n_events, timeout_s=60)
        assert one.stop() == 0
    assert_each_once(reader, range(n_events))
    assert one.log.read_text().count("cleans ") >= 4 + 2 + 2 + 4, "one, each half, one again"


def test_a_stop_while_it_remembers_repeats_nothing(
    settings: Settings, kafka_io: Kafka, run_process: RunProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R23: also when it has its partitions and does not know yet what was cleaned before."""
    reader = kafka_io.reader(CLEAN)
    kafka_io.send([event(1)])
    with run_process("flows.clean", settings) as process:
        reader.wait_for(1)
        assert process.stop() == 0
    kafka_io.send([event(1)])
    stopping = threading.Event()

    def told_to_stop(*wanted: object) -> object:
        stopping.set()
        return known_events.rebuild(*wanted)  # type: ignore[arg-type]

    monkeypatch.setattr(flow, "rebuild", told_to_stop)
    flow.CleanFlow(settings, stopping).run()
    assert stopping.is_set()
    with run_process("flows.clean", settings):
        kafka_io.send([event(2)])
        reader.wait_for(2)
    assert_each_once(reader, [1, 2])


def test_a_second_process_of_the_same_instance_ends_the_first(
    settings: Settings, kafka_io: Kafka, run_process: RunProcess
) -> None:
    """R23: no two processes clean one partition."""
    reader = kafka_io.reader(CLEAN)
    with run_process("flows.clean", settings) as one:
        kafka_io.send([event(1)])
        reader.wait_for(1)
        with run_process("flows.clean", settings) as other:
            kafka_io.send([event(2)])
            reader.wait_for(2)
            end = time.monotonic() + 60
            while one.returncode is None and time.monotonic() < end:
                kafka_io.send([event(1), event(2)])
                reader.poll(0.2)
            assert one.returncode == 1
            assert "to be started again" in one.log.read_text()
            assert other.stop() == 0
    assert_each_once(reader, [1, 2])
