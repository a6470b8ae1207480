"""Kafka `items` -> validated -> Redis table CATALOGUE; what is invalid -> `rejected`.

An empty value removes an item. Rows and the position they come from are written in one transaction; when Redis holds
less than the consumer group has committed (it was emptied, or went back), the flow reads the difference again first.
"""

import logging
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from quixstreams import Application, message_context
from quixstreams.sinks import BatchingSink, SinkBatch

from flows.catalogue.cataloguing import FLOW, CatalogueWriter, ItemChange, parse_change
from flows.catalogue.controlling import restore_documents
from flows.common.kafka_log import committed_offsets
from flows.common.process import begin
from flows.common.quix import application, topic
from state.redis_store import RedisStore
from state.settings import Settings
from state.store import StateLostError, StoreUnavailableError
from state.topics import ITEMS, REJECTED
from state.validation import InvalidInputError

log = logging.getLogger(__name__)

_REQUEST_TIMEOUT_S = 20.0
_MAX_MESSAGES = 5000
_MAX_LETTER_BYTES = 900_000  # brokers take 1 MB unless told otherwise


class RejectedItem(NamedTuple):
    """Bytes that are no item, and why."""

    value: bytes
    source: str
    field: str
    reason: str


class CatalogueSink(BatchingSink):
    """Gives each checkpoint's changes to the writer; the offsets are committed after that."""

    def __init__(self, writer: CatalogueWriter) -> None:
        super().__init__()
        self._writer = writer

    def write(self, batch: SinkBatch) -> None:
        self._writer.write(batch.partition, ((item.offset, item.timestamp, item.value) for item in batch))


def read_change(value: bytes | None, key: bytes | None, timestamp: int, headers: object) -> ItemChange | RejectedItem:
    """Return the change, or what goes to `rejected`."""
    try:
        return parse_change(key, value)
    except InvalidInputError as error:
        context = message_context()
        source = f"{context.topic}/{context.partition}/{context.offset}"
        return RejectedItem((value or b"")[:_MAX_LETTER_BYTES], source, error.field, error.reason)


def reasons(rejected: RejectedItem, key: object, timestamp: int, headers: object) -> list[tuple[str, bytes]]:
    """Return the headers of a dead letter."""
    return [
        ("reason", rejected.reason.encode()),
        ("field", rejected.field.encode()),
        ("source", rejected.source.encode()),
    ]


def build(settings: Settings, writer: CatalogueWriter) -> Application:
    """Wire the flow."""
    app = application(settings, FLOW, commit_interval_s=0.1, poll_timeout_s=0.05, exactly_once=False)
    changes = app.dataframe(topic(app, settings, ITEMS)).apply(read_change, metadata=True)
    # ItemChange | RejectedItem
    letters = changes.filter(lambda change: isinstance(change, RejectedItem)).set_headers(reasons)
    # RejectedItem
    letters.apply(lambda letter: letter.value).to_topic(topic(app, settings, REJECTED))
    changes.filter(lambda change: isinstance(change, ItemChange)).sink(CatalogueSink(writer))
    return app


def restore(settings: Settings, writer: CatalogueWriter) -> None:
    """Read again what the consumer group has committed and the store does not hold."""
    name = ITEMS.full_name(settings)
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka_brokers,
            "group.id": settings.group_id(FLOW),  # for what it has committed; it is not joined
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
        },
        logger=log,
    )
    try:
        metadata = consumer.list_topics(name, timeout=_REQUEST_TIMEOUT_S).topics[name]
        if metadata.error is not None:
            raise KafkaException(metadata.error)
        wanted = [TopicPartition(name, partition) for partition in metadata.partitions]
        committed = {w.partition: w.offset for w in committed_offsets(consumer, wanted, _REQUEST_TIMEOUT_S)}
        behind = {p: writer.position(p) for p, offset in committed.items() if writer.position(p) < offset}
        if not behind:
            return
        log.warning("the store is behind what was committed, reads again from %s to %s", behind, committed)
        consumer.assign([TopicPartition(name, p, offset) for p, offset in behind.items()])
        while behind:
            changed: dict[int, list[tuple[int, int, ItemChange]]] = {}
            for message in consumer.consume(_MAX_MESSAGES, 1.0):
                error, partition = message.error(), message.partition()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
                if error is not None or message.offset() >= committed[partition] - 1:
                    behind.pop(partition, None)
                if error is None:
                    try:
                        change = parse_change(message.key(), message.value())
                    except InvalidInputError as invalid:
                        log.debug("%s[%d] %d: %s", name, partition, message.offset(), invalid)
                        continue  # is in `rejected` since it was read the first time
                    changed.setdefault(partition, []).append((message.offset(), message.timestamp()[1], change))
            for partition, found in changed.items():
                writer.write(partition, found)
    finally:
        consumer.close()


def main() -> None:
    """Run the flow as a process; SIGTERM stops it."""
    settings = begin(FLOW)
    try:
        store = RedisStore(settings)
        writer = CatalogueWriter(store)
        restore(settings, writer)
        restore_documents(settings, store, settings.group_id(FLOW))
        build(settings, writer).run()
    except (KafkaException, StateLostError, StoreUnavailableError) as error:
        log.critical("stops, to be started again: %s", error)
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
