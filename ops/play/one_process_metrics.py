"""The metrics of one process: what `flows.metrics` sums, without Kafka and its state."""

from collections.abc import Iterable, Mapping

from flows.common.batches import KafkaBatch
from flows.common.caches import Newest
from flows.metrics.slate_log import MAX_SLATES
from flows.metrics.tallies import Books, SlateKind, Tally, TallyEvents, TallyLabels, TallySlates, decode_kind
from flows.metrics.windowed_sums import WindowedSums
from state.entries import METRIC_WINDOWS, metric_window_id
from state.metrics import EXPOSURE, MAX_SAMPLED_ITEMS
from state.records import MetricWindow
from state.store import Changes, Store
from state.topics import CLEAN, EXAMPLES, IMPRESSIONS

_PARTITION = 0
_EVERY_MS = 500


class LocalMetrics:
    """Sums what it is given, and writes recent windows into the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kinds: Newest[str, SlateKind] = Newest(MAX_SLATES)
        self._tallies: dict[str, Tally] = {
            CLEAN.name: TallyEvents(self, window_ms=0),
            IMPRESSIONS.name: TallySlates(),
            EXAMPLES.name: TallyLabels(),
        }
        self._books = Books(
            (family.name, WindowedSums(max_sampled=MAX_SAMPLED_ITEMS if family == EXPOSURE else None))
            for tally in self._tallies.values()
            for family in tally.families
        )
        self._written_ms = 0

    def find(self, partition: int, wanted: Iterable[str], since: int, until: int) -> Mapping[str, SlateKind]:
        """Return those of the wanted lists that are known: lists are given before the events that name them."""
        return {name: self._kinds[name] for name in wanted if name in self._kinds}

    def apply(self, batch: KafkaBatch) -> None:
        """Sum a stretch of one of the topics. Raise `msgspec.MsgspecError` for what no flow writes."""
        tally = self._tallies[batch.topic]
        for value, ts in zip(batch.values, batch.timestamps, strict=True):
            assert value is not None
            if batch.topic == IMPRESSIONS.name:
                request_id, _, kind = decode_kind(value)
                self._kinds.remember(request_id, kind)
            tally.add(self._books, _PARTITION, value, ts, None)

    def flush(self, now_ms: int) -> None:
        """Write what has changed, twice a second."""
        if now_ms - self._written_ms < _EVERY_MS:
            return
        self._written_ms = now_ms
        changes = Changes()
        for tally in self._tallies.values():
            tally.settle(self._books, _PARTITION)
        for family, book in self._books.items():
            for window in book.take():
                entry = METRIC_WINDOWS[window.width]
                if window.start + window.width > now_ms - entry.ttl.total_seconds() * 1000:
                    place = metric_window_id(family, window.start, _PARTITION)
                    changes.put(entry, place, MetricWindow(window.final, window.sums))
        if changes:
            self._store.commit(changes)
