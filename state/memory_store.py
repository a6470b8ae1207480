"""The stores in memory: for `evaluate`, `play` and unit tests.

Values are encoded, so sharing one is as safe as over Redis. Nothing expires: a process lives shorter than that.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from typing import Any, Self, TypeVar

import msgspec

from state.control import ControlDocument, version_field
from state.entries import CONTROL, CONTROL_HISTORY, OVERLAY, SESSION, USER_PROFILE, Entry, Table
from state.records import CleanEvent, Watermark
from state.store import Changed, Changes, TableChanges, UserState, UserWatch, is_written

T = TypeVar("T")

_IDLE_S = 1.0


class MemoryStore:
    """`Store`; `AsyncMemoryStore` reads what it holds."""

    def __init__(self) -> None:
        self._entries: dict[str, bytes] = {}
        self._tables: dict[str, dict[str, bytes]] = {}
        self._overlays: dict[str, dict[str, bytes]] = {}
        self._watermarks: dict[str, dict[tuple[str, int], Watermark]] = {}
        self._watches: list[MemoryUserWatch] = []
        self._followers: list[asyncio.Queue[dict[Table[Any], list[str]]]] = []

    def replace_document(self, document: ControlDocument, before: int | None) -> bool:
        stored = self.get_rows(CONTROL, [document.kind]).get(document.kind)
        if (None if stored is None else stored.version) != before:
            return False
        changes = Changes()
        changes.upsert(CONTROL_HISTORY, version_field(document.kind, document.version), document)
        changes.upsert(CONTROL, document.kind, document)
        self.commit(changes)
        return True

    def get_many(self, entry: Entry[T], entity_ids: Sequence[str]) -> list[T | None]:
        keys = [entry.key(entity_id) for entity_id in entity_ids]
        return [entry.decode(self._entries[key]) if key in self._entries else None for key in keys]

    def get_rows(self, table: Table[T], fields: Sequence[str]) -> dict[str, T]:
        rows = self._tables.get(table.name, {})
        return {name: table.codec.decode(name, rows[name]) for name in fields if name in rows}

    def scan_rows(self, table: Table[T]) -> Iterator[tuple[str, T]]:
        rows = self._tables.get(table.name, {})
        for name, value in sorted(rows.items(), key=lambda row: (table.bucket(row[0]), row[0])):
            yield name, table.codec.decode(name, value)

    def scan_entries(self, entry: Entry[T]) -> Iterator[tuple[str, T]]:
        """Yield the id and value of every one of an entry."""
        prefix, suffix = entry.pattern.split("{id}")
        for key, value in self._entries.items():
            if key.startswith(prefix) and key.endswith(suffix):
                yield key.removeprefix(prefix).removesuffix(suffix), entry.decode(value)

    def watermarks(self, flow: str) -> dict[tuple[str, int], Watermark]:
        return dict(self._watermarks.get(flow, {}))

    def recover(self, flow: str) -> None:
        """Nothing is ever cut off."""

    def commit(self, changes: Changes) -> None:
        stored = {flow: self._watermarks.get(flow, {}) for flow in changes.expected}
        if is_written(changes, stored):
            return
        # Encoded before anything is stored: a value that cannot be encoded leaves nothing half written.
        entries = {
            entry.key(entity_id): None if value is None else entry.codec.encode(value)
            for (entry, entity_id), value in changes.entries.items()
        }
        tables = {
            table.name: {name: None if row is None else table.codec.encode(row) for name, row in rows.items()}
            for table, rows in changes.rows.items()
        }
        _update(self._entries, entries)
        for entry, user_id in changes.entries:
            if entry is USER_PROFILE:
                self._told(user_id)
        for name, rows in tables.items():
            _update(self._tables.setdefault(name, {}), rows)
        for user_id, event_ids in changes.settled.items():
            for event_id in event_ids:
                self._overlays.get(user_id, {}).pop(event_id, None)
            self._told(user_id)
        for flow, marks in changes.watermarks.items():
            self._watermarks.setdefault(flow, {}).update(marks)
        if changes.rows:
            for follower in self._followers:
                follower.put_nowait({table: list(rows) for table, rows in changes.rows.items()})

    def dump(self) -> bytes:
        """Return all entries and rows; overlays and watermarks are left out."""
        return msgspec.msgpack.encode((self._entries, self._tables))

    @classmethod
    def of(cls, dumped: bytes) -> Self:
        """Return a store that holds what another one dumped. Raise `msgspec.MsgspecError`."""
        store = cls()
        store._entries, store._tables = msgspec.msgpack.decode(
            dumped, type=tuple[dict[str, bytes], dict[str, dict[str, bytes]]]
        )
        return store

    def _told(self, user_id: str) -> None:
        for watch in self._watches:
            watch.tell(user_id)


def _update(stored: dict[str, bytes], changed: dict[str, bytes | None]) -> None:
    for key, value in changed.items():
        if value is None:
            stored.pop(key, None)
        else:
            stored[key] = value


class MemoryUserWatch:
    """`UserWatch` of writers in the same event loop."""

    def __init__(self, watches: "list[MemoryUserWatch]", changed: Changed) -> None:
        self._watches = watches
        self._changed = changed
        self._users: set[str] = set()

    async def open(self) -> None:
        self._watches.append(self)

    async def add(self, user_id: str) -> None:
        self._users.add(user_id)

    def discard(self, user_id: str) -> None:
        self._users.discard(user_id)

    def tell(self, user_id: str) -> None:
        """Note a write."""
        if user_id in self._users:
            self._users.discard(user_id)
            self._changed(user_id)

    async def lost(self) -> None:
        await asyncio.get_running_loop().create_future()

    async def aclose(self) -> None:
        if self in self._watches:
            self._watches.remove(self)


class AsyncMemoryStore:
    """`AsyncStore` over a `MemoryStore` of the same event loop."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def user_state(self, user_id: str, session_id: str | None = None) -> UserState:
        overlay = self._store._overlays.get(user_id, {})
        return UserState(
            profile=self._store.get_many(USER_PROFILE, [user_id])[0],
            pending=sorted((OVERLAY.decode(value) for value in overlay.values()), key=lambda e: (e.ts, e.event_id)),
            session=None if session_id is None else self._store.get_many(SESSION, [session_id])[0],
        )

    async def get(self, entry: Entry[T], entity_id: str) -> T | None:
        return self._store.get_many(entry, [entity_id])[0]

    async def put(self, entry: Entry[T], entity_id: str, value: T) -> None:
        self._store._entries[entry.key(entity_id)] = entry.codec.encode(value)

    async def get_many(self, entry: Entry[T], entity_ids: Sequence[str]) -> list[T | None]:
        return self._store.get_many(entry, entity_ids)

    async def get_rows(self, table: Table[T], fields: Sequence[str]) -> dict[str, T]:
        return self._store.get_rows(table, fields)

    async def add_overlay(self, *events: CleanEvent) -> None:
        for event in events:
            self._store._overlays.setdefault(event.user_id, {})[event.event_id] = OVERLAY.codec.encode(event)
            self._store._told(event.user_id)

    async def watermarks(self, flow: str) -> dict[tuple[str, int], Watermark]:
        return self._store.watermarks(flow)

    async def replace_document(self, document: ControlDocument, before: int | None) -> bool:
        return self._store.replace_document(document, before)

    async def rewrite_history(self, documents: Sequence[ControlDocument]) -> None:
        changes = Changes()
        for document in documents:
            changes.upsert(CONTROL_HISTORY, version_field(document.kind, document.version), document)
        self._store.commit(changes)

    async def follow(self, tables: Iterable[Table[Any]]) -> AsyncGenerator[TableChanges, None]:
        followed = tuple(tables)
        queue: asyncio.Queue[dict[Table[Any], list[str]]] = asyncio.Queue()
        self._store._followers.append(queue)
        try:
            yield TableChanges({table: dict(self._store.scan_rows(table)) for table in followed}, complete=True)
            while True:
                try:
                    async with asyncio.timeout(_IDLE_S):  # `wait_for` of Python 3.11 can swallow a cancellation
                        changed = await queue.get()
                except TimeoutError:
                    changed = {}
                yield TableChanges(
                    {
                        table: dict.fromkeys(names) | self._store.get_rows(table, names)
                        for table, names in changed.items()
                        if table in followed
                    }
                )
        finally:
            self._store._followers.remove(queue)

    def watch_users(self, changed: Changed) -> UserWatch:
        return MemoryUserWatch(self._store._watches, changed)

    async def ping(self) -> None: ...

    async def aclose(self) -> None: ...
