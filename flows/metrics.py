"""Kafka `clean`, `rejected` -> counts per minute of event time -> Kafka `metrics`.

Exactly-once state, one dictionary per partition. The results of windows that have changed are written once a second,
those of open ones with `final` false. They are absolute values, so writing one twice (after a crash) does no harm.
"""

import logging
from typing import Any

import msgspec
from confluent_kafka import KafkaException, Producer
from quixstreams import Application, State
from quixstreams.models.serializers import Deserializer
from quixstreams.sinks import BaseSink

from flows.process import configure_logging
from flows.quix import application, topic
from flows.windowed_counts import GRACE, WINDOW, Count, Counts, count, empty
from state.records import Event, MetricResult
from state.settings import Settings
from state.topics import CLEAN, METRICS, PARTITIONER, REJECTED

FLOW = "metrics"

log = logging.getLogger(__name__)

_FLUSH_TIMEOUT_S = 20.0
_STATE_KEY = "counts"


class _TypeAndTime(msgspec.Struct, array_like=True):
    """The part of `CleanEvent` that is counted; the rest is skipped."""

    event_id: msgspec.Raw
    type: str
    user_id: msgspec.Raw
    item_id: msgspec.Raw
    ts: int


class _OneKey(Deserializer):
    """State is kept per message key: with one key for all, there is one state per partition."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __call__(self, value: bytes, ctx: Any) -> str:
        return "all"


_decode = msgspec.msgpack.Decoder(_TypeAndTime).decode
_encode = msgspec.json.Encoder().encode


class ResultSink(BaseSink):
    """Writes the newest result of each window at each checkpoint, before its transaction is committed."""

    def __init__(self, settings: Settings, metric: str, dimension: str) -> None:
        super().__init__()
        self._settings = settings
        self._metric = metric
        self._dimension = dimension
        self._results: dict[tuple[str, int, int, str], MetricResult] = {}

    def setup(self) -> None:
        self._topic = METRICS.full_name(self._settings)
        self._producer = Producer(
            {
                "bootstrap.servers": self._settings.kafka_brokers,
                "client.id": self._settings.group_id(FLOW),
                "enable.idempotence": True,
                "partitioner": PARTITIONER,
                "linger.ms": 5,
            },
            logger=log,
        )

    def add(
        self, value: list[Count], key: object, timestamp: int, headers: object, topic: str, partition: int, offset: int
    ) -> None:
        window_ms = int(WINDOW.total_seconds() * 1000)
        for name, start, n, late, final in value:
            metric = f"late_{self._metric}" if late else self._metric
            self._results[metric, partition, start, name] = MetricResult(
                metric=metric,  # type: ignore[arg-type]
                start_ms=start,
                end_ms=start + window_ms,
                dimensions={self._dimension: name},
                partition=partition,
                value=n,
                final=final,
            )

    def flush(self) -> None:
        for result in self._results.values():
            self._producer.produce(self._topic, _encode(result), result.metric, on_delivery=_raise_on_failure)
        self._results.clear()
        if self._producer.flush(_FLUSH_TIMEOUT_S):
            raise TimeoutError(f"{self._topic}: results were not acknowledged within {_FLUSH_TIMEOUT_S:.0f} s")


def count_event(value: bytes, key: str, timestamp: int, headers: object, state: State[str, Counts]) -> list[Count]:
    """Count by type, in event time."""
    event = _decode(value)
    return _count(state, event.type, event.ts)


def count_rejected(value: bytes, key: str, timestamp: int, headers: object, state: State[str, Counts]) -> list[Count]:
    """Count by the field to blame, at the time of the rejection: what the sender says of time cannot be trusted."""
    found = dict(headers) if isinstance(headers, list) else {}
    field = (found.get("field") or b"").decode(errors="replace")
    return _count(state, field if not field or field.split("[")[0] in _FIELDS else "unknown", timestamp)


_FIELDS = frozenset(Event.__struct_fields__)


def _count(state: State[str, Counts], name: str, ts: int) -> list[Count]:
    counts: Counts = state.get(_STATE_KEY) or empty()
    changed = count(counts, name, ts)
    state.set(_STATE_KEY, counts)
    return changed


def build(settings: Settings) -> Application:
    """Wire the flow."""
    app = application(settings, FLOW, commit_interval_s=1.0, poll_timeout_s=0.25, exactly_once=True)
    clean = app.dataframe(topic(app, settings, CLEAN, key_deserializer=_OneKey()))
    clean.apply(count_event, stateful=True, metadata=True).sink(ResultSink(settings, "events", "type"))
    rejected = app.dataframe(topic(app, settings, REJECTED, key_deserializer=_OneKey()))
    rejected.apply(count_rejected, stateful=True, metadata=True).sink(ResultSink(settings, "rejected", "field"))
    return app


def _raise_on_failure(error: Any, message: Any) -> None:
    if error is not None:
        raise KafkaException(error)


def main() -> None:
    """Run the flow as a process; SIGTERM stops it."""
    settings = Settings()
    configure_logging(settings)
    log.info("windows of %s, closed %s after their end", WINDOW, GRACE)
    build(settings).run()


if __name__ == "__main__":
    main()
