"""How a Quix Streams flow is built: recovery in seconds after a kill, bytes in and out."""

from typing import Any

from confluent_kafka import TopicPartition
from quixstreams import Application
from quixstreams.models import Topic as QuixTopic

from flows.process import tell_ready
from flows.telemetry import statistics
from state.settings import Settings
from state.topics import Topic

_SESSION_TIMEOUT_MS = 6000
# After a kill the output stood still for as long as the dead process' transaction lived: 10.1 s with 10 s here.
_TRANSACTION_TIMEOUT_MS = 4000


class ReadyApplication(Application):
    """An application that says when it has been given its partitions and their state."""

    def __init__(self, settings: Settings, flow: str, **chosen: Any) -> None:
        self._flow = settings, flow
        super().__init__(**chosen)

    def _on_assign(self, consumer: Any, topic_partitions: list[TopicPartition]) -> None:
        super()._on_assign(consumer, topic_partitions)
        tell_ready(*self._flow)


def application(
    settings: Settings, flow: str, *, commit_interval_s: float, poll_timeout_s: float, exactly_once: bool
) -> Application:
    """Return an application whose group membership and transactions a restarted process takes over at once."""
    group = settings.group_id(flow)
    member = f"{group}-{settings.instance}"
    producer: dict[str, Any] = {"client.id": member, "compression.type": "lz4"}
    if exactly_once:
        producer |= {"transactional.id": member, "transaction.timeout.ms": _TRANSACTION_TIMEOUT_MS}
    return ReadyApplication(
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
        },
        producer_extra_config=producer,
        state_dir=settings.home / "quix" / member,
        processing_guarantee="exactly-once" if exactly_once else "at-least-once",
        loglevel=None,
    )


def topic(app: Application, settings: Settings, declared: Topic, **chosen: Any) -> QuixTopic:
    """Return a topic of the contract, with bytes for keys and values unless chosen otherwise."""
    serializers = {f"{part}_{way}": "bytes" for part in ("key", "value") for way in ("serializer", "deserializer")}
    return app.topic(declared.full_name(settings), **(serializers | chosen))
