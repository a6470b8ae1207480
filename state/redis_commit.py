"""How a flow's changes get into Redis: in one transaction, or in short ones behind a journal.

Redis does one thing at a time, so a transaction of many rows lets every reader wait. One that would take long is cut
into pieces. They go into a journal first, each with a command of its own. Setting the journal's head is what commits:
from then on they are applied one after the other, the watermarks come with the last, and the journal goes. Whoever is
cut off before the head is set has changed nothing. After it, `recover` applies all pieces again before the flow reads
its state: values are absolute, so it does not matter how many had been applied.

A piece is encoded when its turn comes, and read back from the journal to be applied: so a commit takes the memory of a
few pieces, however many rows it has.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any, cast
from uuid import uuid4

import msgspec
import redis
import redis.client

from state import entries
from state.entries import FEED_RETENTION, OVERLAY, USER_PROFILE, Entry, Table
from state.records import Watermark
from state.redis_client import prefix
from state.settings import Settings
from state.store import Changes, StateLostError, is_written

Buckets = dict[int, list[str]]
Command = list[str | bytes]

PIECE_US = 4000.0
"""About what one transaction may keep Redis busy for, in microseconds."""

_ROW_US, _BYTES_PER_US = 3.0, 500.0
"""What writing a row takes: measured with 50-byte and 10-KB rows."""

# The server's clock decides what is old: writers' clocks may differ.
TRIM_FEED = """
local now = redis.call('TIME')
local oldest = now[1] * 1000 + math.floor(now[2] / 1000) - ARGV[1]
return redis.call('XTRIM', KEYS[1], 'MINID', '~', string.format('%.0f', oldest))
"""

# One command for many keys: redis-py takes 8 us for each command, but 1 us for each key of one.
_SET_MANY = "for i = 1, #KEYS do redis.call('SET', KEYS[i], ARGV[i + 1], 'EX', ARGV[1]) end"
_HDEL_MANY = "for i = 1, #KEYS do redis.call('HDEL', KEYS[i], ARGV[i]) end"

_HEAD = "head"


class _Head(msgspec.Struct, array_like=True):
    journal_id: str
    n_pieces: int
    last: list[Any]
    """Commands that complete the commit: the watermarks."""


class Keys:
    """Prefixes keys with the namespace, so that systems can share a server."""

    def __init__(self, settings: Settings) -> None:
        self._prefix = prefix(settings)

    def __call__(self, key: str) -> str:
        return self._prefix + key


def commit(client: redis.Redis, keys: Keys, changes: Changes) -> None:
    """Write everything or nothing, as `Store.commit` says."""
    # Asked before, since most feedback of a log that is read again is in no overlay. One that comes now is of
    # an event that is not applied yet: an event is in the overlay before it is in Kafka.
    overlays = [keys(OVERLAY.key(user_id)) for user_id in changes.settled]
    settled = changes.settled if overlays and client.exists(*overlays) else {}
    while not _commit(client, keys, changes, _Pieces(keys, dict(settled)).of(changes)):
        pass


def recover(client: redis.Redis, keys: Keys, flow: str) -> None:
    """Complete a commit that was cut off, if there is one."""
    journal = keys(entries.journal_key(flow))
    while (head := cast("bytes | None", client.hget(journal, _HEAD))) is not None:
        _complete(client, journal, msgspec.msgpack.decode(head, type=_Head))


def _commit(client: redis.Redis, keys: Keys, changes: Changes, pieces: Iterator[list[Command]]) -> bool:
    """Return False to be called again: a watermark moved meanwhile, or the connection was lost."""
    first = list(islice(pieces, 2))
    pieces = chain(first, pieces)
    flow = next(iter(changes.expected)) if len(changes.expected) == 1 and len(first) > 1 else None
    if flow is not None:
        recover(client, keys, flow)  # by a call that lost its connection
    pipeline = client.pipeline(transaction=True)
    try:
        if changes.expected and is_written(changes, _watch(pipeline, keys, changes.expected)):
            return True  # by a call whose answer was lost
        last = _watermark_commands(keys, changes)
        if flow is None:
            pipeline.multi()
            _add(pipeline, [*(command for piece in pieces for command in piece), *last])
            pipeline.execute()
            return True
        journal = keys(entries.journal_key(flow))
        head = _write_journal(client, journal, pieces, last)
        pipeline.multi()
        pipeline.hset(journal, _HEAD, msgspec.msgpack.encode(head))
        pipeline.execute()
    except redis.WatchError:
        return False
    finally:
        pipeline.reset()
    _complete(client, journal, head)
    return True


def _watch(
    pipeline: redis.client.Pipeline, keys: Keys, flows: Iterable[str]
) -> dict[str, dict[tuple[str, int], Watermark]]:
    """Return the flows' watermarks, which must not change until the pipeline is executed."""
    names = {flow: keys(entries.watermark_key(flow)) for flow in flows}
    pipeline.watch(*names.values())  # type: ignore[no-untyped-call]
    fields = {flow: cast("dict[bytes, bytes]", pipeline.hgetall(name)) for flow, name in names.items()}
    return {flow: entries.decode_watermarks(flow, found) for flow, found in fields.items()}


def _watermark_commands(keys: Keys, changes: Changes) -> list[Command]:
    commands: list[Command] = []
    for flow, marks in changes.watermarks.items():
        command: Command = ["HSET", keys(entries.watermark_key(flow))]
        for where, mark in marks.items():
            command += [entries.watermark_field(*where), entries.encode_watermark(mark)]
        commands.append(command)
    return commands


def _write_journal(client: redis.Redis, journal: str, pieces: Iterable[list[Command]], last: list[Command]) -> _Head:
    client.delete(journal)  # what a commit left that never was one
    n_pieces = 0
    for piece in pieces:
        client.hset(journal, str(n_pieces), cast("str", msgspec.msgpack.encode(piece)))
        n_pieces += 1
    return _Head(uuid4().hex, n_pieces, last)


def _complete(client: redis.Redis, journal: str, head: _Head) -> None:
    """Apply the pieces and what comes last. Raise `StateLostError` if the journal is another one meanwhile."""
    for number in range(head.n_pieces + 1):
        while not _apply(client, journal, head, number):
            pass


def _apply(client: redis.Redis, journal: str, head: _Head, number: int) -> bool:
    """Apply one piece of the journal, or what comes last; return False to be called again."""
    pipeline = client.pipeline(transaction=True)
    try:
        pipeline.watch(journal)  # type: ignore[no-untyped-call]
        found, piece = cast("list[bytes | None]", pipeline.hmget(journal, [_HEAD, str(number)]))
        if found is None or msgspec.msgpack.decode(found, type=_Head).journal_id != head.journal_id:
            raise StateLostError(f"{journal}: emptied, or replaced by another process, at piece {number}")
        pipeline.multi()
        if number < head.n_pieces:
            _add(pipeline, msgspec.msgpack.decode(cast("bytes", piece)))
        else:
            _add(pipeline, head.last)
            pipeline.unlink(journal)
        pipeline.execute()
    except redis.WatchError:
        return False
    finally:
        pipeline.reset()
    return True


def _add(pipeline: redis.client.Pipeline, commands: Iterable[Command]) -> None:
    for command in commands:
        pipeline.execute_command(*command)  # type: ignore[no-untyped-call]


class _Pieces:
    """Cuts changes into lists of commands that each take Redis about `PIECE_US`.

    What is `settled` leaves the overlay together with the profile that contains it.
    """

    def __init__(self, keys: Keys, settled: dict[str, list[str]]) -> None:
        self._keys = keys
        self._settled = settled
        self._begin()

    def of(self, changes: Changes) -> Iterator[list[Command]]:
        for (entry, entity_id), value in changes.entries.items():
            self._add_entry(entry, entity_id, None if value is None else entry.codec.encode(value))
            if self._us >= PIECE_US:
                yield self._taken()
        for table, rows in changes.rows.items():
            for name, row in rows.items():
                self._add_row(table, name, None if row is None else table.codec.encode(row))
                if self._us >= PIECE_US:
                    yield self._taken()
        for user_id in list(self._settled):
            self._settle(user_id)
        if self._us:
            yield self._taken()

    def _begin(self) -> None:
        self._us = 0.0
        self._entries: dict[Entry[Any], dict[str, bytes]] = {}
        self._gone: list[str] = []
        self._overlays: list[tuple[str, str]] = []
        self._rows: dict[Table[Any], dict[str, bytes | None]] = {}

    def _add_entry(self, entry: Entry[Any], entity_id: str, value: bytes | None) -> None:
        key = self._keys(entry.key(entity_id))
        if value is None:
            self._gone.append(key)
        else:
            self._entries.setdefault(entry, {})[key] = value
        if entry is USER_PROFILE and entity_id in self._settled:
            self._settle(entity_id)
        self._spend(value)

    def _settle(self, user_id: str) -> None:
        key = self._keys(OVERLAY.key(user_id))
        for event_id in self._settled.pop(user_id):
            self._overlays.append((key, event_id))
            self._us += _ROW_US

    def _add_row(self, table: Table[Any], name: str, value: bytes | None) -> None:
        self._rows.setdefault(table, {})[name] = value
        self._spend(value)

    def _spend(self, value: bytes | None) -> None:
        self._us += _ROW_US + len(value or b"") / _BYTES_PER_US

    def _taken(self) -> list[Command]:
        piece = [*self._entry_commands(), *self._row_commands()]
        self._begin()
        return piece

    def _entry_commands(self) -> Iterable[Command]:
        for entry, values in self._entries.items():
            ttl_s = str(int(entry.ttl.total_seconds()))
            yield ["EVAL", _SET_MANY, str(len(values)), *values, ttl_s, *values.values()]
        if self._gone:
            yield ["DEL", *self._gone]
        if self._overlays:
            names, event_ids = zip(*self._overlays, strict=True)
            yield ["EVAL", _HDEL_MANY, str(len(names)), *names, *event_ids]

    def _row_commands(self) -> Iterable[Command]:
        feeds: dict[str, dict[str, list[str]]] = {}
        for table, rows in self._rows.items():
            feeds.setdefault(table.feed, {})[table.name] = list(rows)
            for bucket, names in by_bucket(table, rows).items():
                yield from _bucket_commands(self._keys(table.key(bucket)), names, rows)
        for feed, names_by_table in feeds.items():
            key = self._keys(entries.feed_key(feed))
            yield ["XADD", key, "*", "changed", entries.encode_feed_entry(names_by_table)]
            yield ["EVAL", TRIM_FEED, "1", key, str(int(FEED_RETENTION.total_seconds() * 1000))]


def _bucket_commands(key: str, names: list[str], rows: Mapping[str, bytes | None]) -> Iterable[Command]:
    kept: Command = []
    gone = []
    for name in names:
        value = rows[name]
        if value is None:
            gone.append(name)
        else:
            kept += [name, value]
    if kept:
        yield ["HSET", key, *kept]
    if gone:
        yield ["HDEL", key, *gone]


def by_bucket(table: Table[Any], fields: Iterable[str]) -> Buckets:
    """Return the names of rows by the number of the hash that holds them."""
    buckets: Buckets = {}
    for name in fields:
        buckets.setdefault(table.bucket(name), []).append(name)
    return buckets
