"""The two stores' contract: synchronous for flows, asynchronous for serving.

A flow writes only through `Changes`: everything that follows from a stretch of the log, together with the watermark
that says so, in one transaction. So the state is always that of a definite offset, a restart continues there, and an
empty Redis means the start of the log.
"""

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from state.control import ControlDocument
from state.entries import Entry, Table
from state.records import CleanEvent, SessionProfile, UserProfile, Watermark

T = TypeVar("T")


class StoreUnavailableError(Exception):
    """The store does not answer, or takes no writes."""


class StateLostError(Exception):
    """The store does not hold what a flow committed last: emptied, back at an older copy, or written by another."""


@dataclass
class Changes:
    """What one commit writes, all or nothing. Values are absolute: writing them twice is writing them once."""

    entries: dict[tuple[Entry[Any], str], Any] = field(default_factory=dict)
    rows: dict[Table[Any], dict[str, Any]] = field(default_factory=dict)
    settled: dict[str, list[str]] = field(default_factory=dict)
    watermarks: dict[str, dict[tuple[str, int], Watermark]] = field(default_factory=dict)
    expected: dict[str, dict[tuple[str, int], Watermark | None]] = field(default_factory=dict)
    """What the watermarks must be before the commit."""

    def put(self, entry: Entry[T], entity_id: str, value: T) -> None:
        self.entries[entry, entity_id] = value

    def delete(self, entry: Entry[Any], entity_id: str) -> None:
        self.entries[entry, entity_id] = None

    def upsert(self, table: Table[T], field: str, value: T) -> None:
        self.rows.setdefault(table, {})[field] = value

    def remove(self, table: Table[Any], field: str) -> None:
        self.rows.setdefault(table, {})[field] = None

    def settle(self, user_id: str, event_id: str) -> None:
        """The user's profile now contains this event: drop it from the overlay."""
        self.settled.setdefault(user_id, []).append(event_id)

    def advance(
        self, flow: str, topic: str, partition: int, watermark: Watermark, after: Watermark | None = None
    ) -> None:
        """Move the watermark on from `after`, None at the very start; `topic` as named in `state.topics`."""
        self.watermarks.setdefault(flow, {})[topic, partition] = watermark
        self.expected.setdefault(flow, {})[topic, partition] = after

    def __bool__(self) -> bool:
        return bool(self.entries or self.rows or self.settled or self.watermarks)


class Store(Protocol):
    """What flows read and write. Every method raises `StoreUnavailableError`."""

    def get_many(self, entry: Entry[T], entity_ids: Sequence[str]) -> list[T | None]:
        """Return the values in the order of the ids, None where there is none."""

    def get_rows(self, table: Table[T], fields: Sequence[str]) -> dict[str, T]:
        """Return those of the rows that exist."""

    def scan_rows(self, table: Table[T]) -> Iterator[tuple[str, T]]:
        """Yield every row once, in no order."""

    def watermarks(self, flow: str) -> dict[tuple[str, int], Watermark]:
        """Return (topic, partition) -> how far the flow has come; empty when it never ran on this store."""

    def recover(self, flow: str) -> None:
        """Complete a commit of the flow that was cut off. To be called before the flow reads its state."""

    def commit(self, changes: Changes) -> None:
        """Write everything or nothing. Raise `StateLostError` when a watermark is not the expected one.

        A reader may see some rows of a large commit before the rest; the watermarks come last.
        After `StoreUnavailableError` either is possible.
        """

    def replace_document(self, document: ControlDocument, before: int | None) -> bool:
        """Put a document in force as `AsyncStore.replace_document` does."""


def is_written(changes: Changes, stored: Mapping[str, Mapping[tuple[str, int], Watermark]]) -> bool:
    """Return whether a commit with expectations is in the store already, its answer having been lost.

    `stored` are the watermarks of the flows in `changes.expected`. Raise `StateLostError` when they are neither those
    that the commit starts from nor those that it leads to.
    """
    if changes.expected and all(marks.items() <= stored[flow].items() for flow, marks in changes.watermarks.items()):
        return True
    for flow, expected in changes.expected.items():
        check_expected(flow, expected, stored[flow])
    return False


def check_expected(
    flow: str, expected: Mapping[tuple[str, int], Watermark | None], stored: Mapping[tuple[str, int], Watermark]
) -> None:
    """Raise `StateLostError` unless the stored watermarks are the expected ones."""
    for (topic, partition), mark in expected.items():
        if (found := stored.get((topic, partition))) != mark:
            raise StateLostError(
                f"{flow} {topic}[{partition}]: expected {mark}, got {found}: the store was emptied, went back to "
                "an older copy, or another process writes the same partition; a restart goes on from what is stored"
            )


@dataclass(frozen=True)
class UserState:
    """One user as read in one round trip."""

    profile: UserProfile | None
    pending: list[CleanEvent]
    """Feedback that the profile does not contain yet, in order of event time."""
    session: SessionProfile | None = None


@dataclass(frozen=True)
class TableChanges:
    """Rows as they are now: None where a row is gone."""

    rows: Mapping[Table[Any], Mapping[str, Any]]
    complete: bool = False
    """True for a full load: rows that are not in it no longer exist."""


Changed = Callable[[str | None], None]
"""Takes a user id, None when it may be anybody."""


class UserWatch(Protocol):
    """Tells when users' profiles or overlays are written, by whomever."""

    async def open(self) -> None:
        """Raise `StoreUnavailableError`; everything may have changed before this."""

    async def add(self, user_id: str) -> None:
        """From the return of this on, the user's next change is told: once, then this has to be called again.

        Raise `StoreUnavailableError`.
        """

    def discard(self, user_id: str) -> None:
        """Tell no more of this user, or hardly."""

    async def lost(self) -> None:
        """Wait for the end: `StoreUnavailableError`."""

    async def aclose(self) -> None: ...


class AsyncStore(Protocol):
    """What serving reads, and the little that it writes: overlays, what was shown, control documents.

    Every method raises `StoreUnavailableError`.
    """

    async def user_state(self, user_id: str, session_id: str | None = None) -> UserState:
        """Read profile, overlay and session at one instant, in one round trip."""

    async def get(self, entry: Entry[T], entity_id: str) -> T | None: ...

    async def put(self, entry: Entry[T], entity_id: str, value: T) -> None: ...
    async def get_many(self, entry: Entry[T], entity_ids: Sequence[str]) -> list[T | None]:
        """Return the values in the order of the ids, None where there is none."""

    async def get_rows(self, table: Table[T], fields: Sequence[str]) -> dict[str, T]: ...

    async def add_overlay(self, *events: CleanEvent) -> None:
        """Make feedback visible at once, until the features flow has applied it."""

    async def watermarks(self, flow: str) -> dict[tuple[str, int], Watermark]: ...

    async def replace_document(self, document: ControlDocument, before: int | None) -> bool:
        """Put a document in force and into the history if the version in force is `before`, None for none.

        Return False, and change nothing, when it is another one.
        """

    async def rewrite_history(self, documents: Sequence[ControlDocument]) -> None:
        """Put other texts in the place of versions in the history, of what may not be kept."""

    def follow(self, tables: Iterable[Table[Any]]) -> AsyncGenerator[TableChanges, None]:
        """Yield one complete load, then changes as they come; an empty one at least every second.

        What one commit changed in tables of one feed is yielded together. A reader that was away for long gets a
        complete load again. `StoreUnavailableError` ends the iteration; following anew begins with a complete load.
        """

    def watch_users(self, changed: Changed) -> UserWatch:
        """Return a watch, to be opened, that calls `changed` in the event loop."""

    async def ping(self) -> None: ...

    async def aclose(self) -> None: ...
