"""Finding one logged list in Kafka."""

import logging
import time
from typing import Protocol

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from state.records import Impression
from state.settings import Settings
from state.topics import IMPRESSIONS

_TIMEOUT_S = 5.0
_SEARCH_S = 15.0
_MAX_MESSAGES = 500
_EARLIER_MS = 1000
"""Clocks of serving and of its Kafka client are one, but the id's time is taken first."""
_log = logging.getLogger("serving")
_decoder = msgspec.msgpack.Decoder(Impression)


class NotAnsweringError(Exception):
    """Kafka does not answer, or not in time."""


class LoggedLists(Protocol):
    """Where answered lists are looked up."""

    def find(self, request_id: str, ts: int, partition: int) -> Impression | None:
        """Return the list that was logged about then, None when it is not there (any more).

        Blocks for some seconds at most. Raise `NotAnsweringError`.
        """


class KafkaLists:
    """Looks lists up in the topic `impressions`: in the partition from the time on, to its end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def find(self, request_id: str, ts: int, partition: int) -> Impression | None:
        consumer = Consumer(
            {
                "bootstrap.servers": self._settings.kafka_brokers,
                "group.id": "freshet-lookup",  # never joined
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 20,
                "log_level": 2,
            }
        )
        try:
            return _find(consumer, IMPRESSIONS.full_name(self._settings), request_id, ts, partition)
        except KafkaException as error:
            raise NotAnsweringError(f"Kafka does not answer: {error.args[0].str()}") from error
        finally:
            consumer.close()


def _find(consumer: Consumer, topic: str, request_id: str, ts: int, partition: int) -> Impression | None:
    where = TopicPartition(topic, partition, max(0, ts - _EARLIER_MS))
    (begin,) = consumer.offsets_for_times([where], timeout=_TIMEOUT_S)
    if begin.error is not None:
        raise KafkaException(begin.error)
    if begin.offset < 0:
        return None  # nothing is as new
    consumer.assign([begin])
    wanted = request_id.encode()
    until = time.monotonic() + _SEARCH_S
    while time.monotonic() < until:
        for message in consumer.consume(_MAX_MESSAGES, 0.5):
            error, value = message.error(), message.value()
            if error is not None and error.code() == KafkaError._PARTITION_EOF:
                return None
            if error is not None:
                raise KafkaException(error)
            if value is not None and wanted in value[: len(wanted) + 8]:
                return _decoder.decode(value)
    raise NotAnsweringError(f"{topic}[{partition}] was not searched to its end within {_SEARCH_S:.0f} s")
