"""How a Quix Streams flow is built: recovery in seconds after a kill, bytes in and out."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition
from quixstreams import Application
from quixstreams.context import copy_context, set_message_context
from quixstreams.internal_consumer import InternalConsumer
from quixstreams.models import MessageContext
from quixstreams.models import Topic as QuixTopic
from quixstreams.state.rocksdb import RocksDBOptions

from flows.common.batches import KafkaBatch
from flows.common.process import tell_ready
from flows.common.telemetry import statistics
from state.settings import Settings
from state.topics import Topic

_SESSION_TIMEOUT_MS = 6000
# After a kill the output stood still for as long as the dead process' transaction lived: 10.1 s with 10 s here.
_TRANSACTION_TIMEOUT_MS = 4000
_MAX_MESSAGES = 2000
_STORES = RocksDBOptions(
    write_buffer_size=2 << 20, target_file_size_base=2 << 20, max_total_wal_size=8 << 20, block_cache_size=32 << 20
)
"""A store for each partition of each topic, of a few hundred KB. With Quix's own sizes each of them takes up to 192 MiB
for what was written last, before it goes to disk."""
_ONE_KEY = b"all"
"""State is kept per message key: with one key for all, there is one state per partition."""


class ReadyApplication(Application):
    """An application that says when it has been given its partitions and their state."""

    def __init__(self, settings: Settings, flow: str, **chosen: Any) -> None:
        self._flow = settings, flow
        super().__init__(**chosen)

    def _on_assign(self, consumer: Any, topic_partitions: list[TopicPartition]) -> None:
        with _ends_asked_apart(self._consumer, self._flow[0].kafka_brokers):
            super()._on_assign(consumer, topic_partitions)
        tell_ready(*self._flow)


class BatchApplication(ReadyApplication):
    """An application whose rows are `KafkaBatch`es: what a poll finds of one partition, with the state of that.

    A row takes Quix some 15 us on its way, four fifths of what `metrics` did for a message. So its step of one message
    is replaced here; partitions, state, checkpoints and transactions stay its own. Only for topics without a key's
    state: all messages of a partition share one.
    """

    def __init__(self, settings: Settings, flow: str, **chosen: Any) -> None:
        self._moved: set[tuple[str, int]] = set()
        """Partitions that were taken or given while messages were fetched."""
        self._read: set[tuple[str, int]] = set()
        """Partitions that were read since they are ours."""
        self.on_idle: dict[str, Callable[[set[int]], None]] = {}
        """Topic, as Kafka calls it -> what is told that nothing is left to read, with the partitions that were read."""
        super().__init__(settings, flow, **chosen)

    def _on_assign(self, consumer: Any, topic_partitions: list[TopicPartition]) -> None:
        self._note_moved(topic_partitions)
        super()._on_assign(consumer, topic_partitions)

    def _on_revoke(self, consumer: Any, topic_partitions: list[TopicPartition]) -> None:
        self._note_moved(topic_partitions)
        super()._on_revoke(consumer, topic_partitions)

    def _on_lost(self, consumer: Any, topic_partitions: list[TopicPartition]) -> None:
        self._note_moved(topic_partitions)
        super()._on_lost(consumer, topic_partitions)

    def _note_moved(self, topic_partitions: list[TopicPartition]) -> None:
        moved = {(where.topic, where.partition) for where in topic_partitions}
        self._moved |= moved
        self._read -= moved

    def _process_message(self, dataframe_composed: dict[str, Any]) -> None:
        self._producer.poll(0)
        found: dict[tuple[str, int], list[Message]] = {}
        for message in self._messages():
            if message.error() is not None:
                raise KafkaException(message.error())
            found.setdefault((message.topic(), message.partition()), []).append(message)
        for (topic, partition), messages in found.items():
            first, last = messages[0].offset(), messages[-1].offset()
            row = copy_context()
            row.run(set_message_context, MessageContext(topic, partition, last, sum(map(len, messages))))
            batch = _batch(topic, partition, messages)
            row.run(dataframe_composed[topic], batch, _ONE_KEY, batch.timestamps[-1], None)
            self._processing_context.store_offset(topic, partition, first)  # where a checkpoint that fails begins again
            if last != first:
                self._processing_context.store_offset(topic, partition, last)
        self._read |= found.keys()
        if not found:
            for name, tell in self.on_idle.items():
                tell({partition for topic, partition in self._read if topic == name})
        self._run_tracker.set_message_consumed(bool(found))

    def _messages(self) -> Iterable[Message]:
        """Wait for a message, then take what else is there; nothing of partitions that are not ours any more."""
        first = self._consumer.poll(self._config.consumer_poll_timeout)
        if first is None:
            return []
        self._moved.clear()
        messages = [first, *self._consumer.consume(_MAX_MESSAGES - 1, 0)]
        if self._moved:
            ours = {(where.topic, where.partition) for where in self._consumer.assignment()}
            self._begin_anew(self._moved & ours)
            kept = ours - self._moved
            messages = [message for message in messages if (message.topic(), message.partition()) in kept]
        return messages

    def _begin_anew(self, partitions: Iterable[tuple[str, int]]) -> None:
        """Read partitions that were given back from what is committed of them."""
        if wanted := [TopicPartition(*where) for where in partitions]:
            for where in self._consumer.committed(wanted):
                where.offset = where.offset if where.offset >= 0 else OFFSET_BEGINNING
                self._consumer.seek(where)


@contextmanager
def _ends_asked_apart(consumer: InternalConsumer, brokers: str) -> Iterator[None]:
    """Let the consumer ask for the ends of partitions on a connection of its own.

    Quix does so for each topic and each changelog, one after the other. On the connection that fetches already, every
    answer waits until a fetch ends: of the ten seconds after a kill these were three.
    """
    asked = Consumer({"bootstrap.servers": brokers, "group.id": "freshet-looking-on", "log_level": 0})
    original = consumer.get_watermark_offsets
    consumer.get_watermark_offsets = asked.get_watermark_offsets  # type: ignore[method-assign]
    try:
        yield
    finally:
        consumer.get_watermark_offsets = original  # type: ignore[method-assign]
        asked.close()


def _batch(topic: str, partition: int, messages: list[Message]) -> KafkaBatch:
    return KafkaBatch(
        topic.rpartition(".")[2],
        partition,
        [message.offset() for message in messages],
        [message.key() for message in messages],
        [message.value() for message in messages],
        [message.timestamp()[1] for message in messages],
        messages[-1].offset() + 1,
        headers=[message.headers() or () for message in messages],
    )


def application(
    settings: Settings,
    flow: str,
    *,
    commit_interval_s: float,
    poll_timeout_s: float,
    exactly_once: bool,
    kind: type[ReadyApplication] = ReadyApplication,
    fetch_min_bytes: int = 1,
) -> Application:
    """Return an application whose group membership and transactions a restarted process takes over at once.

    With `fetch_min_bytes`, messages wait in the broker for so many, for a tenth of a second at most.
    """
    group = settings.group_id(flow)
    member = f"{group}-{settings.instance}"
    producer: dict[str, Any] = {"client.id": member, "compression.type": "lz4"}
    if exactly_once:
        producer |= {"transactional.id": member, "transaction.timeout.ms": _TRANSACTION_TIMEOUT_MS}
    return kind(
        settings,
        flow,
        broker_address=settings.kafka_brokers,
        consumer_group=group,
        auto_offset_reset="earliest",
        commit_interval=commit_interval_s,
        consumer_poll_timeout=poll_timeout_s,
        consumer_extra_config={
            "client.id": member,
            "group.instance.id": member,
            "session.timeout.ms": _SESSION_TIMEOUT_MS,
            "heartbeat.interval.ms": _SESSION_TIMEOUT_MS // 4,
            "fetch.queue.backoff.ms": 10,
            **statistics(settings),
            # At its start Quix asks for the ends of each changelog, on a connection where answers wait for a fetch.
            "fetch.wait.max.ms": 100,
            "fetch.min.bytes": fetch_min_bytes,
        },
        producer_extra_config=producer,
        state_dir=settings.home / "quix" / member,
        rocksdb_options=_STORES,
        processing_guarantee="exactly-once" if exactly_once else "at-least-once",
        loglevel=None,
    )


def topic(app: Application, settings: Settings, declared: Topic, **chosen: Any) -> QuixTopic:
    """Return a topic of the contract, with bytes for keys and values unless chosen otherwise."""
    serializers = {f"{part}_{way}": "bytes" for part in ("key", "value") for way in ("serializer", "deserializer")}
    return app.topic(declared.full_name(settings), **(serializers | chosen))
