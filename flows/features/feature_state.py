"""Profiles, sessions and item activity, folded from clean events: the logic of `flows.features`, without an engine.

Values live in caches, are read from the store when first needed, and are written back with the watermarks of what was
applied. A user's and a session's rows belong to one partition; of an item, each partition keeps a part of its own.
"""

import heapq
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec

from flows.common.batches import KafkaBatch
from flows.common.caches import LruCache
from online_models.users import activity
from online_models.users.outcomes import is_feedback
from online_models.users.profiles import apply_event, apply_session_event, onboarding_items, sessions, step_of
from state.entries import CATALOGUE, ITEM_ACTIVITY, SESSION, SHOWN, USER_PROFILE, Entry, activity_field
from state.records import Activity, CleanEvent, ProfileToFold, SessionProfile, UserProfile, Watermark
from state.store import Changes, Store, check_expected
from state.validation import ERASE

_PROFILE_TO_FOLD = Entry(USER_PROFILE.pattern, ProfileToFold, USER_PROFILE.ttl)

_MIB = 1 << 20
_PROFILES_BYTES = 192 * _MIB
_SESSIONS_BYTES = 40 * _MIB
_ITEMS_BYTES = 150 * _MIB
_STEP_BYTES = 160
"""Of a step, which shares its texts with others; one that is still encoded takes less."""
_MAX_GENRE_ITEMS = 200_000
_KNOWN_GENRES_S = 60.0
_UNKNOWN_GENRES_S = 1.0  # the catalogue may come a moment after the first event
_MIN_EXPIRIES = 100
_BEGINNING = Watermark(next_offset=0, stream_ts=0)


class FeatureState:
    """A `StoreLogic`: applies `CleanEvent`s, of any set of partitions.

    Parameters
    ----------
    store
        Where values are read and committed.
    flow
        Name of the watermarks.
    partitions
        Those of topic `clean` whose events are applied here, and nowhere else.
    clock
        Wall clock in seconds.
    """

    def __init__(
        self, store: Store, flow: str, topic: str, partitions: Sequence[int], clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._flow = flow
        self._topic = topic
        self._clock = clock
        self._decode = msgspec.msgpack.Decoder(CleanEvent).decode
        self._profiles: LruCache[UserProfile] = LruCache(_profile_bytes, _PROFILES_BYTES)
        self._sessions: LruCache[SessionProfile] = LruCache(_session_bytes, _SESSIONS_BYTES)
        self._items: LruCache[Activity] = LruCache(_activity_bytes, _ITEMS_BYTES)
        self._genres = _Genres(store, clock)
        self._dirty_profiles: dict[str, UserProfile] = {}
        self._dirty_sessions: dict[str, SessionProfile] = {}
        self._dirty_items: dict[str, Activity] = {}
        self._settled: list[tuple[str, str]] = []
        self._erased: list[tuple[Entry[Any], str]] = []
        store.recover(flow)
        stored = store.watermarks(flow)
        self._committed: dict[int, Watermark | None] = {p: stored.get((topic, p)) for p in partitions}
        self._applied = {p: mark or _BEGINNING for p, mark in self._committed.items()}
        self._stream_ts = max((mark.stream_ts for mark in self._applied.values()), default=0)
        self._expiries = _Expiries(
            (name, row) for name, row in store.scan_rows(ITEM_ACTIVITY) if int(name.partition(":")[0]) in self._applied
        )

    def start(self) -> Mapping[tuple[str, int], int]:
        """Return the offset to begin with of each partition that has been applied before."""
        return {(self._topic, p): mark.next_offset for p, mark in self._committed.items() if mark is not None}

    def apply(self, batch: KafkaBatch) -> None:
        partition = batch.partition
        events = [self._decode(value) for value in batch.values if value is not None]
        if events:
            rows = [None if event.item_id is None else activity_field(partition, event.item_id) for event in events]
            self._load(events, rows)
            stream_ts = max(self._applied[partition].stream_ts, max(event.ts for event in events))
            self._stream_ts = max(self._stream_ts, stream_ts)
            for event, row in zip(events, rows, strict=True):
                self._fold(event, row)
        else:
            stream_ts = self._applied[partition].stream_ts
        self._applied[partition] = Watermark(batch.next_offset, stream_ts)

    def _fold(self, event: CleanEvent, row: str | None) -> None:
        user_id, session_id = event.user_id, event.session_id
        if event.type == ERASE:
            self._erase(user_id)
            self._settled.append((user_id, event.event_id))
            return
        step = step_of(event)
        profile = self._profiles[user_id]
        apply_event(profile, event, self._genres_of(event), step)
        self._dirty_profiles[user_id] = profile
        if session_id is not None:
            session = self._sessions[session_id]
            apply_session_event(session, event, step)
            self._dirty_sessions[session_id] = session
        if row is not None:
            item = self._items[row]
            activity.add(item, event.type, event.ts, self._stream_ts)
            self._dirty_items[row] = item
        if is_feedback(event.type):
            self._settled.append((user_id, event.event_id))

    def _erase(self, user_id: str) -> None:
        """Forget the user and the sessions that the profile still names; what was done stays in the items' counts."""
        for session_id in sessions(self._profiles[user_id]):
            self._erased.append((SESSION, session_id))
            self._dirty_sessions.pop(session_id, None)
            self._sessions[session_id] = SessionProfile(user_id=user_id)
        self._erased += [(USER_PROFILE, user_id), (SHOWN, user_id)]
        self._dirty_profiles.pop(user_id, None)
        self._profiles[user_id] = UserProfile()

    def _genres_of(self, event: CleanEvent) -> Sequence[str]:
        if event.item_id is not None:
            return self._genres[event.item_id]
        return [genre for item_id in onboarding_items(event) for genre in self._genres[item_id]]

    def _load(self, events: Iterable[CleanEvent], rows: Iterable[str | None]) -> None:
        """Have all that the events need in the caches, by one read of each kind; `rows` are those of their items."""
        users: dict[str, None] = {}
        sessions: dict[str, str] = {}
        items: dict[str, None] = {}
        for event in events:
            if event.user_id not in self._profiles:
                users[event.user_id] = None
            if event.session_id is not None and event.session_id not in self._sessions:
                sessions[event.session_id] = event.user_id
            if event.item_id is not None:
                items[event.item_id] = None
            elif event.type == "onboarding":
                items.update(dict.fromkeys(onboarding_items(event)))
        self._genres.load(items)
        user_ids = list(users)
        profiles = self._store.get_many(_PROFILE_TO_FOLD, user_ids)
        for user_id, profile in zip(user_ids, profiles, strict=True):
            self._profiles[user_id] = profile or UserProfile()
        session_ids = list(sessions)
        stored_sessions = self._store.get_many(SESSION, session_ids)
        for session_id, session in zip(session_ids, stored_sessions, strict=True):
            self._sessions[session_id] = session or SessionProfile(user_id=sessions[session_id])
        self._load_rows([row for row in dict.fromkeys(rows) if row is not None and row not in self._items])

    def _load_rows(self, names: Sequence[str]) -> None:
        if names:
            stored = self._store.get_rows(ITEM_ACTIVITY, names)
            for name in names:
                self._items[name] = stored.get(name) or Activity()

    def flush(self) -> None:
        self._expire_items()
        changes = Changes()
        for entry, entity_id in self._erased:  # first: some have come back since
            changes.delete(entry, entity_id)
        for user_id, profile in self._dirty_profiles.items():
            changes.put(USER_PROFILE, user_id, profile)
        for session_id, session in self._dirty_sessions.items():
            changes.put(SESSION, session_id, session)
        for name, item in self._dirty_items.items():
            changes.upsert(ITEM_ACTIVITY, name, item)
        for user_id, event_id in self._settled:
            changes.settle(user_id, event_id)
        now_ms = int(self._clock() * 1000)
        moved: dict[int, Watermark] = {}
        for partition, mark in self._applied.items():
            before = self._committed[partition]
            if mark is not before and mark is not _BEGINNING:
                moved[partition] = Watermark(mark.next_offset, mark.stream_ts, now_ms)
                changes.advance(self._flow, self._topic, partition, moved[partition], after=before)
        if changes:
            self._store.commit(changes)
        self._committed.update(moved)
        self._applied.update(moved)
        self._profiles.trim(self._dirty_profiles)
        self._sessions.trim(self._dirty_sessions)
        self._expiries.plan(self._dirty_items)
        self._items.trim(self._dirty_items)
        self._dirty_profiles.clear()
        self._dirty_sessions.clear()
        self._dirty_items.clear()
        self._settled.clear()
        self._erased.clear()

    def _expire_items(self) -> None:
        """Take panes that stream time has passed out of rows that no event touches, as many as were touched."""
        names = self._expiries.due(self._stream_ts, max(_MIN_EXPIRIES, len(self._dirty_items)))
        self._load_rows([name for name in names if name not in self._items])
        for name in names:
            item = self._items[name]
            activity.expire(item, self._stream_ts)
            # Written also when an event has dropped the pane already: rare, and it plans and weighs the row again.
            self._dirty_items[name] = item

    def verify(self) -> None:
        check_expected(
            self._flow,
            {(self._topic, partition): mark for partition, mark in self._committed.items()},
            self._store.watermarks(self._flow),
        )
        if self._expiries.has_due(self._stream_ts):
            self.flush()


class _Expiries:
    """When each item row has to be written again because a pane of it falls out of its window."""

    def __init__(self, rows: Iterable[tuple[str, Activity]]) -> None:
        self._at: dict[str, int] = {name: at for name, row in rows if (at := activity.next_expiry(row)) is not None}
        self._heap = [(at, name) for name, at in self._at.items()]
        heapq.heapify(self._heap)

    def plan(self, rows: Mapping[str, Activity]) -> None:
        for name, row in rows.items():
            at = activity.next_expiry(row)
            planned = self._at.get(name)
            if at is None:
                self._at.pop(name, None)
            elif planned is None or at < planned:
                self._at[name] = at
                heapq.heappush(self._heap, (at, name))

    def due(self, stream_ts: int, at_most: int) -> list[str]:
        """Take up to so many rows out of the plan."""
        names: list[str] = []
        while len(names) < at_most and self.has_due(stream_ts):
            at, name = heapq.heappop(self._heap)
            if self._at.get(name) == at:
                del self._at[name]
                names.append(name)
        return names

    def has_due(self, stream_ts: int) -> bool:
        return bool(self._heap) and self._heap[0][0] <= stream_ts


class _Genres:
    """Genres by item, from the catalogue; read again after a minute, or a second where an item is unknown."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._genres: dict[str, tuple[float, tuple[str, ...]]] = {}
        self._interned: dict[tuple[str, ...], tuple[str, ...]] = {}

    def __getitem__(self, item_id: str) -> tuple[str, ...]:
        return self._genres[item_id][1]

    def load(self, item_ids: Iterable[str]) -> None:
        """Read those that are not known, or not known any more."""
        now = self._clock()
        names = [name for name in item_ids if name not in self._genres or self._genres[name][0] <= now]
        if not names:
            return
        if len(self._genres) + len(names) > _MAX_GENRE_ITEMS:
            wanted = {name: self._genres[name] for name in item_ids if name in self._genres}
            self._genres = wanted | dict(islice(self._genres.items(), _MAX_GENRE_ITEMS // 2, None))
        rows = self._store.get_rows(CATALOGUE, names)
        for name in names:
            row = rows.get(name)
            genres = () if row is None else tuple(row.genres)
            self._genres[name] = (
                now + (_UNKNOWN_GENRES_S if row is None else _KNOWN_GENRES_S),
                self._interned.setdefault(genres, genres),
            )


def _activity_bytes(value: Activity) -> int:
    return 500 + 240 * len(value.panes)


def _session_bytes(value: SessionProfile) -> int:
    return 500 + _activity_bytes(value.activity) + _STEP_BYTES * len(value.recent)


def _profile_bytes(value: UserProfile) -> int:
    return (
        1000
        + _activity_bytes(value.activity)
        + _STEP_BYTES * len(value.recent)
        + 150 * len(value.seen)
        + 500 * len(value.feedback_ts)
        + 100 * (len(value.affinity) + len(value.ratings))
    )
