"""How items and events get into Freshet: straight to Kafka, or over HTTP."""

from types import TracebackType
from typing import Protocol, Self

import confluent_kafka
import httpx
import msgspec

from ops.http_client import authorization
from state import topics
from state.records import Event, Item
from state.settings import Settings

_QUEUE_WAIT_S = 0.05
_POLL_EACH = 100
"""Messages: a poll takes half as long as giving the client one."""
_HTTP_BATCH = 500
_HTTP_TIMEOUT_S = 30.0

_encode = msgspec.json.Encoder().encode


class _Accepted(msgspec.Struct):
    accepted: int
    rejected: list[dict[str, int | str | None]] = []


_Answer = msgspec.json.Decoder(_Accepted)


class SendingError(Exception):
    """Traffic could not be delivered: to what, and why."""


class Sender(Protocol):
    """Takes items and events in order. Every method raises `SendingError`."""

    def item(self, item: Item) -> None: ...

    def event(self, event: Event) -> None: ...

    def flush(self) -> None:
        """Return when everything taken so far is acknowledged."""

    def poll(self) -> None:
        """Let what was taken go out, without waiting for it."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class KafkaSender:
    """Produces idempotently, with a bounded queue: a broker that is slower than the reader slows the reader down."""

    def __init__(self, settings: Settings, timeout_s: float = 60.0) -> None:
        """`timeout_s` is how long Kafka may take to acknowledge what it was given."""
        self._timeout_s = timeout_s
        self._brokers = settings.kafka_brokers
        self._error: str | None = None
        self._n_produced = 0
        self._events = topics.EVENTS.full_name(settings)
        self._items = topics.ITEMS.full_name(settings)
        self._producer = confluent_kafka.Producer(
            {
                "bootstrap.servers": settings.kafka_brokers,
                "partitioner": topics.PARTITIONER,
                "enable.idempotence": True,
                "linger.ms": 100,  # with 5, a log at full speed went in requests of ten events
                "batch.num.messages": 10_000,
                "batch.size": 262_144,
                "queue.buffering.max.messages": 50_000,
                "queue.buffering.max.kbytes": 65_536,
                "delivery.timeout.ms": int(timeout_s * 1000),
                "delivery.report.only.error": True,
                "log_level": 0,
            },
        )

    def item(self, item: Item) -> None:
        self._produce(self._items, item.item_id, _encode(item))

    def event(self, event: Event) -> None:
        self._produce(self._events, event.user_id, _encode(event))

    def flush(self) -> None:
        remaining = self._producer.flush(self._timeout_s)
        self._raise_failure()
        if remaining:
            raise SendingError(
                f"Kafka at {self._brokers}: {remaining} messages not acknowledged in {self._timeout_s:.0f} s"
            )

    def poll(self) -> None:
        self._producer.poll(0)
        self._raise_failure()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.flush()
        else:
            self._producer.purge()
            self._producer.flush(_QUEUE_WAIT_S)

    def _produce(self, topic: str, key: str, value: bytes) -> None:
        while True:
            try:
                self._producer.produce(topic, key=key, value=value, on_delivery=self._note_failure)
            except BufferError:
                self._producer.poll(_QUEUE_WAIT_S)
                self._raise_failure()
                continue
            self._n_produced += 1
            if self._n_produced % _POLL_EACH == 0:
                self.poll()
            return

    def _note_failure(self, error: confluent_kafka.KafkaError, message: confluent_kafka.Message) -> None:
        self._error = f"Kafka at {self._brokers}, topic {message.topic()}: {error.str()}"

    def _raise_failure(self) -> None:
        if self._error is not None:
            raise SendingError(self._error)


class HttpSender:
    """Posts batches to the public API."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._client = httpx.Client(base_url=base_url, timeout=_HTTP_TIMEOUT_S, headers=authorization())
        self._items: list[Item] = []
        self._events: list[Event] = []

    def item(self, item: Item) -> None:
        self._items.append(item)
        if len(self._items) >= _HTTP_BATCH:
            self._send_items()

    def event(self, event: Event) -> None:
        self._events.append(event)
        if len(self._events) >= _HTTP_BATCH:
            self._send_events()

    def flush(self) -> None:
        self._send_items()
        self._send_events()

    def poll(self) -> None:
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.flush()
        finally:
            self._client.close()

    def _send_items(self) -> None:
        if self._items:
            self._request("PUT", "/v1/items", _encode({"items": self._items}))
            self._items = []

    def _send_events(self) -> None:
        if self._events:
            answer = _Answer.decode(self._request("POST", "/v1/events", _encode({"events": self._events})))
            if answer.rejected:
                raise SendingError(f"{self._base_url}/v1/events refused {len(answer.rejected)}: {answer.rejected[0]}")
            self._events = []

    def _request(self, method: str, path: str, body: bytes) -> bytes:
        try:
            response = self._client.request(method, path, content=body, headers={"content-type": "application/json"})
        except httpx.HTTPError as error:
            raise SendingError(f"{method} {self._base_url}{path}: {error or type(error).__name__}") from error
        if response.is_error:
            raise SendingError(f"{method} {self._base_url}{path}: {response.status_code} {response.text[:300]}")
        return response.content
