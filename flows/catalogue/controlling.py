"""What Redis lacks of the control documents, from Kafka: serving writes both, and Redis may be emptied."""

import logging
from collections.abc import Iterable

import msgspec

from flows.common.kafka_log import KafkaLog
from state.control import ControlDocument, version_field
from state.entries import CONTROL, CONTROL_HISTORY
from state.settings import Settings
from state.store import Changes, Store
from state.topics import CONTROL as CONTROL_TOPIC

log = logging.getLogger(__name__)

_decoder = msgspec.msgpack.Decoder(ControlDocument)


def missing(store: Store, messages: Iterable[bytes]) -> Changes:
    """Return what the store lacks of the documents in some messages; the highest version of each kind is in force."""
    documents: dict[str, ControlDocument] = {}
    for message in messages:
        document = _decoder.decode(message)
        documents[version_field(document.kind, document.version)] = document
    stored = store.get_rows(CONTROL_HISTORY, list(documents))
    changes = Changes()
    newest: dict[str, ControlDocument] = {}
    for field, document in documents.items():
        if field not in stored:
            changes.upsert(CONTROL_HISTORY, field, document)
        if document.kind not in newest or newest[document.kind].version < document.version:
            newest[document.kind] = document
    in_force = store.get_rows(CONTROL, list(newest))
    for kind, document in newest.items():
        if kind not in in_force or in_force[kind].version < document.version:
            changes.upsert(CONTROL, kind, document)
    return changes


def restore_documents(settings: Settings, store: Store, group: str) -> None:
    """Write what the store lacks. Raise `KafkaException` or `StoreUnavailableError`."""
    with KafkaLog(settings, group) as kafka:
        messages = []
        for partition in range(settings.partitions):
            begin, end = kafka.bounds(CONTROL_TOPIC, partition)
            messages += [found.value for found in kafka.read(CONTROL_TOPIC, partition, begin, end) if found.value]
    changes = missing(store, messages)
    if changes:
        log.warning("the store lacked control documents: %s", ", ".join(changes.rows[CONTROL_HISTORY]))
        store.commit(changes)
