"""What `flows.clean` does with one partition of `events`, free of Kafka: validate, normalise, deduplicate."""

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from flows.clean.deduplication import ARRIVAL_SPAN, EVENT_TIME_SPAN, RecentIds, fingerprint
from flows.common.batches import KafkaBatch
from state.records import CleanEvent, Event
from state.validation import MAX_CLOCK_SKEW_MS, InvalidInputError, parse_event

_encode = msgspec.msgpack.Encoder().encode


class Rejected(NamedTuple):
    """An invalid event: its place in the batch and why."""

    at: int
    error: InvalidInputError


class Misplaced(NamedTuple):
    """A valid event in a partition that is not its user's: its place in the batch, and where it belongs."""

    at: int
    user: bytes
    partition: int


class Cleaned(NamedTuple):
    """What has become of a batch. What is in none of the lists was seen before."""

    clean: list[tuple[bytes, bytes]]
    """(user id, msgpack `CleanEvent`), in order."""
    rejected: list[Rejected]
    misplaced: list[Misplaced]
    n_duplicates: int
    fingerprints: list[int]
    newest_ts: int
    """Highest event time in `clean`, 0 when there is none."""
    arrived: int


class Progress(NamedTuple):
    """How far a partition of `events` has been cleaned, as committed with its offset."""

    stream_ts: int = 0
    """Highest event time accepted, epoch ms."""
    arrived: int = 0
    """Arrival of the last event, epoch ms."""

    def after(self, cleaned: Cleaned) -> "Progress":
        """Return the progress when a batch has been applied."""
        return Progress(max(self.stream_ts, cleaned.newest_ts), max(self.arrived, cleaned.arrived))

    def encode(self) -> str:
        return f"{self.stream_ts} {self.arrived}"

    @classmethod
    def decode(cls, metadata: str | None) -> "Progress":
        """Return the progress, that of a new partition when there is none."""
        return cls(*(int(part) for part in metadata.split())) if metadata else cls()

    @property
    def needed_since(self) -> int:
        """Arrival (epoch ms) since which events may be needed: none arrives long before its own event time."""
        by_event_time = self.stream_ts - int(EVENT_TIME_SPAN.total_seconds() * 1000) - MAX_CLOCK_SKEW_MS
        return max(0, min(by_event_time, self.arrived - int(ARRIVAL_SPAN.total_seconds() * 1000)))


class PartitionCleaner:
    """Cleans the batches of one partition, in order.

    `clean` changes nothing, `apply` does when its result is committed: a batch whose transaction was aborted is simply
    cleaned again.
    """

    def __init__(self, partition: int, partition_of: Callable[[str], int], ids: RecentIds, progress: Progress) -> None:
        self.progress = progress
        self.ids = ids
        self._partition = partition
        self._partition_of = partition_of

    def clean(self, batch: KafkaBatch) -> Cleaned:
        """Sort the messages out, by the broker's clock at their arrival, so that doing it again says the same."""
        events, rejected, misplaced = self._parse(batch)
        fingerprints = [fingerprint(event.user_id, event.event_id) for event in events]
        fresh: dict[int, Event] = {}
        for event, event_fingerprint, known in zip(events, fingerprints, self.ids.known(fingerprints), strict=True):
            if not known:
                fresh.setdefault(event_fingerprint, event)
        return Cleaned(
            clean=[(event.user_id.encode(), _encode(_normalise(event))) for event in fresh.values()],
            rejected=rejected,
            misplaced=misplaced,
            n_duplicates=len(events) - len(fresh),
            fingerprints=list(fresh),
            newest_ts=max((event.ts for event in fresh.values()), default=0),
            arrived=batch.timestamps[-1] if batch.timestamps else 0,
        )

    def apply(self, cleaned: Cleaned) -> None:
        """The batch is committed: remember it."""
        self.progress = self.progress.after(cleaned)
        self.ids.add(cleaned.fingerprints, cleaned.newest_ts, self.progress.stream_ts, cleaned.arrived)

    def _parse(self, batch: KafkaBatch) -> tuple[list[Event], list[Rejected], list[Misplaced]]:
        events: list[Event] = []
        rejected: list[Rejected] = []
        misplaced: list[Misplaced] = []
        for at, (value, arrived) in enumerate(zip(batch.values, batch.timestamps, strict=True)):
            try:
                event = parse_event(value or b"", arrived)
            except InvalidInputError as error:
                rejected.append(Rejected(at, error))
                continue
            partition = self._partition_of(event.user_id)
            if partition == self._partition:
                events.append(event)
            else:
                misplaced.append(Misplaced(at, event.user_id.encode(), partition))
        return events, rejected, misplaced


def _normalise(event: Event) -> CleanEvent:
    """Drop what was told by leaving it out. `parse_event` has made numeric values floats."""
    return CleanEvent(
        event.event_id,
        event.type,
        event.user_id,
        event.item_id,
        event.ts,
        event.session_id,
        event.request_id,
        event.position,
        event.value,
        event.context or None,
    )
