"""Replay against a real Kafka: what is sent, where it goes, and when the flows have caught up."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta

import confluent_kafka
import msgspec
import pytest

from ops.bench.replaying import consume_and_decode
from ops.datasets import Dataset, detect
from ops.lag import NotCaughtUpError, Progress, wait_until_caught_up
from ops.stack.children import environment, wait_until
from ops.stack.parts import FLOWS
from ops.traffic.replay import Plan, Summary, replay
from ops.traffic.sending import KafkaSender, SendingError
from state import topics
from state.records import Event, Watermark
from state.redis_store import RedisStore
from state.settings import Settings
from state.store import Changes
from state.topics import Topic

N_EVENTS = 2000


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("data")
    lines = [f"{n % 97}::{n % 53:04}::{n % 11}::{1365029000 + n}" for n in range(N_EVENTS)]
    (folder / "ratings.dat").write_text("\n".join(lines) + "\n")
    (folder / "movies.dat").write_text("".join(f"{n:04}::Title {n} (1999)::Drama\n" for n in range(53)))
    return detect(folder)


def consumed(settings: Settings, topic: Topic) -> list[confluent_kafka.Message]:
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": settings.kafka_brokers, "group.id": "test", "enable.partition.eof": True}
    )
    name = topic.full_name(settings)
    try:
        partitions = consumer.list_topics(name, timeout=60).topics[name].partitions
        consumer.assign([confluent_kafka.TopicPartition(name, p, confluent_kafka.OFFSET_BEGINNING) for p in partitions])
        messages: list[confluent_kafka.Message] = []
        n_ended = 0
        while n_ended < len(partitions):
            for message in consumer.consume(1000, 0.1):
                if message.error() is None:
                    messages.append(message)
                else:
                    n_ended += 1
        return messages
    finally:
        consumer.close()


def test_a_replay_sends_every_item_and_event_keyed_so_that_a_user_has_one_partition(
    settings: Settings, dataset: Dataset
) -> None:
    """R23."""
    summary = Summary()
    replay(settings, dataset, Plan(original_times=True), summary, catch_up_s=None)
    messages = consumed(settings, topics.EVENTS)
    events = [msgspec.json.decode(message.value() or b"", type=Event) for message in messages]
    assert sorted(events, key=lambda e: int(e.event_id[3:])) == list(dataset.events())
    partition_of: dict[str, int | None] = {}
    for message, event in zip(messages, events, strict=True):
        assert message.key() == event.user_id.encode()
        assert partition_of.setdefault(event.user_id, message.partition()) == message.partition()
    assert len(set(partition_of.values())) == settings.partitions
    assert {(message.key() or b"").decode() for message in consumed(settings, topics.ITEMS)} == {
        item.item_id for item in dataset.items()
    }
    assert (summary.items, summary.sent, summary.duplicates) == (53, N_EVENTS, 0)
    assert consume_and_decode(settings) > 0


def test_duplicates_are_counted_and_have_the_same_ids(settings: Settings, dataset: Dataset) -> None:
    summary = Summary()
    plan = Plan(duplicate_share=0.2, shuffle_window=timedelta(minutes=5), seed=1)
    replay(settings, dataset, plan, summary, catch_up_s=None)
    sent = [msgspec.json.decode(m.value() or b"", type=Event).event_id for m in consumed(settings, topics.EVENTS)]
    assert len(sent) == summary.sent == N_EVENTS + summary.duplicates
    assert len(set(sent)) == N_EVENTS
    assert 0.15 * N_EVENTS < summary.duplicates < 0.25 * N_EVENTS


def test_no_event_is_sent_before_the_flows_have_the_catalogue(settings: Settings, dataset: Dataset) -> None:
    """R23: here they never have it, as none runs."""
    summary = Summary()
    with pytest.raises(NotCaughtUpError, match="53 records of items behind"):
        replay(settings, dataset, Plan(), summary, catch_up_s=0.3)
    assert (summary.items, summary.sent) == (53, 0)


def test_a_stopped_replay_tells_what_was_done(settings: Settings, dataset: Dataset) -> None:
    stop = threading.Event()
    stop.set()
    summary = Summary()
    replay(settings, dataset, Plan(), summary, stop=stop)
    assert summary.sent == 0
    assert summary.caught_up_s == {}


def test_a_broker_that_is_not_there_is_named(settings: Settings, dataset: Dataset) -> None:
    nowhere = settings.model_copy(update={"kafka_brokers": "127.0.0.1:1"})
    with pytest.raises(SendingError, match=r"Kafka at 127\.0\.0\.1:1"), KafkaSender(nowhere, timeout_s=0.5) as sender:
        sender.event(next(iter(dataset.events())))


def test_the_end_of_a_topic_is_behind_its_last_record_and_not_behind_a_control_record(settings: Settings) -> None:
    name = topics.CLEAN.full_name(settings)
    producer = confluent_kafka.Producer({"bootstrap.servers": settings.kafka_brokers, "transactional.id": name})
    producer.init_transactions(10)
    for _ in range(3):
        producer.begin_transaction()
        producer.produce(name, value=b"x", partition=1)
        producer.commit_transaction(10)
    progress = Progress(settings)
    try:
        ends = progress.ends(topics.CLEAN)
        assert ends == {1: 5}, "three records, each with a control record behind it"
        flow = next(flow for flow in FLOWS if flow.name == "features")
        assert progress.behind(flow, topics.CLEAN, ends) == 5
        changes = Changes()
        changes.advance("features", topics.CLEAN.name, 1, Watermark(next_offset=5, stream_ts=0))
        RedisStore(settings).commit(changes)
        assert progress.behind(flow, topics.CLEAN, ends) == 0
    finally:
        progress.close()


def test_a_flow_that_does_not_move_is_named_with_its_backlog(settings: Settings, dataset: Dataset) -> None:
    replay(settings, dataset, Plan(limit=10), Summary(), catch_up_s=None)
    with pytest.raises(NotCaughtUpError, match="flow clean is 10 records of events behind"):
        wait_until_caught_up(settings, timeout_s=0.3)


def test_an_empty_system_is_caught_up(settings: Settings, make_settings: Callable[..., Settings]) -> None:
    assert set(wait_until_caught_up(make_settings(partitions=2), timeout_s=5)) >= {"clean", "features", "learn"}


def test_ctrl_c_ends_cleanly_with_what_was_sent(settings: Settings, dataset: Dataset) -> None:
    """The live part of this log would take minutes."""
    argv = [sys.executable, "-m", "ops", "replay", "--data", str(dataset.folder), "--speed", "1", "--no-wait"]
    process = subprocess.Popen(
        argv, env=environment(settings), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert wait_until(lambda: n_events_in(settings) >= 0.9 * N_EVENTS, timedelta(seconds=60))
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert "interrupted" in output
    assert f"{n_events_in(settings):,}" in output


def n_events_in(settings: Settings) -> int:
    progress = Progress(settings)
    try:
        return sum(progress.ends(topics.EVENTS).values())
    finally:
        progress.close()
