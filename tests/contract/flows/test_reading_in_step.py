"""`KafkaSource` on a real Kafka: what it reads of two topics, and in which order."""

import threading
import time
from datetime import timedelta

from confluent_kafka import Producer

from flows.common.batches import KafkaBatch
from flows.common.bytewax_kafka import KafkaSource
from ops.stack.children import wait_until
from state.settings import Settings
from state.topics import EXAMPLES, IMPRESSIONS
from tests.conftest import MakeSettings

N_MESSAGES = 40_000
EVERY = 4  # so much rarer is the other topic
MAX_BATCH = 2000
HOUR_MS = 3_600_000
START = int(time.time() * 1000) - 11 * HOUR_MS  # within the topics' retention, which Kafka looks at each minute


def test_topic_with_a_longer_backlog_is_not_left_behind(make_settings: MakeSettings) -> None:
    """R24: of messages from ten hours of two topics, those of one time are read near each other, and each once."""
    settings = make_settings(partitions=1)
    producer = Producer({"bootstrap.servers": settings.kafka_brokers})
    for n in range(N_MESSAGES):
        at = START + n * 10 * HOUR_MS // N_MESSAGES
        producer.produce(IMPRESSIONS.full_name(settings), b"x" * 100, timestamp=at)
        if n % EVERY == 0:
            producer.produce(EXAMPLES.full_name(settings), b"y", timestamp=at)
        producer.poll(0)
    assert producer.flush(30) == 0

    batches = read(settings)
    for topic, n_messages in ((IMPRESSIONS.name, N_MESSAGES), (EXAMPLES.name, N_MESSAGES // EVERY)):
        offsets = [offset for batch in batches if batch.topic == topic for offset in batch.offsets]
        assert offsets == list(range(n_messages))
    reached = {IMPRESSIONS.name: START, EXAMPLES.name: START}
    ahead = []
    for batch in batches:
        reached[batch.topic] = max(batch.timestamps, default=reached[batch.topic])
        ahead.append(reached[EXAMPLES.name] - reached[IMPRESSIONS.name])
    assert max(ahead) <= HOUR_MS // 2 + MAX_BATCH * EVERY * 10 * HOUR_MS // N_MESSAGES


def read(settings: Settings) -> list[KafkaBatch]:
    topics = {IMPRESSIONS: None, EXAMPLES: None}
    source = KafkaSource(
        settings, "test", topics, threading.Event(), tell_ends=True, in_step=timedelta(milliseconds=HOUR_MS // 2)
    )
    part = source.build_part("read", "kafka", None)
    batches: list[KafkaBatch] = []

    def is_read() -> bool:
        batches.extend(part.next_batch())
        return sum(len(batch.offsets) for batch in batches) == N_MESSAGES + N_MESSAGES // EVERY

    assert wait_until(is_read, timedelta(seconds=30), every=timedelta(0))
    part.close()
    return batches
