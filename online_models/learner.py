"""The write side of all models: learns each event and each labelled list once, and tells which rows have changed."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any

import msgspec
import numpy as np

from online_models.arrays import Noise, Slots
from online_models.columns import Columns, Context
from online_models.feature_matrix import feature_matrix
from online_models.features import FEATURE_SET, FEATURES
from online_models.histories import Histories, History
from online_models.items import ItemSlots
from online_models.outcomes import INTERACTIONS, is_positive
from online_models.ranker import FeatureSetError, Ranker
from online_models.rings import RecentIds, Ring
from online_models.sources import Covisited, Popular, union
from online_models.user_view import taste_weight
from state.entries import CATALOGUE, ITEM_MODEL, ITEM_VECTOR, LEARNER, LEARNER_USER, MODEL, NEIGHBOURS, Table
from state.records import BlobRow, CleanEvent, Example, Item, ItemRow, NeighboursRow, UserRow
from state.store import Changes, Store

_N_SAMPLED = 10
_SAMPLED_FROM = 60


class LearnerError(Exception):
    """The stored rows do not make a learner."""


@dataclass
class LearnerCounts:
    """What the learner has done since its models began."""

    events: int = 0
    lists: int = 0
    """Served lists that the ranker learned."""
    organic: int = 0
    """Positives that no request explains."""
    organic_lists: int = 0
    """Of these, those that a list was made for."""
    repeated_examples: int = 0
    skipped_examples: int = 0
    """Without features, or with those of another version, or with values that are no numbers."""
    forgotten_items: int = 0


class Budget:
    """Grants work as long as it takes at most a share of the time, measured with the given clock (seconds)."""

    def __init__(self, share: float, clock: Callable[[], float] = time.perf_counter, burst_s: float = 0.1) -> None:
        self._share = share
        self._clock = clock
        self._burst_s = burst_s
        self._credit_s = burst_s
        self._at = clock()

    def start(self) -> float | None:
        """Return when the work began, to be given to `stop`; None when there is no time for it."""
        now = self._clock()
        self._credit_s = min(self._burst_s, self._credit_s + (now - self._at) * self._share)
        self._at = now
        return now if self._credit_s > 0 else None

    def stop(self, started: float) -> None:
        self._credit_s -= self._clock() - started


class Learner:
    """All models over one numbering of the items, learned from the stream.

    Bounded: at most `max_items` items; the twentieth with the oldest last event (the time of arrival, for one without)
    is forgotten when another comes. At most `max_users` histories stay in memory after a flush; others are read back
    from the store when their users return (`missing_users`, `restore_users`). About 0.8 KB per item and 1 KB per user.

    A positive that belongs to no request, and was a candidate at its moment, trains the ranker with a list made then:
    itself and ten of the candidates it competed with. `organic_share` of the time goes into that, at most.
    """

    def __init__(
        self,
        max_items: int = 1_000_000,
        max_users: int = 100_000,
        organic_share: float = 0.15,
        clock: Callable[[], float] = time.perf_counter,
        seed: int = 11,
    ) -> None:
        self.columns = Columns()
        self.items = ItemSlots()
        self.histories = Histories(self.items)
        self.ranker = Ranker()
        self.counts = LearnerCounts()
        self.stream_ts = 0
        self._max_items, self._max_users = max_items, max_users
        self._budget = Budget(organic_share, clock)
        self._targets: Ring[np.int32] = Ring(16, 256, np.int32)
        self._example_ids = RecentIds()
        self._noise = Noise(seed)
        self._competitors = (Covisited(self.columns), Popular(self.columns))
        self._changed_items: set[int] = set()
        self._gone: set[str] = set()
        self._written_lists = -1

    # What it learns

    def learn_item(self, item_id: str, item: Item | None) -> None:
        """Take over a catalogue entry; None forgets the item."""
        if item is None:
            slot = self.items.get(item_id)
            if slot is not None:
                self._forget(np.array([slot], dtype=np.int32))
            return
        self.columns.catalogue.put(self._slot(item_id), item)

    def learn_event(self, event: CleanEvent) -> None:
        """Learn one clean event, once."""
        if event.item_id is None or event.type not in INTERACTIONS:
            return
        self.counts.events += 1
        self.stream_ts = max(self.stream_ts, event.ts)
        slot = self._slot(event.item_id)
        history = self.histories.of(event.user_id)
        positive = is_positive(event.type, event.value, event.context)
        if positive and event.request_id is None:
            self._learn_organic(slot, history)
        columns = self.columns
        columns.statistics.learn_one(slot, event.ts, positive=positive)
        if positive:
            columns.popularity.learn_one(slot, event.ts)
            columns.tops.changed((slot,))
        if event.type != "dislike":
            before, times, weights = history.before(slot, columns.covisitation.window)
            columns.covisitation.learn_one(slot, event.ts, before, times)
            targets = self._targets.values[: len(self._targets)]
            columns.embedding.learn_one(slot, before, weights, targets, self.items.n_slots)
            self._targets.append(slot)
        self.histories.add(event.user_id, slot, event.ts, taste_weight(event.type, event.value))
        self._changed_items.add(slot)

    def learn_example(self, example: Example) -> None:
        """Learn one labelled list, once: a repeat among the newest 32 768 is recognised by its id.

        Organic ones are left out: a list was made for the event itself, when it came.
        """
        if example.reason == "organic":
            return
        if not self._example_ids.add(hashed_id(example.example_id)):
            self.counts.repeated_examples += 1
            return
        if example.feature_set != FEATURE_SET or len(example.features) != 4 * len(example.items) * len(FEATURES):
            self.counts.skipped_examples += 1
            return
        features = np.frombuffer(example.features, dtype=np.float32).reshape(len(example.items), len(FEATURES))
        if not np.isfinite(features).all():
            self.counts.skipped_examples += 1
            return
        self.ranker.learn_many(features, example.labels)
        self.counts.lists += 1

    def _learn_organic(self, slot: int, history: History) -> None:
        self.counts.organic += 1
        started = self._budget.start()
        if started is None:
            return
        context = self.context(history, self.stream_ts)
        retrieved = {source.name: source.retrieve(context, _SAMPLED_FROM) for source in self._competitors}
        candidates = union(self.columns, retrieved, 2 * _SAMPLED_FROM, context.slots).slots
        others = candidates[candidates != slot]
        if 0 < len(others) < len(candidates):
            drawn = np.argsort(self._noise.uniform(len(others)))[:_N_SAMPLED]
            slots = np.append(others[drawn], np.int32(slot))
            labels = [0] * (len(slots) - 1) + [1]
            self.ranker.learn_many(feature_matrix(self.columns, context, slots), labels)
            self.counts.organic_lists += 1
        self._budget.stop(started)

    def context(self, history: History, now_ms: int) -> Context:
        """Return what the models see of a user; the same as a replica makes of the user's profile."""
        return Context.of(
            self.columns,
            now_ms,
            np.array(history.slots, dtype=np.int32),
            np.array(history.times_ms, dtype=np.int64),
            np.array(history.weights, dtype=np.float32),
            history.n_events,
        )

    def _slot(self, item_id: str) -> int:
        slot = self.items.get(item_id)
        if slot is not None:
            return slot
        if len(self.items) >= self._max_items:
            self._forget_oldest()
        slot = self.items.add(item_id)
        self.columns.reserve(self.items.n_slots)
        self.columns.present[slot] = True
        self.columns.embedding.add(slot, item_id)
        self.columns.statistics.last_ts[slot] = self.stream_ts
        self._changed_items.add(slot)
        return slot

    def _forget_oldest(self) -> None:
        present = np.flatnonzero(self.columns.present)
        n = max(1, self._max_items // 20)
        oldest = np.argsort(self.columns.statistics.last_ts[present], kind="stable")[:n]
        self._forget(present[oldest].astype(np.int32))

    def _forget(self, slots: Slots) -> None:
        self._gone.update(str(self.items.item_id(slot)) for slot in slots.tolist())
        self.histories.forget(slots.tolist())
        self.columns.forget(slots)
        self.items.forget(slots.tolist())
        self._changed_items.difference_update(slots.tolist())
        self.counts.forgotten_items += len(slots)

    # What it is stored as

    def missing_users(self, user_ids: Iterable[str]) -> list[str]:
        """Return those whose histories are not in memory: to be given to `restore_users` before their events."""
        return [user_id for user_id in dict.fromkeys(user_ids) if user_id not in self.histories]

    def restore_users(self, rows: Mapping[str, UserRow | None]) -> None:
        self.histories.restore(rows)

    def write(self, changes: Changes) -> None:
        """Add all rows that have changed since the last call."""
        for item_id in self._gone:
            for table in (ITEM_MODEL, ITEM_VECTOR, NEIGHBOURS):
                changes.remove(table, item_id)
        for slot, item_id in self._named(self._changed_items):
            statistics = self.columns.statistics.row(slot)
            changes.upsert(ITEM_MODEL, item_id, ItemRow(slot, self.columns.popularity.row(slot), *statistics))
        for slot, item_id in self._named(self.columns.embedding.changed):
            changes.upsert(ITEM_VECTOR, item_id, BlobRow(self.columns.embedding.row(slot)))
        for slot, item_id in self._named(self.columns.covisitation.changed):
            changes.upsert(NEIGHBOURS, item_id, NeighboursRow(*self.columns.covisitation.row(slot)))
        for user_id in self.histories.changed:
            changes.put(LEARNER_USER, user_id, self.histories.row(user_id))
        for name, ring in self._rings():
            for segment in ring.changed:
                changes.upsert(LEARNER, f"{name}:{segment}", BlobRow(ring.row(segment)))
        if self.ranker.n_lists != self._written_lists:
            changes.upsert(MODEL, "ranker", BlobRow(self.ranker.to_bytes()))
        changes.upsert(LEARNER, "progress", BlobRow(msgspec.msgpack.encode(self._progress())))

    def written(self) -> None:
        """Say that what `write` gave is stored."""
        self._gone.clear()
        self._changed_items.clear()
        self.columns.embedding.changed.clear()
        self.columns.covisitation.changed.clear()
        self.histories.changed.clear()
        self.histories.shrink(self._max_users)
        for _, ring in self._rings():
            ring.changed.clear()
        self._written_lists = self.ranker.n_lists

    def restore(self, store: Store) -> None:
        """Take over all rows of a store. Only on a new learner. Raise `LearnerError`."""
        rows = dict(store.scan_rows(ITEM_MODEL))
        self.items.restore({item_id: row.slot for item_id, row in rows.items()})
        if len(rows) != len(self.items):
            raise LearnerError(f"{ITEM_MODEL.name}: {len(rows)} items, but {len(self.items)} distinct slots")
        columns = self.columns
        columns.reserve(self.items.n_slots)
        for row in rows.values():
            columns.present[row.slot] = True
            columns.popularity.restore(row.slot, row.popularity)
            columns.statistics.restore(row.slot, row.n_events, row.n_positives, row.first_ts, row.last_ts)
        for item_id, vector in store.scan_rows(ITEM_VECTOR):
            columns.embedding.restore(self._known(ITEM_VECTOR, item_id), vector.blob)
        for item_id, list_row in store.scan_rows(NEIGHBOURS):
            slot = self._known(NEIGHBOURS, item_id)
            columns.covisitation.restore(slot, list_row.slots, list_row.weights, list_row.landmark)
        for item_id, item in store.scan_rows(CATALOGUE):
            if (known := self.items.get(item_id)) is not None:
                columns.catalogue.put(known, item)
        columns.tops.all_changed()
        ranker = store.get_rows(MODEL, ["ranker"]).get("ranker")
        if ranker is not None:
            self.ranker = _restored_ranker(ranker.blob)
            self._written_lists = self.ranker.n_lists
        self._restore_progress(dict(store.scan_rows(LEARNER)))

    def _progress(self) -> "_Progress":
        return _Progress(
            self.stream_ts,
            asdict(self.counts),
            {name: ring.n_appended for name, ring in self._rings()},
            {"organic": self._noise.drawn, "negatives": self.columns.embedding.noise.drawn},
        )

    def _restore_progress(self, rows: dict[str, BlobRow]) -> None:
        row = rows.pop("progress", None)
        if row is None:
            return
        progress = msgspec.msgpack.decode(row.blob, type=_Progress)
        self.stream_ts = progress.stream_ts
        self.counts = LearnerCounts(**progress.counts)
        self._noise.drawn = progress.drawn["organic"]
        self.columns.embedding.noise.drawn = progress.drawn["negatives"]
        rings = dict(self._rings())
        for name, n_appended in progress.appended.items():
            rings[name].n_appended = n_appended
        for field, segment in rows.items():
            name, _, number = field.partition(":")
            rings[name].restore(int(number), segment.blob)
        self._example_ids.restored()

    def _rings(self) -> tuple[tuple[str, Ring[Any]], ...]:
        return ("targets", self._targets), ("examples", self._example_ids.ring)

    def _named(self, slots: Iterable[int]) -> Iterator[tuple[int, str]]:
        for slot in slots:
            item_id = self.items.item_id(slot)
            if item_id is not None:
                yield slot, item_id

    def _known(self, table: Table[Any], item_id: str) -> int:
        slot = self.items.get(item_id)
        if slot is None:
            raise LearnerError(f"{table.name}: {item_id!r} has a row, but none in {ITEM_MODEL.name}")
        return slot


class _Progress(msgspec.Struct, array_like=True):
    stream_ts: int
    counts: dict[str, int]
    appended: dict[str, int]
    drawn: dict[str, int]


def hashed_id(example_id: str) -> int:
    """Return 64 bits of an id."""
    return int.from_bytes(blake2b(example_id.encode(), digest_size=8).digest(), signed=True)


def _restored_ranker(blob: bytes) -> Ranker:
    """Return the stored ranker, or one with prior weights when the features were declared anew since."""
    try:
        return Ranker.from_bytes(blob)
    except FeatureSetError:
        return Ranker()
