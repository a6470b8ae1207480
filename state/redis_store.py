"""The stores over Redis (or Valkey): one node, or a slot of a cluster."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import redis
import redis.asyncio
import redis.asyncio.client
import redis.asyncio.retry
import redis.client
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry

from state import entries
from state.control import ControlDocument, version_field
from state.entries import CONTROL, CONTROL_HISTORY, FEED_RETENTION, OVERLAY, SESSION, USER_PROFILE, Entry, Table
from state.records import CleanEvent, Watermark
from state.redis_client import connect, connect_async
from state.redis_commit import TRIM_FEED, Buckets, Keys, by_bucket, commit, recover
from state.settings import Settings
from state.store import Changed, Changes, StoreUnavailableError, TableChanges, UserState, UserWatch
from state.user_reads import UserReads
from state.user_watch import RedisUserWatch

T = TypeVar("T")

_SCAN_FIELDS = 1000
_READ_AT_ONCE = 500
"""Rows that a follower reads at one instant: what a usual commit has changed, some ms of Redis' time."""
_SHARE_OF_BUDGET = 0.625
"""Of a request's time, that one answer may take."""
_FEED_BLOCK_MS = 1000
_RELOAD_AFTER_S = FEED_RETENTION.total_seconds() / 2

_StreamEntry = tuple[bytes, dict[bytes, bytes]]

_ADD_OVERLAY = """
for i = 1, #KEYS do
  redis.call('HSET', KEYS[i], ARGV[2 * i], ARGV[2 * i + 1])
  redis.call('EXPIRE', KEYS[i], ARGV[1])
end
"""
_OVERLAY_EVENTS = 250


@contextmanager
def _available() -> Iterator[None]:
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError, redis.ReadOnlyError, redis.OutOfMemoryError, OSError) as error:
        raise StoreUnavailableError(f"Redis does not answer: {error}") from error
    except redis.ResponseError as error:
        if not str(error).startswith("MISCONF"):  # the server cannot save, usually for want of disk space
            raise
        raise StoreUnavailableError(f"Redis takes no writes: {error}") from error


class RedisStore:
    """`Store` over one connection; for flows. A command that fails is tried again for some two seconds."""

    def __init__(self, settings: Settings) -> None:
        self._key = Keys(settings)
        self._redis = connect(
            settings, socket_timeout=10, retry=Retry(ExponentialBackoff(cap=1.0, base=0.05), retries=5)
        )

    def get_many(self, entry: Entry[T], entity_ids: Sequence[str]) -> list[T | None]:
        if not entity_ids:
            return []
        keys = [self._key(entry.key(entity_id)) for entity_id in entity_ids]
        with _available():
            values = cast("list[bytes | None]", self._redis.mget(keys))
        return [None if value is None else entry.decode(value) for value in values]

    def get_rows(self, table: Table[T], fields: Sequence[str]) -> dict[str, T]:
        pipeline = self._redis.pipeline(transaction=True)
        buckets = by_bucket(table, fields)
        for bucket, names in buckets.items():
            pipeline.hmget(self._key(table.key(bucket)), names)
        with _available():
            answers = pipeline.execute()
        return _decode_rows(table, buckets, answers)

    def scan_rows(self, table: Table[T]) -> Iterator[tuple[str, T]]:
        for bucket in range(table.n_buckets):
            key = table.key(bucket)
            with _available():
                rows = _sorted_rows(self._redis.hscan_iter(self._key(key), count=_SCAN_FIELDS))
            for name, value in rows:
                yield name.decode(), table.codec.decode(f"{key} {name!r}", value)

    def watermarks(self, flow: str) -> dict[tuple[str, int], Watermark]:
        with _available():
            fields = self._redis.hgetall(self._key(entries.watermark_key(flow)))
        return entries.decode_watermarks(flow, cast("dict[bytes, bytes]", fields))

    def commit(self, changes: Changes) -> None:
        with _available():
            commit(self._redis, self._key, changes)

    def recover(self, flow: str) -> None:
        with _available():
            recover(self._redis, self._key, flow)

    def replace_document(self, document: ControlDocument, before: int | None) -> bool:
        current = self._key(CONTROL.key(0))
        with _available(), self._redis.pipeline(transaction=True) as pipeline:
            pipeline.watch(current)  # type: ignore[no-untyped-call]
            if _version(document.kind, cast("bytes | None", pipeline.hget(current, document.kind))) != before:
                return False
            pipeline.multi()
            _put_document(pipeline, self._key, document)
            try:
                pipeline.execute()
            except redis.WatchError:
                return False
        return True


def _version(kind: str, stored: bytes | None) -> int | None:
    return None if stored is None else CONTROL.codec.decode(kind, stored).version


def _put_document(
    pipeline: "redis.client.Pipeline | redis.asyncio.client.Pipeline", key: Keys, document: ControlDocument
) -> None:
    """Queue what puts a document in force: the history, what is in force, and the feed that tells of it."""
    encoded, feed = cast("str", CONTROL.codec.encode(document)), key(entries.feed_key(CONTROL.feed))
    pipeline.hset(key(CONTROL_HISTORY.key(0)), version_field(document.kind, document.version), encoded)
    pipeline.hset(key(CONTROL.key(0)), document.kind, encoded)
    pipeline.xadd(feed, {"changed": entries.encode_feed_entry({CONTROL.name: [document.kind]})})
    pipeline.eval(TRIM_FEED, 1, feed, str(int(FEED_RETENTION.total_seconds() * 1000)))


class AsyncRedisStore:
    """`AsyncStore`; for serving. Timeouts are short: a late answer is worth nothing to a request."""

    def __init__(self, settings: Settings, timeout_s: float | None = None) -> None:
        if timeout_s is None:
            timeout_s = _SHARE_OF_BUDGET * settings.request_budget_ms / 1000
        self._key = Keys(settings)
        self._settings = settings
        # Never retried here: the caller knows what a request can wait for, and `follow` must notice a restart.
        never = redis.asyncio.retry.Retry(NoBackoff(), 0)
        self._redis = connect_async(settings, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=never)
        self._feed_redis = connect_async(settings, socket_timeout=10, socket_connect_timeout=1, retry=never)
        self._user_reads = UserReads(self._redis)
        self._add_overlay = self._redis.register_script(_ADD_OVERLAY)

    async def user_state(self, user_id: str, session_id: str | None = None) -> UserState:
        keys = [self._key(USER_PROFILE.key(user_id)), self._key(OVERLAY.key(user_id))]
        if session_id is not None:
            keys.append(self._key(SESSION.key(session_id)))
        with _available():
            profile, overlay, session = await self._user_reads.read(keys)
        return UserState(
            profile=None if profile is None else USER_PROFILE.decode(profile),
            pending=sorted((OVERLAY.decode(value) for value in overlay), key=lambda e: (e.ts, e.event_id)),
            session=None if session is None else SESSION.decode(session),
        )

    async def get(self, entry: Entry[T], entity_id: str) -> T | None:
        key = entry.key(entity_id)
        with _available():
            value = cast("bytes | None", await self._redis.get(self._key(key)))
        return None if value is None else entry.decode(value)

    async def put(self, entry: Entry[T], entity_id: str, value: T) -> None:
        with _available():
            await self._redis.set(self._key(entry.key(entity_id)), entry.codec.encode(value), ex=entry.ttl)

    async def get_many(self, entry: Entry[T], entity_ids: Sequence[str]) -> list[T | None]:
        if not entity_ids:
            return []
        keys = [self._key(entry.key(entity_id)) for entity_id in entity_ids]
        with _available():
            values = cast("list[bytes | None]", await self._redis.mget(keys))
        return [None if value is None else entry.decode(value) for value in values]

    async def get_rows(self, table: Table[T], fields: Sequence[str]) -> dict[str, T]:
        return (await self._get_rows(self._redis, {table: fields}))[table]

    async def add_overlay(self, *events: CleanEvent) -> None:
        for first in range(0, len(events), _OVERLAY_EVENTS):
            some = events[first : first + _OVERLAY_EVENTS]
            keys = [self._key(OVERLAY.key(event.user_id)) for event in some]
            values = [value for event in some for value in (event.event_id, OVERLAY.codec.encode(event))]
            with _available():
                await self._add_overlay(keys, [int(OVERLAY.ttl.total_seconds()), *values])

    async def watermarks(self, flow: str) -> dict[tuple[str, int], Watermark]:
        with _available():
            fields = await self._redis.hgetall(self._key(entries.watermark_key(flow)))
        return entries.decode_watermarks(flow, cast("dict[bytes, bytes]", fields))

    async def replace_document(self, document: ControlDocument, before: int | None) -> bool:
        current = self._key(CONTROL.key(0))
        with _available():
            async with self._redis.pipeline(transaction=True) as pipeline:
                await pipeline.watch(current)
                stored = cast("bytes | None", await cast("Awaitable[Any]", pipeline.hget(current, document.kind)))
                if _version(document.kind, stored) != before:
                    return False
                pipeline.multi()  # type: ignore[no-untyped-call]
                _put_document(pipeline, self._key, document)
                try:
                    await pipeline.execute()
                except redis.WatchError:
                    return False
        return True

    async def rewrite_history(self, documents: Sequence[ControlDocument]) -> None:
        codec = CONTROL_HISTORY.codec
        rows: dict[Any, Any] = {version_field(d.kind, d.version): codec.encode(d) for d in documents}
        with _available():
            await self._redis.hset(self._key(CONTROL_HISTORY.key(0)), mapping=rows)

    async def follow(self, tables: Iterable[Table[Any]]) -> AsyncGenerator[TableChanges, None]:
        by_name = {table.name: table for table in tables}
        feeds = {self._key(entries.feed_key(table.feed)) for table in by_name.values()}
        clock = asyncio.get_running_loop().time
        positions: dict[str, str] = {}
        read_at = float("-inf")
        while True:
            if clock() - read_at > _RELOAD_AFTER_S:
                # Positions first: what changes during the load is read again.
                positions = {feed: await self._newest(feed) for feed in feeds}
                loaded = {table: await self._load(table) for table in by_name.values()}
                read_at = clock()
                yield TableChanges(loaded, complete=True)
            with _available():
                answer = await self._feed_redis.xread(cast("dict[Any, Any]", positions), block=_FEED_BLOCK_MS)
            read_at = clock()
            changed: dict[str, dict[str, None]] = {}
            for feed, messages in _feed_messages(answer):
                positions[feed] = messages[-1][0].decode()
                for _, fields in messages:
                    for name, rows in entries.decode_feed_entry(fields[b"changed"]).items():
                        changed.setdefault(name, {}).update(dict.fromkeys(rows))
            if entries.EVERYTHING in changed:
                read_at = float("-inf")
                continue
            wanted = {by_name[name]: list(rows) for name, rows in changed.items() if name in by_name}
            changes: dict[Table[Any], dict[str, Any]] = {table: dict.fromkeys(names) for table, names in wanted.items()}
            for portion in _portions(wanted):
                for table, found in (await self._get_rows(self._feed_redis, portion)).items():
                    changes[table].update(found)
            yield TableChanges(changes)

    def watch_users(self, changed: Changed) -> UserWatch:
        return RedisUserWatch(self._settings, self._key, changed)

    async def ping(self) -> None:
        with _available():
            await self._redis.ping()

    async def aclose(self) -> None:
        await self._user_reads.aclose()
        await self._redis.aclose()
        await self._feed_redis.aclose()

    async def _newest(self, feed: str) -> str:
        with _available():
            newest = cast("list[_StreamEntry]", await self._feed_redis.xrevrange(feed, count=1))
        return newest[0][0].decode() if newest else "0"

    async def _load(self, table: Table[T]) -> dict[str, T]:
        rows: dict[str, T] = {}
        for bucket in range(table.n_buckets):
            key = table.key(bucket)
            with _available():
                found = [row async for row in self._feed_redis.hscan_iter(self._key(key), count=_SCAN_FIELDS)]
            for name, value in _sorted_rows(found):
                rows[name.decode()] = table.codec.decode(f"{key} {name!r}", value)
        return rows

    async def _get_rows(
        self, client: redis.asyncio.Redis, wanted: Mapping[Table[Any], Sequence[str]]
    ) -> dict[Table[Any], dict[str, Any]]:
        """Read rows of several tables at one instant."""
        pipeline = client.pipeline(transaction=True)
        by_table = {table: by_bucket(table, fields) for table, fields in wanted.items()}
        for table, buckets in by_table.items():
            for bucket, names in buckets.items():
                pipeline.hmget(self._key(table.key(bucket)), names)
        with _available():
            answers = iter(await pipeline.execute())
        return {
            table: _decode_rows(table, buckets, [next(answers) for _ in buckets]) for table, buckets in by_table.items()
        }


def _sorted_rows(scanned: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return each row once, by name: a scan may give one twice, in an order that changes while Redis rehashes.

    Who loads the same rows numbers the items alike, and so makes the same lists.
    """
    return sorted(dict(scanned).items())


def _portions(wanted: Mapping[Table[Any], Sequence[str]]) -> Iterator[dict[Table[Any], Sequence[str]]]:
    """Cut what is to be read into portions that do not keep Redis from others for long."""
    portion: dict[Table[Any], Sequence[str]] = {}
    left = _READ_AT_ONCE
    for table, names in wanted.items():
        first = 0
        while first < len(names):
            some = names[first : first + left]
            portion[table] = some
            first += len(some)
            left -= len(some)
            if not left:
                yield portion
                portion, left = {}, _READ_AT_ONCE
    if portion:
        yield portion


def _decode_rows(table: Table[T], buckets: Buckets, answers: list[list[bytes | None]]) -> dict[str, T]:
    return {
        name: table.codec.decode(f"{table.key(bucket)} {name}", value)
        for (bucket, names), values in zip(buckets.items(), answers, strict=True)
        for name, value in zip(names, values, strict=True)
        if value is not None
    }


def _feed_messages(answer: Any) -> Iterator[tuple[str, list[_StreamEntry]]]:
    """RESP3 answers a map of feed to one list of messages, RESP2 a list of pairs."""
    pairs = answer.items() if isinstance(answer, dict) else answer or []
    for feed, messages in pairs:
        flat = messages[0] if messages and isinstance(messages[0], list) else messages
        if flat:
            yield feed.decode(), flat
