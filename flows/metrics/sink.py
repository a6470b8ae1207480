"""Where sums are kept between checkpoints, and how they are told: to the topic `metrics`, and to Redis."""

import logging
import uuid
from time import monotonic, time
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import KafkaException, Producer
from quixstreams import State
from quixstreams.sinks import BaseSink, SinkBackpressureError

from flows.common.batches import KafkaBatch
from flows.common.telemetry import statistics
from flows.metrics.slate_log import BehindError
from flows.metrics.tallies import Books, Tally
from flows.metrics.windowed_sums import Sums, Where, WindowedSums, WindowSums
from state.entries import METRIC_WINDOWS, metric_window_id
from state.metrics import EXPOSURE, MAX_SAMPLED_ITEMS, SCORES, WIDTHS, Family, dimensions_of
from state.records import MetricResult, MetricWindow
from state.settings import Settings
from state.store import Changes, Store, StoreUnavailableError
from state.topics import METRICS, PARTITIONER

log = logging.getLogger(__name__)

_FLUSH_TIMEOUT_S = 20.0
_PAUSE_S = 1.0
_HEAD = "head"
_TELL_EVERY_S = dict(zip(WIDTHS, (0.0, 5.0, 20.0), strict=True))
_TELL_MANY_EVERY_S = dict(zip(WIDTHS, (5.0, 10.0, 60.0), strict=True))
"""Of families with many sums. A final result is told at once."""
_MANY = frozenset({EXPOSURE.name, SCORES.name})

_NEVER = float("-inf")

_encode = msgspec.json.Encoder().encode

Kept = State[str, Any]


class Messages(NamedTuple):
    """Messages of one partition, and its state as of the last checkpoint."""

    batch: KafkaBatch
    state: Kept


def read(batch: KafkaBatch, state: Kept) -> Messages:
    """Put together what the sink needs."""
    return Messages(batch, state)


class _Head(NamedTuple):
    """What is kept beside the windows."""

    token: str
    """Of the checkpoint: what is in memory is what is kept when it is of the same one."""
    stream_ts: dict[str, int]
    open: dict[str, list[list[int]]]
    """Family -> width and start of its open windows."""


class _Partition:
    """The sums of one partition, in memory, and what has not been told of them yet."""

    def __init__(self, families: tuple[Family, ...], state: Kept) -> None:
        head = _head(state)
        self.token = head.token
        self.books = Books()
        for family in families:
            windows: dict[Where, dict[str, Sums]] = {
                (width, start): state.get(_window_key(family.name, (width, start))) or {}
                for width, start in head.open.get(family.name, ())
            }
            self.books[family.name] = WindowedSums(
                head.stream_ts.get(family.name, 0),
                windows,
                max_sampled=MAX_SAMPLED_ITEMS if family == EXPOSURE else None,
            )
        self._kept = {(family, where) for family, book in self.books.items() for where in book.windows}
        """In the state. In a replay most windows open and close between two checkpoints."""
        self._untold: dict[tuple[str, Where], set[str]] = {}
        self._told_at: dict[tuple[str, Where], float] = {}

    def take(self, state: Kept, token: str, now: float) -> list[tuple[str, WindowSums]]:
        """Put into the state what has changed, and return what is to be told now."""
        to_tell = []
        for family, book in self.books.items():
            results = book.take()
            for result in results:
                where = result.width, result.start
                if not result.final:
                    state.set(_window_key(family, where), result.sums)
                    self._kept.add((family, where))
                elif (family, where) in self._kept:
                    state.delete(_window_key(family, where))
                    self._kept.remove((family, where))
            to_tell += [(family, result) for result in self._note(family, results)]
        self.token = token
        stream_ts = {family: book.stream_ts for family, book in self.books.items()}
        windows = {family: [list(where) for where in book.windows] for family, book in self.books.items()}
        state.set(_HEAD, {"token": token, "stream_ts": stream_ts, "open": windows})
        return to_tell + self.due(now)

    def _note(self, family: str, results: list[WindowSums]) -> list[WindowSums]:
        """Return what is final; the rest is told when it is due."""
        final = []
        for result in results:
            key = family, (result.width, result.start)
            if result.final:
                self._untold.pop(key, None)
                self._told_at.pop(key, None)
                final.append(result)
            else:
                self._untold.setdefault(key, set()).update(result.changed)
        return final

    def due(self, now: float) -> list[tuple[str, WindowSums]]:
        """Return what of open windows is to be told now."""
        found = []
        for key in list(self._untold):
            family, where = key
            every = _TELL_MANY_EVERY_S if family in _MANY else _TELL_EVERY_S
            if now - self._told_at.get(key, _NEVER) >= every[where[0]]:
                sums = self.books[family].windows[where]
                found.append((family, WindowSums(*where, final=False, sums=sums, changed=self._untold.pop(key))))
                self._told_at[key] = now
        return found


class WindowSink(BaseSink):
    """Sums messages, and at each checkpoint, before its transaction is committed, tells results and puts the state.

    Sums stay in memory from one checkpoint to the next; they are read from the state where it is not that of the last
    checkpoint here: after a start, after another process had the partition, after a checkpoint that failed.
    """

    def __init__(self, settings: Settings, flow: str, tally: Tally, store: Store) -> None:
        super().__init__()
        self._settings = settings
        self._flow = flow
        self._tally = tally
        self._store = store
        self._known: dict[int, _Partition] = {}
        self._open: dict[int, Kept] = {}
        """Of partitions with messages since the last checkpoint. A `State` belongs to one checkpoint."""
        self._tokens = uuid.uuid4().hex
        self._n_checkpoints = 0

    def setup(self) -> None:
        self._topic = METRICS.full_name(self._settings)
        self._producer = Producer(
            {
                "bootstrap.servers": self._settings.kafka_brokers,
                "client.id": self._settings.group_id(self._flow),
                **statistics(self._settings),
                "enable.idempotence": True,
                "partitioner": PARTITIONER,
                "compression.type": "lz4",
                "linger.ms": 5,
                "delivery.report.only.error": True,
            },
            logger=log,
        )

    def add(
        self, value: Messages, key: object, timestamp: int, headers: object, topic: str, partition: int, offset: int
    ) -> None:
        if partition not in self._open:
            self._begin(partition, value.state)
        books, batch = self._known[partition].books, value.batch
        for at, message in enumerate(batch.values):
            try:
                self._tally.add(books, partition, message or b"", batch.timestamps[at], batch.headers[at])
            except msgspec.MsgspecError as error:
                log.error("%s[%d] %d is left out: %s", topic, partition, batch.offsets[at], error)

    def flush(self) -> None:
        self._n_checkpoints += 1
        token = f"{self._tokens}:{self._n_checkpoints}"
        now = monotonic()
        for partition in self._open:
            self._settle(partition)
        results = {partition: self._known[partition].take(state, token, now) for partition, state in self._open.items()}
        self._open.clear()
        try:
            self._tell_all(results)
        except StoreUnavailableError as error:
            raise self._again(error, _PAUSE_S) from error

    def tell_rest(self, partitions: set[int]) -> None:
        """Tell what no message will bring up: wide windows are told more rarely than they change.

        `partitions` are those whose sums in memory are what is kept, but for what the next checkpoint takes.
        """
        now = monotonic()
        quiet = (partitions & self._known.keys()) - self._open.keys()
        try:
            self._tell_all({partition: due for partition in quiet if (due := self._known[partition].due(now))})
        except StoreUnavailableError as error:
            log.warning("results are in the topic only: %s", error)

    def _tell_all(self, results: dict[int, list[tuple[str, WindowSums]]]) -> None:
        changes, wall_ms = Changes(), int(time() * 1000)
        for partition, of_partition in results.items():
            for family, result in of_partition:
                self._tell(family, partition, result)
                _remember(changes, family, partition, result, wall_ms)
        if self._producer.flush(_FLUSH_TIMEOUT_S):
            raise TimeoutError(f"{self._topic}: results were not acknowledged within {_FLUSH_TIMEOUT_S:.0f} s")
        if changes:
            self._store.commit(changes)

    def _settle(self, partition: int) -> None:
        try:
            self._tally.settle(self._known[partition].books, partition)
        except BehindError as error:
            raise self._again(error, 0.0) from error

    def _again(self, error: Exception, after_s: float) -> SinkBackpressureError:
        """Give up this checkpoint; its messages will be read once more."""
        log.warning("reads again: %s", error)
        self.on_paused()
        return SinkBackpressureError(after_s)

    def on_paused(self) -> None:
        self._open.clear()
        self._tally.forget()
        self._known.clear()

    def _begin(self, partition: int, state: Kept) -> None:
        self._open[partition] = state
        known = self._known.get(partition)
        if known is None or known.token != _head(state).token:
            self._known[partition] = _Partition(self._tally.families, state)

    def _tell(self, family: str, partition: int, window: WindowSums) -> None:
        for cut in sorted(window.changed):
            result = MetricResult(
                metric=family,
                start_ms=window.start,
                end_ms=window.start + window.width,
                dimensions=dimensions_of(cut),
                partition=partition,
                sums=window.sums[cut],
                final=window.final,
            )
            self._produce(family, _encode(result))

    def _produce(self, key: str, value: bytes) -> None:
        while True:
            try:
                self._producer.produce(self._topic, value, key, on_delivery=_raise_on_failure)
                return
            except BufferError:
                self._producer.poll(0.1)  # ends: the queue empties, or its messages time out, which raises here


def _remember(changes: Changes, family: str, partition: int, window: WindowSums, wall_ms: int) -> None:
    """For the dashboard; a window that is older than Redis keeps them is left out."""
    entry = METRIC_WINDOWS[window.width]
    if window.start + window.width > wall_ms - entry.ttl.total_seconds() * 1000:
        changes.put(entry, metric_window_id(family, window.start, partition), MetricWindow(window.final, window.sums))


def _head(state: Kept) -> _Head:
    kept = state.get(_HEAD)
    return _Head(**kept) if kept else _Head("", {}, {})


def _window_key(family: str, where: Where) -> str:
    return f"{family}:{where[0]}:{where[1]}"


def _raise_on_failure(error: Any, message: Any) -> None:
    if error is not None:
        raise KafkaException(error)
