"""Versions of control documents: read, put in force, looked back at, taken back. The same for each kind."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import falcon.asgi
import msgspec
from msgspec import Struct

from serving.contract.bodies import read_body, send
from serving.contract.documents import HistoryAnswer, HistoryEntry, HistoryQuery, WantedRollback
from serving.contract.problems import ProblemError
from serving.contract.queries import NoQuery, parse_query
from serving.kafka.event_log import Outbox
from serving.memory.breaker import Breaker
from serving.memory.control import Held
from serving.resources.events import deliver
from state.control import ControlDocument, version_field
from state.entries import CONTROL, CONTROL_HISTORY, Table
from state.store import AsyncStore, StoreUnavailableError
from state.topics import CONTROL as CONTROL_TOPIC
from state.validation import decode

B = TypeVar("B", bound=Struct)
T = TypeVar("T")

_BODY_LIMIT = 64 * 1024
_VERSIONS = 50
"""Read at once."""
_rollback_decoder = msgspec.json.Decoder(WantedRollback)
_encode = msgspec.msgpack.Encoder().encode
_ERASURE = "a user was erased"
_NOBODY = "no key was asked for"


class Documents(Generic[B]):
    """Reads and writes versions of one kind of document."""

    def __init__(self, held: Held[B, Any], store: AsyncStore, breaker: Breaker, outbox: Outbox) -> None:
        self.held = held
        self._store = store
        self._breaker = breaker
        self._outbox = outbox

    def body_of(self, document: ControlDocument | None) -> B:
        """Return what a version says; None is what holds before the first one."""
        kind = self.held.kind
        return kind.nothing if document is None else kind.parse(document.body)

    async def in_force(self) -> ControlDocument | None:
        """Return the newest document. Raise `ProblemError` 503 without Redis."""
        return (await self._newest())[0]

    async def versions(self, numbers: range | list[int]) -> dict[int, ControlDocument]:
        """Return those of the versions that the history holds. Raise `ProblemError` 503 without Redis."""
        found = await self.read(CONTROL_HISTORY, [version_field(self.held.kind.name, n) for n in numbers])
        return {document.version: document for document in found.values()}

    async def version(self, number: int, field: str) -> ControlDocument | None:
        """Return a version, None for number 0. Raise `ProblemError` 404 that names the field, 503 without Redis."""
        if number == 0:
            return None
        found = (await self.versions([number])).get(number)
        if found is None:
            raise ProblemError(
                404, f"{field}: there is no version {number}; the history tells which there are", field=field
            )
        return found

    async def write(
        self, body: B, author: str, note: str, expected: int | None, restores: int | None = None
    ) -> tuple[ControlDocument, int]:
        """Put a version in force; return it, and 1 while Kafka has not acknowledged it.

        Raise `ProblemError` 409 when not the expected version is in force, 503 without Redis.
        """
        kind = self.held.kind
        newest, stored = await self._newest()
        version = 0 if newest is None else newest.version
        if expected is not None and expected != version:
            raise ProblemError(409, f"version: {expected} is not in force, but {version}", field="version")
        now_ms = int(time.time() * 1000)
        document = ControlDocument(kind.name, version + 1, kind.encode(body), author, now_ms, note, restores)
        try:
            done = await self._breaker.call(lambda: self._store.replace_document(document, stored))
        except StoreUnavailableError as error:
            raise self._unavailable(error) from error
        if not done:
            raise ProblemError(409, "another version was put in force in this moment", field="version")
        self.held.take(document)
        message = (version_field(kind.name, document.version), _encode(document))
        delivery = await deliver(self._outbox, CONTROL_TOPIC, [message])
        return document, delivery.n_pending + len(delivery.failed)

    async def forget(self, user_id: str, author: str) -> str | None:
        """Take a user's name out of all versions (R27); return why that is not done everywhere."""
        without_user = self.held.kind.without_user
        if without_user is None:
            return None
        try:
            n_pending = await self._rewrite_all(lambda body: without_user(body, user_id), author, _ERASURE)
        except ProblemError as error:
            return f"may still name the user, erase again: {error.detail}"
        return f"{n_pending} versions are not acknowledged by Kafka" if n_pending else None

    async def _rewrite_all(self, change: Callable[[B], B], author: str, note: str) -> int:
        """Change what all versions say, where it may not be kept: the newest one by one after it, then each in its
        place. Return how many of the changes Kafka has not acknowledged. Raise `ProblemError` as `write` does.
        """
        newest = await self.in_force()
        if newest is None:
            return 0
        n_pending = 0
        body = self.body_of(newest)
        if (changed := change(body)) != body:
            n_pending += (await self.write(changed, author, note, newest.version))[1]
        for first in range(1, newest.version + 1, _VERSIONS):
            found = await self.versions(range(first, min(first + _VERSIONS, newest.version + 1)))
            bodies = [(document, self.body_of(document)) for document in found.values()]
            others = [
                msgspec.structs.replace(document, body=self.held.kind.encode(changed))
                for document, body in bodies
                if (changed := change(body)) != body
            ]
            if others:
                n_pending += await self._rewrite(others)
        return n_pending

    async def _rewrite(self, documents: list[ControlDocument]) -> int:
        try:
            await self._breaker.call(lambda: self._store.rewrite_history(documents))
        except StoreUnavailableError as error:
            raise self._unavailable(error) from error
        messages: list[tuple[str, bytes | None]] = [
            (version_field(document.kind, document.version), _encode(document)) for document in documents
        ]
        delivery = await deliver(self._outbox, CONTROL_TOPIC, messages)
        return delivery.n_pending + len(delivery.failed)

    async def _newest(self) -> tuple[ControlDocument | None, int | None]:
        """Return the newest document and the version that Redis holds, None where it holds none."""
        name, known = self.held.kind.name, self.held.document
        stored = (await self.read(CONTROL, [name])).get(name)
        newest = stored if known is None or (stored is not None and stored.version >= known.version) else known
        return newest, None if stored is None else stored.version

    async def read(self, table: Table[T], fields: list[str]) -> Mapping[str, T]:
        """Return those of the rows that exist. Raise `ProblemError` 503 without Redis."""
        try:
            return await self._breaker.call(lambda: self._store.get_rows(table, fields))
        except StoreUnavailableError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: StoreUnavailableError) -> ProblemError:
        """Return the problem of what cannot be read or written now; what is in force goes on to hold."""
        what = f"{self.held.kind.name} cannot be changed or looked up now: {error}"
        return ProblemError(503, what, retry_after_s=1)


class History(Generic[B]):
    """Who changed what, and when.

    Parameters
    ----------
    differences
        Says what the second body changed of the first.
    """

    def __init__(self, documents: Documents[B], differences: Callable[[B, B], list[str]]) -> None:
        self._documents = documents
        self._differences = differences

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        query = parse_query(HistoryQuery, req.params)
        newest = await self._documents.in_force()
        last = 0 if newest is None else newest.version
        wanted = range(last, max(last - query.limit, 0), -1)
        found = await self._documents.versions([*wanted, wanted[-1] - 1] if wanted else [])
        body_of = self._documents.body_of
        entries = [
            HistoryEntry(
                version=version,
                author=document.author,
                ts=document.ts,
                note=document.note,
                restores=document.restores,
                changes=self._differences(body_of(found.get(version - 1)), body_of(document)),
            )
            for version in wanted
            if (document := found.get(version)) is not None
        ]
        send(resp, HistoryAnswer(versions=entries))


class Rollback(Generic[B]):
    """Back to an earlier version, in one call.

    Parameters
    ----------
    answer
        Renders a version and how many copies of it Kafka has not acknowledged.
    """

    def __init__(self, documents: Documents[B], answer: Callable[[ControlDocument, int], Struct]) -> None:
        self._documents = documents
        self._answer = answer

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        parse_query(NoQuery, req.params)
        wanted = decode(_rollback_decoder, await read_body(req, _BODY_LIMIT) or b"{}", _BODY_LIMIT)
        newest = await self._documents.in_force()
        if newest is None:
            raise ProblemError(409, f"no {self._documents.held.kind.name} were ever put in force", field="to")
        to = newest.version - 1 if wanted.to is None else wanted.to
        body = self._documents.body_of(await self._documents.version(to, "to"))
        written = await self._documents.write(body, caller(req), wanted.note, newest.version, restores=to)
        send(resp, self._answer(*written))


def caller(req: falcon.asgi.Request) -> str:
    """Return who calls, for the history."""
    return str(getattr(req.context, "caller", _NOBODY))
