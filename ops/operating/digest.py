"""One number for all state that follows from the log: two systems that read the same have the same.

Left out, and why: what `learn` writes (it learns under a budget of time, so that two runs differ), arms of experiments
(their flow reads the log again by itself), overlays and what was shown (serving's own, gone once it is applied or old),
registered models and windows of metrics (copied), feeds and journals (how rows get to readers), and positions other
than stream time. Also what is older than its lifetime: Redis drops that by the wall clock, and a rebuild brings it back
for a while.
"""

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any, cast

import msgspec
import redis

from online_models.users import activity
from state.entries import (
    CATALOGUE,
    CONTROL,
    CONTROL_HISTORY,
    ITEM_ACTIVITY,
    SESSION,
    USER_PROFILE,
    Entry,
    Table,
    decode_watermarks,
    watermark_key,
)
from state.keyspace import owner_of
from state.records import Activity, SessionProfile, UserProfile
from state.redis_commit import Keys

FLOW = "features"
_ENTRIES: Mapping[Entry[Any], str] = {USER_PROFILE: "profiles", SESSION: "sessions"}
_TABLES: Mapping[Table[Any], str] = {
    CATALOGUE: "catalogue",
    ITEM_ACTIVITY: "item activity",
    CONTROL: "control",
    CONTROL_HISTORY: "control history",
}
_AT_ONCE = 500
_BITS = 128

_encode = msgspec.msgpack.Encoder().encode


class Digest(msgspec.Struct):
    """Of one kind of state."""

    n: int = 0
    value: int = 0
    """The sum of all rows' hashes: their order does not matter."""

    def add(self, name: str, value: Any) -> None:
        """Take in one row."""
        plain = msgspec.to_builtins(value, str_keys=True, order="sorted")
        row = blake2b(_encode((name, plain)), digest_size=_BITS // 8).digest()
        self.n += 1
        self.value = (self.value + int.from_bytes(row)) % (1 << _BITS)

    def __str__(self) -> str:
        return f"{self.value:0{_BITS // 4}x}"


def digests(client: redis.Redis, keys: Keys) -> dict[str, Digest]:
    """Return the digest of each kind of state in this namespace. Raise `StateDecodeError` for what cannot be read."""
    found = {kind: Digest() for kind in ("stream time", *_ENTRIES.values(), *_TABLES.values())}
    marks = decode_watermarks(FLOW, cast("dict[bytes, bytes]", client.hgetall(keys(watermark_key(FLOW)))))
    for (topic, partition), mark in marks.items():
        if mark.stream_ts:
            found["stream time"].add(f"{topic}/{partition}", mark.stream_ts)
    stream_ts = max((mark.stream_ts for mark in marks.values()), default=0)
    for table, kind in _TABLES.items():
        for bucket in range(table.n_buckets):
            rows = client.hscan_iter(keys(table.key(bucket)), count=_AT_ONCE)
            for field, value in dict(cast("Iterator[tuple[bytes, bytes]]", rows)).items():
                row = table.codec.decode(f"{table.name} {field!r}", value)
                found[kind].add(field.decode(), _as_of(row, stream_ts))
    for entry, key, value in _values(client, keys):
        record = entry.decode(value)
        if _end_of_life(entry, record) > stream_ts:
            found[_ENTRIES[entry]].add(key, _as_of(record, stream_ts))
    return found


def _values(client: redis.Redis, keys: Keys) -> Iterator[tuple[Entry[Any], str, bytes]]:
    prefix = keys("")
    waiting: dict[str, Entry[Any]] = {}
    for name in client.scan_iter(f"{prefix}v[0-9]*", count=_AT_ONCE):
        key = name.decode()
        owner = owner_of(key.removeprefix(prefix))
        if isinstance(owner, Entry) and owner in _ENTRIES:
            waiting[key] = owner
        if len(waiting) >= _AT_ONCE:
            yield from _read(client, waiting, prefix)
            waiting.clear()
    yield from _read(client, waiting, prefix)


def _read(
    client: redis.Redis, waiting: Mapping[str, Entry[Any]], prefix: str
) -> Iterator[tuple[Entry[Any], str, bytes]]:
    values = cast("list[bytes | None]", client.mget(list(waiting))) if waiting else []
    for (key, entry), value in zip(waiting.items(), values, strict=True):
        if value is not None:  # else it has expired just now
            yield entry, key.removeprefix(prefix), value


def _end_of_life(entry: Entry[Any], record: UserProfile | SessionProfile) -> int:
    return record.last_ts + int(entry.ttl.total_seconds() * 1000)


def _as_of(record: Any, stream_ts: int) -> Any:
    """Drop panes that no window holds any more: flows do so when they come by."""
    counted = record if isinstance(record, Activity) else getattr(record, "activity", None)
    if isinstance(counted, Activity):
        activity.expire(counted, stream_ts)
    return record
