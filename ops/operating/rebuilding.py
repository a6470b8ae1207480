"""State in Redis from the log again, into a spare database, by the logic of the flows themselves.

The catalogue comes first, then clean events and examples of all partitions, in step. An erasure stands in the log
behind what it erases, so nobody comes back. From the lake: events older than what Kafka still has, by their offsets;
the ranker learns from the examples that Kafka has.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from typing import Literal

from flows.catalogue.cataloguing import CatalogueWriter, ItemChange, parse_change
from flows.catalogue.controlling import restore_documents
from flows.common.batches import KafkaBatch
from flows.common.bytewax_kafka import KafkaSource
from flows.common.kafka_log import KafkaLog
from flows.features.feature_state import FeatureState
from flows.learn.learning import LearningState
from online_models.learning.learner import Learner
from online_models.warm_up import warm_up
from ops.operating.databases import Databases, Feedback
from ops.operating.lake_events import LakeEvents
from ops.stack.errors import StackError
from state.entries import SHOWN
from state.redis_store import RedisStore
from state.settings import Settings
from state.store import Changes
from state.topics import CLEAN, EXAMPLES, ITEMS
from state.validation import InvalidInputError

Origin = Literal["kafka", "lake"]

_ROLE = "rebuild"
_IN_STEP = timedelta(minutes=2)
_AT_ONCE = 2000
_FLUSH_S = 3.0

Report = Callable[[str, int, int], None]
"""What is read, how many offsets of how many."""


class Interrupted(Exception):  # noqa: N818 - nothing went wrong
    """It was told to stop."""


@dataclass
class Applied:
    """What the spare state contains of that which serving keeps beside it."""

    since_ms: int
    """Feedback that came later is noted; earlier one was carried over at the start."""
    feedback: set[Feedback] = field(default_factory=set)
    erased: set[str] = field(default_factory=set)
    is_new: bool = False
    """What is committed now may contain feedback that came since."""


class _NotingStore(RedisStore):
    def __init__(self, settings: Settings, applied: Applied) -> None:
        super().__init__(settings)
        self._applied = applied

    def commit(self, changes: Changes) -> None:
        super().commit(changes)
        if self._applied.is_new:
            self._applied.feedback |= {(user, event) for user, events in changes.settled.items() for event in events}
        self._applied.erased |= {
            user for (entry, user), value in changes.entries.items() if entry is SHOWN and value is None
        }


class Rebuild:
    """One rebuild. `run` ends when everything that is in the log is in the spare state; it can be called again."""

    def __init__(self, settings: Settings, databases: Databases, origin: Origin, stop: threading.Event) -> None:
        """Raise `StoreUnavailableError`; `stop` ends `run`."""
        self._settings = settings
        self._stop = stop
        self.applied = Applied(since_ms=_now_ms())
        store = _NotingStore(databases.spare_settings, self.applied)
        self._origin: Origin = origin
        self._store = store
        self._catalogue = CatalogueWriter(store)
        warm_up()
        self._features = FeatureState(store, "features", CLEAN.name, range(settings.partitions))
        self._learning = LearningState(
            store,
            "learn",
            Learner(organic_share=settings.learn_organic_share, replay_share=settings.learn_replay_share),
        )
        self._flush_at = time.monotonic() + _FLUSH_S
        self.n_events = 0

    def run(self, report: Report) -> None:
        """Read all that is there now.

        Raises
        ------
        StackError
            If the lake and Kafka do not meet.
        KafkaException, StoreUnavailableError, LakeError, Interrupted
        """
        self._read_catalogue(report)
        restore_documents(self._settings, self._store, self._settings.group_id(_ROLE))
        if self._origin == "lake" and not self._features.start():
            self._read_lake(report)
        self._read_log({**self._learning.start(), **self._features.start()}, report)

    def _read_catalogue(self, report: Report) -> None:
        with KafkaLog(self._settings, self._settings.group_id(_ROLE)) as log:
            for partition in range(self._settings.partitions):
                _, end = log.bounds(ITEMS, partition)
                position = self._catalogue.position(partition)
                for batch in _batches(log, partition, position, end):
                    self._apply(batch)
                    report("catalogue", partition + 1, self._settings.partitions)
        self._flush()

    def _read_lake(self, report: Report) -> None:
        with KafkaLog(self._settings, self._settings.group_id(_ROLE)) as log:
            first = {partition: log.bounds(CLEAN, partition)[0] for partition in range(self._settings.partitions)}
            cluster_id = log.cluster_id
        with LakeEvents(self._settings, cluster_id) as lake:
            for partition, offset in first.items():
                if (end := lake.end(partition)) < offset:
                    raise StackError(
                        f"The lake has events of partition {partition} up to {end}, Kafka from {offset}.",
                        "What is between is nowhere. freshet rebuild --from kafka takes what Kafka has.",
                    )
            n_events = lake.count(first)
            for batch in lake.batches(first):
                self._apply(batch)
                report("the lake's events", self.n_events, n_events)
        self._flush()

    def _read_log(self, start: Mapping[tuple[str, int], int], report: Report) -> None:
        partitions = range(self._settings.partitions)
        topics = (CLEAN, EXAMPLES, ITEMS)
        with KafkaLog(self._settings, self._settings.group_id(_ROLE)) as log:
            bounds = {(topic.name, p): log.bounds(topic, p) for topic in topics for p in partitions}
        source = KafkaSource(
            self._settings,
            _ROLE,
            dict.fromkeys(topics, partitions),
            self._stop,
            start=start,
            tell_ends=True,
            in_step=_IN_STEP,
        )
        part = source.build_part("", "", None)
        done = {where: max(start.get(where, 0), low) for where, (low, _) in bounds.items()}
        to_do = sum(max(0, high - done[where]) for where, (_, high) in bounds.items())
        open_ = set(bounds)
        begun = dict(done)
        try:
            while open_:
                for batch in part.next_batch():
                    where = batch.topic, batch.partition
                    self._apply(batch)
                    done[where] = batch.next_offset
                    if batch.at_end or batch.next_offset >= bounds[where][1]:
                        open_.discard(where)
                report("the log", sum(done[where] - begun[where] for where in done), to_do)
        except StopIteration:
            raise Interrupted from None
        finally:
            part.close()
        self._flush()

    def _apply(self, batch: KafkaBatch) -> None:
        if self._stop.is_set():
            raise Interrupted
        if batch.topic == CLEAN.name:
            self.applied.is_new |= bool(batch.timestamps) and batch.timestamps[-1] >= self.applied.since_ms
            self.n_events += len(batch.values)
            self._features.apply(batch)
        if batch.topic == ITEMS.name:
            self._catalogue.write(batch.partition, _changes(batch))
        self._learning.apply(batch)
        if time.monotonic() >= self._flush_at:
            self._flush()

    def _flush(self) -> None:
        self._features.flush()
        self._learning.flush()
        self._flush_at = time.monotonic() + _FLUSH_S


def _batches(log: KafkaLog, partition: int, begin: int, end: int) -> Iterator[KafkaBatch]:
    messages = log.read(ITEMS, partition, begin, end)
    while some := list(islice(messages, _AT_ONCE)):
        yield KafkaBatch(
            ITEMS.name,
            partition,
            [message.offset for message in some],
            [message.key for message in some],
            [message.value for message in some],
            [message.timestamp for message in some],
            some[-1].offset + 1,
        )


def _changes(batch: KafkaBatch) -> Iterator[tuple[int, int, ItemChange]]:
    for offset, key, value, timestamp in zip(batch.offsets, batch.keys, batch.values, batch.timestamps, strict=True):
        try:
            change = parse_change(key, value)
        except InvalidInputError:
            continue  # is in `rejected` since it was read the first time
        yield offset, timestamp, change


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
