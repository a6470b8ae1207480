"""What users did in the arms of experiments: the logic of `flows.experiments`, without an engine.

Of each user who was assigned, a row in the store; of each arm, and of each of its days, sums over users that follow
from the rows. All are written in one commit with the positions in the log, so that a restart neither loses nor repeats
anything. Events count from the user's first list on, so they wait until the lists before them have been read.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TypeVar

import msgspec
import numpy as np

from flows.common.batches import KafkaBatch
from flows.common.caches import Newest
from online_models.experiments.arm_days import MAX_DAYS, OneDay, Shown, user_hash
from online_models.experiments.arm_sums import (
    DAY_MS,
    MEASURED,
    Sums,
    add,
    changes_nothing,
    contributions,
    day_contributions,
    forget_days,
    list_counts,
    take_event,
    take_labels,
    take_list,
)
from state.entries import EXPERIMENT_ARMS, EXPERIMENT_DAYS, USER_ARMS, arm_day_field, arm_field
from state.records import ArmDay, ArmRow, UserArms, Watermark
from state.store import Changes, Store, check_expected
from state.topics import CLEAN, EXAMPLES, IMPRESSIONS
from state.validation import ERASE

log = logging.getLogger(__name__)

MAX_ARMS = 1024
"""Of a partition: of more, nothing is summed."""
_MAX_ERASED = 20_000
_BEGINNING = Watermark(next_offset=0, stream_ts=0)
_NOTHING = msgspec.Raw()
_Where = tuple[str, int]
_Arm = tuple[int, str, str]
"""Partition, experiment, arm."""
_Day = tuple[int, str, str, int]
"""Partition, experiment, arm, day since 1970."""
_Key = TypeVar("_Key")


class _List(msgspec.Struct, array_like=True):
    """The part of an `Impression` that is counted; the rest is skipped."""

    request_id: str
    user_id: str
    ts: int
    surface: msgspec.Raw
    items: list[str]
    scores: msgspec.Raw
    sources: msgspec.Raw
    propensities: msgspec.Raw
    features: msgspec.Raw
    feature_set: msgspec.Raw
    model: msgspec.Raw
    model_version: msgspec.Raw
    experiments: dict[str, str] = {}
    degraded: dict[str, str] | None = None
    session_id: msgspec.Raw = _NOTHING
    device: msgspec.Raw = _NOTHING
    reasons: msgspec.Raw = _NOTHING
    rules_version: msgspec.Raw = _NOTHING
    relaxed: msgspec.Raw = _NOTHING
    latency_ms: float | None = None
    novelty: float | None = None
    diversity: float | None = None


class _Labels(msgspec.Struct, array_like=True):
    """The part of an `Example` that is counted."""

    example_id: msgspec.Raw
    request_id: str | None
    user_id: str
    ts: int
    surface: msgspec.Raw
    items: msgspec.Raw
    labels: list[int]
    outcomes: list[str | None]
    propensities: msgspec.Raw
    features: msgspec.Raw
    feature_set: msgspec.Raw
    model_version: msgspec.Raw
    experiments: dict[str, str] = {}


class _Event(msgspec.Struct, array_like=True):
    """The part of a `CleanEvent` that is counted, or says who is to be forgotten."""

    event_id: msgspec.Raw
    type: str
    user_id: str
    item_id: msgspec.Raw
    ts: int
    session_id: msgspec.Raw = _NOTHING
    request_id: msgspec.Raw = _NOTHING
    position: msgspec.Raw = _NOTHING
    value: float | str | None = None


_DECODERS: Mapping[str, Callable[[bytes], _List | _Labels | _Event]] = {
    IMPRESSIONS.name: msgspec.msgpack.Decoder(_List).decode,
    EXAMPLES.name: msgspec.msgpack.Decoder(_Labels).decode,
    CLEAN.name: msgspec.msgpack.Decoder(_Event).decode,
}


class ArmState:
    """A `StoreLogic`: sums `Impression`s, `Example`s and `CleanEvent`s by arm, and forgets users who were erased.

    Parameters
    ----------
    store
        Where rows are read and committed.
    flow
        Name of the watermarks.
    partitions
        Those whose users are summed here, and nowhere else.
    window
        Nothing is told of a list that is older than this.
    settle
        How long events wait at the end of the lists: of what is written at the same time, either may be read first.
    clock
        Wall clock in seconds.
    """

    def __init__(
        self,
        store: Store,
        flow: str,
        partitions: Sequence[int],
        window: timedelta,
        settle: timedelta = timedelta(0),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._flow = flow
        self._settle_s = settle.total_seconds()
        self._clock = clock
        self._keep_ms = 3 * int(window / timedelta(milliseconds=1))  # as far as the topics may be apart
        store.recover(flow)
        self._committed = {w: mark for w, mark in store.watermarks(flow).items() if w[1] in partitions}
        self._applied = dict(self._committed)
        self._rows: dict[_Arm, ArmRow] = {}
        for name, row in store.scan_rows(EXPERIMENT_ARMS):
            if (partition := int(name.partition(":")[0])) in partitions:
                self._rows[partition, row.experiment, row.arm] = row
        self._days: dict[_Day, OneDay] = {}
        for name, of_day in store.scan_rows(EXPERIMENT_DAYS):
            if (partition := int(name.partition(":")[0])) in partitions:
                key = partition, of_day.experiment, of_day.arm, of_day.day
                self._days[key] = OneDay(of_day.arm, of_day.day, of_day.sums, Shown.of(of_day))
        self._users: dict[str, UserArms] = {}
        """As they will be committed, and those who were only looked at."""
        self._dirty_users: set[str] = set()
        self._dirty_rows: set[_Arm] = set()
        self._dirty_days: set[_Day] = set()
        self._dropped_days: set[_Day] = set()
        self._waiting: dict[int, deque[tuple[float, KafkaBatch]]] = {}
        """Partition -> events with the time when they came, until the lists before them have been read."""
        self._lists_until: dict[int, int] = {}
        """Partition -> when the newest list that was read had been written, epoch ms."""
        self._lists_ended: set[int] = set()
        """Partitions in which there was no further list to read."""
        self._erased: Newest[str, int] = Newest(_MAX_ERASED)
        self._changed: set[_Arm] = set()

    def start(self) -> Mapping[_Where, int]:
        """Return the offset to begin with of each (topic, partition) that has been applied before."""
        return {where: mark.next_offset for where, mark in self._committed.items()}

    def apply(self, batch: KafkaBatch) -> None:
        partition = batch.partition
        if batch.topic == CLEAN.name:
            self._waiting.setdefault(partition, deque()).append((self._clock(), batch))
        else:
            self._apply(batch)
        if batch.topic == IMPRESSIONS.name:
            self._lists_until[partition] = max(batch.timestamps, default=self._lists_until.get(partition, -1))
            (self._lists_ended.add if batch.at_end else self._lists_ended.discard)(partition)
        self._release(partition)

    def _release(self, partition: int) -> None:
        """Apply the events before which all lists have been read."""
        waiting = self._waiting.get(partition, deque())
        until = self._lists_until.get(partition, -1)
        settled = self._clock() - self._settle_s if partition in self._lists_ended else float("-inf")
        while waiting and (max(waiting[0][1].timestamps, default=0) <= until or waiting[0][0] <= settled):
            self._apply(waiting.popleft()[1])

    def _apply(self, batch: KafkaBatch) -> None:
        found = [message for message in self._decoded(batch) if self._counts(message)]
        self._load(message.user_id for message in found)
        for message in found:
            self._take(batch.partition, message)
        where = batch.topic, batch.partition
        before = self._applied.get(where, _BEGINNING)
        newest = max((message.ts for message in found), default=0)
        if batch.next_offset != before.next_offset or newest > before.stream_ts:
            self._applied[where] = Watermark(batch.next_offset, max(newest, before.stream_ts))

    def flush(self) -> None:
        for partition in self._waiting:
            self._release(partition)
        changes = Changes()
        for user_id in self._dirty_users:
            if (user := self._users[user_id]).experiments:
                changes.put(USER_ARMS, user_id, user)
            else:
                changes.delete(USER_ARMS, user_id)
        for arm in self._dirty_rows:
            changes.upsert(EXPERIMENT_ARMS, arm_field(*arm), self._rows[arm])
        for day in self._dirty_days:
            changes.upsert(EXPERIMENT_DAYS, arm_day_field(*day), _row_of(day, self._days[day]))
        for day in self._dropped_days:
            changes.remove(EXPERIMENT_DAYS, arm_day_field(*day))
        now_ms = int(self._clock() * 1000)
        moved: dict[_Where, Watermark] = {}
        for where, mark in self._applied.items():
            before = self._committed.get(where)
            if mark is not before:
                moved[where] = Watermark(mark.next_offset, mark.stream_ts, now_ms)
                changes.advance(self._flow, *where, moved[where], after=before)
        if not moved:
            return
        self._store.commit(changes)
        self._committed.update(moved)
        self._applied.update(moved)
        self._users.clear()
        self._dirty_users.clear()
        self._changed |= self._dirty_rows
        self._dirty_rows.clear()
        self._dirty_days.clear()
        self._dropped_days.clear()

    def verify(self) -> None:
        check_expected(self._flow, self._committed, self._store.watermarks(self._flow))
        if any(self._waiting.values()):  # time alone may have settled them
            self.flush()

    def changed(self) -> list[tuple[int, ArmRow]]:
        """Return (partition, row) of what was committed since the last call."""
        found = [(arm[0], self._rows[arm]) for arm in sorted(self._changed)]
        self._changed.clear()
        return found

    def _decoded(self, batch: KafkaBatch) -> Iterable[_List | _Labels | _Event]:
        decode = _DECODERS[batch.topic]
        for offset, value in zip(batch.offsets, batch.values, strict=True):
            try:
                yield decode(value or b"")
            except msgspec.MsgspecError as error:
                log.error("%s[%d] %d is left out: %s", batch.topic, batch.partition, offset, error)

    def _load(self, user_ids: Iterable[str]) -> None:
        """Have the rows of users at hand, by one read."""
        missing = [user_id for user_id in dict.fromkeys(user_ids) if user_id not in self._users]
        rows = self._store.get_many(USER_ARMS, missing)
        for user_id, row in zip(missing, rows, strict=True):
            self._users[user_id] = row or UserArms()

    def _counts(self, message: _List | _Labels | _Event) -> bool:
        if isinstance(message, _Event):
            return bool(self._rows) or message.type == ERASE
        return bool(message.experiments and message.request_id)

    def _take(self, partition: int, message: _List | _Labels | _Event) -> None:
        user_id = message.user_id
        if isinstance(message, _Event) and message.type == ERASE:
            self._forget(partition, user_id, message.ts)
            return
        user = self._users[user_id]
        if message.ts <= self._erased.get(user_id, -1):
            return
        if isinstance(message, _Event) and changes_nothing(user, message.type, message.ts):
            return
        self._dirty_users.add(user_id)
        forget_days(user, message.ts)
        before, days_before = contributions(user), day_contributions(user)
        if isinstance(message, _List):
            measured = {field: getattr(message, field) for _, _, field, _ in MEASURED}
            counts = list_counts(bool(message.degraded), measured)
            if take_list(user, message.request_id, message.ts, message.experiments, counts, self._keep_ms):
                self._show(partition, message)
        elif isinstance(message, _Labels):
            told = message.request_id or "", message.ts, message.experiments
            take_labels(user, *told, message.labels, message.outcomes, self._keep_ms)
        else:
            take_event(user, message.type, message.ts, message.value)
        self._move(partition, before, contributions(user), message.ts)
        self._move_days(partition, days_before, day_contributions(user))

    def _show(self, partition: int, shown: _List) -> None:
        for experiment, arm in shown.experiments.items():
            if self._row(partition, experiment, arm, shown.ts) is not None:
                day = self._day(partition, experiment, arm, shown.ts // DAY_MS)
                day.shown.add(shown.items, shown.latency_ms, user=user_hash(shown.user_id))

    def _forget(self, partition: int, user_id: str, ts: int) -> None:
        """Take the user out of all sums: what is left of the past in the other topics does not count (R27)."""
        self._erased.remember(user_id, ts)
        user = self._users[user_id]
        self._dirty_users.add(user_id)
        self._move(partition, contributions(user), {}, ts)
        self._move_days(partition, day_contributions(user), {})
        only = user_hash(user_id)
        for day, found in self._days.items():
            if day[0] == partition and found.shown.forget(only):
                self._dirty_days.add(day)
        self._users[user_id] = UserArms()

    def _move(
        self, partition: int, before: dict[tuple[str, str], Sums], after: dict[tuple[str, str], Sums], ts: int
    ) -> None:
        for (experiment, arm), more, sign in _differences(before, after):
            if (row := self._row(partition, experiment, arm, ts)) is not None:
                add(row.sums, more, sign)

    def _move_days(
        self, partition: int, before: dict[tuple[str, str, int], Sums], after: dict[tuple[str, str, int], Sums]
    ) -> None:
        for (experiment, arm, day), more, sign in _differences(before, after):
            if (partition, experiment, arm) in self._rows:
                add(self._day(partition, experiment, arm, day).sums, more, sign)

    def _row(self, partition: int, experiment: str, name: str, ts: int) -> ArmRow | None:
        """Return a row that will be written, None where there are too many."""
        arm = partition, experiment, name
        row = self._rows.get(arm)
        if row is None:
            if len(self._rows) >= MAX_ARMS:
                log.error("%s:%s is not summed: there are %d arms already", experiment, name, MAX_ARMS)
                return None
            row = self._rows[arm] = ArmRow(experiment, name, {}, ts)
        self._dirty_rows.add(arm)
        return row

    def _day(self, partition: int, experiment: str, arm: str, day: int) -> OneDay:
        """Return a day that will be written; the first of an arm makes room for it."""
        key = partition, experiment, arm, day
        found = self._days.get(key)
        if found is None:
            for old in [old for old in self._days if old[:3] == key[:3] and old[3] <= day - MAX_DAYS]:
                del self._days[old]
                self._dirty_days.discard(old)
                self._dropped_days.add(old)
            found = self._days[key] = OneDay(arm, day)
            self._dropped_days.discard(key)
        self._dirty_days.add(key)
        return found


def _differences(before: dict[_Key, Sums], after: dict[_Key, Sums]) -> Iterable[tuple[_Key, Sums, int]]:
    """Yield what is to be added and taken away."""
    for key, sums in after.items():
        if before.get(key) != sums:
            yield key, sums, 1
    for key, sums in before.items():
        if after.get(key) != sums:
            yield key, sums, -1


def _row_of(day: _Day, found: OneDay) -> ArmDay:
    _, experiment, arm, number = day
    shown = found.shown
    shown.cut()
    items, users = (np.fromiter(of_item, "<u8").tobytes() for of_item in (shown.items, shown.items.values()))
    return ArmDay(experiment, arm, number, found.sums, shown.latency, items, users, shown.up_to)
