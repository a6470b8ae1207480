"""What users did in the arms of experiments: the logic of `flows.experiments`, without an engine.

Of each user who was assigned, a row in the store; of each arm, sums over users that follow from the rows. Both are
written in one commit with the positions in the log, so that a restart neither loses nor repeats anything.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta

import msgspec

from flows.common.batches import KafkaBatch
from online_models.experiments.arm_sums import Sums, add, contributions, take_labels, take_list
from state.entries import EXPERIMENT_ARMS, USER_ARMS, arm_field
from state.records import ArmRow, UserArms, Watermark
from state.store import Changes, Store, check_expected
from state.topics import CLEAN, EXAMPLES, IMPRESSIONS
from state.validation import ERASE

log = logging.getLogger(__name__)

MAX_ARMS = 1024
"""Of a partition: of more, nothing is summed."""
_MAX_ERASED = 20_000
_BEGINNING = Watermark(next_offset=0, stream_ts=0)
_Where = tuple[str, int]
_Arm = tuple[int, str, str]
"""Partition, experiment, arm."""


class _List(msgspec.Struct, array_like=True):
    """The part of an `Impression` that is counted; the rest is skipped."""

    request_id: str
    user_id: str
    ts: int
    surface: msgspec.Raw
    items: msgspec.Raw
    scores: msgspec.Raw
    sources: msgspec.Raw
    propensities: msgspec.Raw
    features: msgspec.Raw
    feature_set: msgspec.Raw
    model: msgspec.Raw
    model_version: msgspec.Raw
    experiments: dict[str, str] = {}
    degraded: dict[str, str] | None = None


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
    """The part of a `CleanEvent` that says who is to be forgotten."""

    event_id: msgspec.Raw
    type: str
    user_id: str
    item_id: msgspec.Raw
    ts: int


_DECODERS: Mapping[str, Callable[[bytes], _List | _Labels | _Event]] = {
    IMPRESSIONS.name: msgspec.msgpack.Decoder(_List).decode,
    EXAMPLES.name: msgspec.msgpack.Decoder(_Labels).decode,
    CLEAN.name: msgspec.msgpack.Decoder(_Event).decode,
}


class ArmState:
    """A `StoreLogic`: sums `Impression`s and `Example`s by arm, and forgets users who were erased.

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
    clock
        Wall clock in seconds.
    """

    def __init__(
        self,
        store: Store,
        flow: str,
        partitions: Sequence[int],
        window: timedelta,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._flow = flow
        self._clock = clock
        self._keep_ms = 3 * int(window / timedelta(milliseconds=1))  # as far as the topics may be apart
        store.recover(flow)
        self._committed = {w: mark for w, mark in store.watermarks(flow).items() if w[1] in partitions}
        self._applied = dict(self._committed)
        self._rows: dict[_Arm, ArmRow] = {}
        for name, row in store.scan_rows(EXPERIMENT_ARMS):
            if (partition := int(name.partition(":")[0])) in partitions:
                self._rows[partition, row.experiment, row.arm] = row
        self._users: dict[str, UserArms] = {}
        """Of those with something that is not committed yet."""
        self._dirty_rows: set[_Arm] = set()
        self._erased: dict[str, int] = {}
        self._changed: set[_Arm] = set()

    def start(self) -> Mapping[_Where, int]:
        """Return the offset to begin with of each (topic, partition) that has been applied before."""
        return {where: mark.next_offset for where, mark in self._committed.items()}

    def apply(self, batch: KafkaBatch) -> None:
        where = batch.topic, batch.partition
        found = [message for message in self._decoded(batch) if _counts(message)]
        self._load(message.user_id for message in found)
        for message in found:
            self._take(batch.partition, message)
        newest = max((message.ts for message in found), default=0)
        self._applied[where] = Watermark(batch.next_offset, max(newest, self._applied.get(where, _BEGINNING).stream_ts))

    def flush(self) -> None:
        changes = Changes()
        for user_id, user in self._users.items():
            if user.experiments:
                changes.put(USER_ARMS, user_id, user)
            else:
                changes.delete(USER_ARMS, user_id)
        for arm in self._dirty_rows:
            changes.upsert(EXPERIMENT_ARMS, arm_field(*arm), self._rows[arm])
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
        self._changed |= self._dirty_rows
        self._dirty_rows.clear()

    def verify(self) -> None:
        check_expected(self._flow, self._committed, self._store.watermarks(self._flow))

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

    def _take(self, partition: int, message: _List | _Labels | _Event) -> None:
        user_id = message.user_id
        if isinstance(message, _Event):
            self._forget(partition, user_id, message.ts)
            return
        if message.ts <= self._erased.get(user_id, -1):
            return
        user, arms, request_id = self._users[user_id], message.experiments, message.request_id or ""
        before = contributions(user)
        if isinstance(message, _List):
            take_list(user, request_id, message.ts, arms, bool(message.degraded), self._keep_ms)
        else:
            take_labels(user, request_id, message.ts, arms, message.labels, message.outcomes, self._keep_ms)
        self._move(partition, before, contributions(user), message.ts)

    def _forget(self, partition: int, user_id: str, ts: int) -> None:
        """Take the user out of all sums: what is left of the past in the other topics does not count (R27)."""
        self._erased[user_id] = ts
        if len(self._erased) > _MAX_ERASED:
            del self._erased[next(iter(self._erased))]
        self._move(partition, contributions(self._users[user_id]), {}, ts)
        self._users[user_id] = UserArms()

    def _move(
        self, partition: int, before: dict[tuple[str, str], Sums], after: dict[tuple[str, str], Sums], ts: int
    ) -> None:
        for (experiment, arm), sums in after.items():
            if before.get((experiment, arm)) != sums:
                self._add(partition, experiment, arm, sums, 1, ts)
        for (experiment, arm), sums in before.items():
            if after.get((experiment, arm)) != sums:
                self._add(partition, experiment, arm, sums, -1, ts)

    def _add(self, partition: int, experiment: str, name: str, more: Sums, sign: int, ts: int) -> None:
        arm = partition, experiment, name
        row = self._rows.get(arm)
        if row is None:
            if len(self._rows) >= MAX_ARMS:
                log.error("%s:%s is not summed: there are %d arms already", experiment, name, MAX_ARMS)
                return
            row = self._rows[arm] = ArmRow(experiment, name, {}, ts)
        add(row.sums, more, sign)
        self._dirty_rows.add(arm)


def _counts(message: _List | _Labels | _Event) -> bool:
    if isinstance(message, _Event):
        return message.type == ERASE
    return bool(message.experiments and message.request_id)
