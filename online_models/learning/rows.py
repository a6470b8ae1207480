"""The learner as rows of a store: what has changed, and all of it back."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from typing import Any, TypeVar

import msgspec
import numpy as np

from online_models.arrays import Slots
from online_models.engine import inputs
from online_models.engine.items import N_EVENTS
from online_models.learning.learner import Learner
from state.entries import (
    CATALOGUE,
    CONTEXTS,
    ITEM_MODEL,
    ITEM_USERS,
    ITEM_VECTOR,
    LEARNER,
    LEARNER_USER,
    MODEL,
    NEIGHBOURS,
    USER_VECTOR,
    Table,
)
from state.records import BlobRow, ItemRow, UserVectorRow
from state.store import Changes, Store

TABLES: tuple[Table[Any], ...] = (
    ITEM_MODEL,
    ITEM_VECTOR,
    NEIGHBOURS,
    ITEM_USERS,
    USER_VECTOR,
    CONTEXTS,
    MODEL,
    LEARNER,
)
"""All that it is written to, beside `LEARNER_USER`."""
_AT_ONCE = 1000

T = TypeVar("T")


class LearnerError(Exception):
    """The stored rows do not make a learner."""


class Progress(msgspec.Struct, array_like=True):
    """What lists need to know of the stream as a whole: row `progress` of `MODEL`."""

    n_events: int
    repeat_share: float


class _Progress(msgspec.Struct, array_like=True):
    stream_ts: int
    counts: dict[str, int]
    appended: dict[str, int]
    drawn: int
    n_users: int
    n_events: int
    repeat_share: float


def write(learner: Learner, changes: Changes) -> None:
    """Add all rows that have changed since `written`."""
    _write_items(learner, changes)
    _write_users(learner, changes)
    for name, ring in learner.rings():
        for segment in ring.changed:
            changes.upsert(LEARNER, f"{name}:{segment}", BlobRow(ring.row(segment)))
    ranker, factors = learner.ranker, learner.factors
    for k in ranker.kept_changed:
        changes.upsert(LEARNER, f"list:{k}", BlobRow(ranker.kept_row(k)))
    if ranker.n_lists != learner.n_lists_written:
        changes.upsert(MODEL, "ranker", BlobRow(ranker.weights(inputs.NAMES)))
        changes.upsert(LEARNER, "ranker", BlobRow(ranker.state()))
    for name in learner.contexts.gone:
        changes.remove(CONTEXTS, name)
    for name in learner.contexts.changed:
        changes.upsert(CONTEXTS, name, learner.contexts.by_name[name].row())
    progress = Progress(learner.columns.n_events, learner.repeat_share)
    changes.upsert(MODEL, "factors", BlobRow(factors.item_gramians()))
    changes.upsert(MODEL, "progress", BlobRow(msgspec.msgpack.encode(progress)))
    changes.upsert(LEARNER, "factors", BlobRow(factors.user_gramians()))
    changes.upsert(LEARNER, "progress", BlobRow(msgspec.msgpack.encode(_progress(learner))))


def _write_items(learner: Learner, changes: Changes) -> None:
    columns, factors = learner.columns, learner.factors
    for item_id in learner.gone:
        for table in (ITEM_MODEL, ITEM_VECTOR, NEIGHBOURS, ITEM_USERS):
            changes.remove(table, item_id)
    for slot, item_id in _named(learner, learner.changed_items.peek()):
        row = ItemRow(slot, int(learner.given_at[slot]), float(learner.arrived[slot]), columns.items.row(slot))
        changes.upsert(ITEM_MODEL, item_id, row)
        if columns.items.counts[slot, N_EVENTS]:
            changes.upsert(ITEM_USERS, item_id, BlobRow(factors.rings.row(slot)))
    for slot, item_id in _named(learner, factors.changed.peek()):
        changes.upsert(ITEM_VECTOR, item_id, BlobRow(factors.row(slot)))
    for slot, item_id in _named(learner, columns.neighbours.changed.peek()):
        changes.upsert(NEIGHBOURS, item_id, BlobRow(columns.neighbours.row(slot)))


def _write_users(learner: Learner, changes: Changes) -> None:
    for slot in learner.taken_back:
        changes.remove(USER_VECTOR, str(slot))
    for slot in learner.factors.users_changed.peek().tolist():
        name = learner.users.name(slot)
        if name is not None:
            changes.upsert(USER_VECTOR, str(slot), UserVectorRow(name, learner.factors.user_row(slot)))
    for user_id in learner.users.erased:  # first: some have come back since
        changes.delete(LEARNER_USER, user_id)
    for user_id, row in learner.users.write(learner.counts.forgotten_items).items():
        changes.put(LEARNER_USER, user_id, row)


def written(learner: Learner) -> None:
    """Say that what `write` gave is stored."""
    learner.gone.clear()
    learner.changed_items.take()
    learner.taken_back.clear()
    learner.users.written()
    learner.contexts.written()
    learner.ranker.kept_changed.clear()
    learner.n_lists_written = learner.ranker.n_lists
    factors = learner.factors
    for changed in (learner.columns.neighbours.changed, factors.changed, factors.users_changed):
        changed.take()
    for _, ring in learner.rings():
        ring.changed.clear()


def restore(learner: Learner, store: Store) -> None:
    """Take over all rows of a store. Only on a new learner. Raise `LearnerError`."""
    columns, factors = learner.columns, learner.factors
    _restore_items(learner, store)
    for item_id, ring in store.scan_rows(ITEM_USERS):
        factors.rings.restore(_known(learner, ITEM_USERS, item_id), ring.blob)
    for lists in _portions(store.scan_rows(NEIGHBOURS)):
        slots = [_known(learner, NEIGHBOURS, item_id) for item_id, _ in lists]
        columns.neighbours.restore(np.array(slots, np.int32), [row.blob for _, row in lists])
    for item_id, item in store.scan_rows(CATALOGUE):
        if (known := learner.items.get(item_id)) is not None:
            columns.describe(known, item)
    for name, context in store.scan_rows(CONTEXTS):
        learner.contexts.restore(name, context)
    with_events = columns.items.known()
    columns.items.refresh(with_events)
    factors.refresh(with_events, columns.items)
    gramians = store.get_rows(MODEL, ["factors"]).get("factors")
    if gramians is not None:
        factors.restore_item_gramians(gramians.blob)
    _restore_progress(learner, dict(store.scan_rows(LEARNER)))
    _restore_users(learner, store)


def _restore_items(learner: Learner, store: Store) -> None:
    columns, factors = learner.columns, learner.factors
    rows = dict(store.scan_rows(ITEM_MODEL))
    learner.name_slots({item_id: row.slot for item_id, row in rows.items()})
    if len(rows) != len(learner.items):
        raise LearnerError(f"{ITEM_MODEL.name}: {len(rows)} items, but {len(learner.items)} distinct slots")
    learner.reserve(learner.items.n_slots)
    for row in rows.values():
        columns.translation[row.slot] = row.slot
        columns.set_present(row.slot, True)
        learner.given_at[row.slot], learner.arrived[row.slot] = row.given_at, row.arrived
    for of_items in _portions(rows.values()):
        columns.items.restore(np.array([row.slot for row in of_items], np.int32), [row.counts for row in of_items])
    for vectors in _portions(store.scan_rows(ITEM_VECTOR)):
        slots = [_known(learner, ITEM_VECTOR, item_id) for item_id, _ in vectors]
        factors.restore(np.array(slots, np.int32), [row.blob for _, row in vectors])


def _restore_progress(learner: Learner, rows: dict[str, BlobRow]) -> None:
    row = rows.pop("progress", None)
    if row is None:
        return
    progress = msgspec.msgpack.decode(row.blob, type=_Progress)
    learner.stream_ts = progress.stream_ts
    learner.repeat_share = progress.repeat_share
    learner.counts = type(learner.counts)(**progress.counts)
    learner.columns.n_events = progress.n_events
    learner.noise.drawn = progress.drawn
    learner.users.n_given = progress.n_users
    learner.factors.restore_user_gramians(rows.pop("factors").blob)
    if (state := rows.pop("ranker", None)) is not None:
        learner.ranker.restore(state.blob)
        learner.n_lists_written = learner.ranker.n_lists
    rings = dict(learner.rings())
    for name, n_appended in progress.appended.items():
        rings[name].n_appended = n_appended
    lists = {int(field.partition(":")[2]): row for field, row in rows.items() if field.startswith("list:")}
    for k in sorted(lists):
        learner.ranker.restore_kept(k, lists[k].blob)
    for field, stored in rows.items():
        name, _, number = field.partition(":")
        if name in rings:
            rings[name].restore(int(number), stored.blob)
    learner.example_ids.restored()


def _restore_users(learner: Learner, store: Store) -> None:
    owners = {}
    for field, row in store.scan_rows(USER_VECTOR):
        slot = int(field)
        owners[slot] = row.user_id
        learner.factors.reserve_users(slot + 1)
        learner.factors.restore_user(slot, row.factors)
    learner.users.restore_slots(owners)
    names = list(owners.values())
    for begin in range(0, len(names), _AT_ONCE):
        some = names[begin : begin + _AT_ONCE]
        rows = store.get_many(LEARNER_USER, some)
        learner.users.fill(dict(zip(some, rows, strict=True)))


def _progress(learner: Learner) -> _Progress:
    return _Progress(
        learner.stream_ts,
        asdict(learner.counts),
        {name: ring.n_appended for name, ring in learner.rings()},
        learner.noise.drawn,
        learner.users.n_given,
        learner.columns.n_events,
        learner.repeat_share,
    )


def _portions(rows: Iterable[T]) -> Iterator[list[T]]:
    left = iter(rows)
    while some := list(islice(left, _AT_ONCE)):
        yield some


def _named(learner: Learner, slots: Iterable[int] | Slots) -> list[tuple[int, str]]:
    slots = slots.tolist() if isinstance(slots, np.ndarray) else slots
    return [(slot, item_id) for slot in slots if (item_id := learner.items.item_id(slot)) is not None]


def _known(learner: Learner, table: Table[Any], item_id: str) -> int:
    slot = learner.items.get(item_id)
    if slot is None:
        raise LearnerError(f"{table.name}: {item_id!r} has a row, but none in {ITEM_MODEL.name}")
    return slot
