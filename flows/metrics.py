"""Kafka `clean`, `rejected` -> counts per minute of event time -> Kafka `metrics`.

Exactly-once state, one dictionary per partition. The results of windows that have changed are written twice a second,
those of open ones with `final` false. They are absolute values, so writing one twice (after a crash) does no harm.

The state is read with a checkpoint's first event of a partition, counted on in memory, and put back when the checkpoint
is made: reading and putting it for each event took two thirds of this flow's time.
"""

import logging
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import KafkaException, Producer
from quixstreams import Application, State
from quixstreams.models.serializers import Deserializer
from quixstreams.sinks import BaseSink

from flows.process import collect_garbage_rarely, configure_logging
from flows.quix import application, topic
from flows.windowed_counts import GRACE, WINDOW, Counts, WindowedCounts
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

    def __call__(self, value: bytes, ctx: Any) -> bytes:
        return b"all"


class ToCount(NamedTuple):
    """One event, and the state of its partition as of the last checkpoint."""

    name: str
    ts: int
    state: State[str, Counts]


_decode = msgspec.msgpack.Decoder(_TypeAndTime).decode
_encode = msgspec.json.Encoder().encode


class CountingSink(BaseSink):
    """Counts, and at each checkpoint, before its transaction is committed, writes the results and puts the state."""

    def __init__(self, settings: Settings, metric: str, dimension: str) -> None:
        super().__init__()
        self._settings = settings
        self._metric = metric
        self._dimension = dimension
        self._open: dict[int, tuple[State[str, Counts], WindowedCounts]] = {}
        """Of partitions with events since the last checkpoint. A `State` belongs to one checkpoint."""

    def setup(self) -> None:
        self._topic = METRICS.full_name(self._settings)
        self._producer = Producer(
            {
                "bootstrap.servers": self._settings.kafka_brokers,
                "client.id": self._settings.group_id(FLOW),
                "enable.idempotence": True,
                "partitioner": PARTITIONER,
                "compression.type": "lz4",
                "linger.ms": 5,
                "delivery.report.only.error": True,
            },
            logger=log,
        )

    def add(
        self, value: ToCount, key: object, timestamp: int, headers: object, topic: str, partition: int, offset: int
    ) -> None:
        name, ts, state = value
        opened = self._open.get(partition)
        if opened is None:
            opened = self._open[partition] = state, WindowedCounts(state.get(_STATE_KEY))
        opened[1].add(name, ts)

    def flush(self) -> None:
        for partition, (state, counts) in self._open.items():
            self._write(partition, counts)
            state.set(_STATE_KEY, counts.to_counts())
        self._open.clear()
        if self._producer.flush(_FLUSH_TIMEOUT_S):
            raise TimeoutError(f"{self._topic}: results were not acknowledged within {_FLUSH_TIMEOUT_S:.0f} s")

    def on_paused(self) -> None:
        self._open.clear()

    def _write(self, partition: int, counts: WindowedCounts) -> None:
        window_ms = int(WINDOW.total_seconds() * 1000)
        for name, start, n, late, final in counts.results():
            result = MetricResult(
                metric=f"late_{self._metric}" if late else self._metric,  # type: ignore[arg-type]
                start_ms=start,
                end_ms=start + window_ms,
                dimensions={self._dimension: name},
                partition=partition,
                value=n,
                final=final,
            )
            self._produce(result.metric, _encode(result))

    def _produce(self, key: str, value: bytes) -> None:
        while True:
            try:
                self._producer.produce(self._topic, value, key, on_delivery=_raise_on_failure)
                return
            except BufferError:
                self._producer.poll(0.1)  # ends: the queue empties, or its messages time out, which raises here


def read_event(value: bytes, key: bytes, timestamp: int, headers: object, state: State[str, Counts]) -> ToCount:
    """Return what counts by type, in event time."""
    event = _decode(value)
    return ToCount(event.type, event.ts, state)


def read_rejected(value: bytes, key: bytes, timestamp: int, headers: object, state: State[str, Counts]) -> ToCount:
    """Return what counts by the field to blame, at the time of the rejection: the sender's time cannot be trusted."""
    found = dict(headers) if isinstance(headers, list) else {}
    field = (found.get("field") or b"").decode(errors="replace")
    return ToCount(field if not field or field.split("[")[0] in _FIELDS else "unknown", timestamp, state)


_FIELDS = frozenset(Event.__struct_fields__)


def build(settings: Settings) -> Application:
    """Wire the flow."""
    app = application(settings, FLOW, commit_interval_s=0.5, poll_timeout_s=0.25, exactly_once=True)
    clean = app.dataframe(topic(app, settings, CLEAN, key_deserializer=_OneKey()))
    clean.apply(read_event, stateful=True, metadata=True).sink(CountingSink(settings, "events", "type"))
    rejected = app.dataframe(topic(app, settings, REJECTED, key_deserializer=_OneKey()))
    rejected.apply(read_rejected, stateful=True, metadata=True).sink(CountingSink(settings, "rejected", "field"))
    return app


def _raise_on_failure(error: Any, message: Any) -> None:
    if error is not None:
        raise KafkaException(error)


def main() -> None:
    """Run the flow as a process; SIGTERM stops it."""
    settings = Settings()
    configure_logging(settings)
    collect_garbage_rarely()
    log.info("windows of %s, closed %s after their end", WINDOW, GRACE)
    build(settings).run()


if __name__ == "__main__":
    main()
