"""Two databases of one Redis: the one that everybody reads, and one beside it that takes its place.

`SWAPDB` exchanges them at one instant: connections stay, and each finds the other state behind the same number. A flow
notices at its next commit, or within a second, that the watermarks are not its own any more, ends, is started again by
its supervisor, and goes on from what it finds. Serving's workers are told by the feeds to load everything again.
"""

from collections.abc import Collection, Iterator
from typing import Any, cast
from urllib.parse import urlsplit, urlunsplit

import redis

from ops.stack.errors import StackError
from state.entries import (
    EVERYTHING,
    METRIC_WINDOWS,
    MODEL_CHUNK,
    OVERLAY,
    REBUILDING,
    SHOWN,
    TABLES,
    Entry,
    encode_feed_entry,
    feed_key,
)
from state.keyspace import owner_of
from state.redis_client import is_cluster
from state.redis_commit import Keys
from state.settings import Settings

_N_DATABASES = 16
_AT_ONCE = 500
_ROOM = 2.2
"""Times the memory that is used now: two states, and some for what is written meanwhile."""
Feedback = tuple[str, str]
"""(user id, event id)"""
_CARRIED: Collection[Entry[Any]] = (SHOWN, MODEL_CHUNK, *METRIC_WINDOWS.values())
"""Beside overlays: what does not follow from the log, and is carried over as it is."""


class Databases:
    """The database of `settings`, and an empty one of the same server."""

    def __init__(self, settings: Settings, *, take_over: bool = False) -> None:
        """Raise `StackError` when there is no room, or another rebuild is under way unless it is to be taken over."""
        if is_cluster(settings):
            raise StackError(
                "A cluster has one database: there is none beside it to build the state in.",
                "Delete this system's keys, and the flows build it from the log, see docs/operations.md.",
            )
        self._keys = Keys(settings)
        self._live = redis.Redis.from_url(settings.redis_url)
        self._number = int(self._live.get_connection_kwargs().get("db") or 0)
        other = cast("bytes | None", self._live.get(self._keys(REBUILDING)))
        if other is not None and not take_over:
            raise StackError(
                f"A rebuild is under way in database {other.decode()} of this Redis, or was killed.",
                "If none runs any more, freshet rebuild --take-over empties it and begins anew.",
            )
        self.spare_number = self._free_number() if other is None else int(other)
        self.spare_settings = settings.model_copy(update={"redis_url": self._url(settings.redis_url)})
        self._spare = redis.Redis.from_url(self.spare_settings.redis_url)
        self._check_room()
        self._live.set(self._keys(REBUILDING), self.spare_number)
        self.empty_spare()  # what one that was killed has left

    @property
    def live(self) -> redis.Redis:
        """What everybody reads."""
        return self._live

    @property
    def spare(self) -> redis.Redis:
        """What is built, or after `swap` what was."""
        return self._spare

    @property
    def keys(self) -> Keys:
        """Return how keys are prefixed, in both."""
        return self._keys

    def check_owner(self) -> None:
        """Raise `StackError` when the live database has keys that are none of this namespace: they would go too."""
        prefix = self._keys("")
        for name in self._live.scan_iter(count=_AT_ONCE):
            key = name.decode(errors="replace")
            if not key.startswith(prefix) or owner_of(key.removeprefix(prefix)) is None:
                raise StackError(
                    f"Database {self._number} has keys of others, as {_kind(key)}: they would be exchanged too.",
                    "Give each system a database of its own: the number at the end of REDIS_URL.",
                )

    def carry_over(self, known: Collection[Feedback] = (), erased: Collection[str] = ()) -> set[Feedback]:
        """Copy what does not follow from the log into the spare database, over what is there.

        `known` feedback is left out: the spare profiles contain it, or it was copied before. `erased` are users whom
        the spare database has forgotten. Return the feedback that was copied.
        """
        gone = {self._keys(SHOWN.key(user_id)) for user_id in erased}
        copied: set[Feedback] = set()
        for name, owner in self._carried(self._live):
            if owner is OVERLAY:
                copied |= self._copy_overlay(self._live, self._spare, name, known)
            elif name not in gone:
                self._live.copy(name, name, destination_db=str(self.spare_number), replace=True)
        return copied

    def swap(self, known: Collection[Feedback]) -> None:
        """Exchange the two; then carry over feedback of the milliseconds between the last copy and this."""
        self._live.delete(self._keys(REBUILDING))
        self._live.swapdb(self._number, self.spare_number)
        for feed in {table.feed for table in TABLES}:
            self._live.xadd(self._keys(feed_key(feed)), {"changed": encode_feed_entry({EVERYTHING: []})})
        for name, owner in self._carried(self._spare):
            if owner is OVERLAY:
                self._copy_overlay(self._spare, self._live, name, known)

    def empty_spare(self) -> None:
        """Delete what is in the spare database, bit by bit."""
        some: list[bytes] = []
        for name in self._spare.scan_iter(count=_AT_ONCE):
            some.append(name)
            if len(some) == _AT_ONCE:
                self._spare.unlink(*some)
                some.clear()
        if some:
            self._spare.unlink(*some)

    def close(self) -> None:
        self._live.delete(self._keys(REBUILDING))
        self._live.close()
        self._spare.close()

    def _carried(self, client: redis.Redis) -> Iterator[tuple[str, Entry[Any]]]:
        prefix = self._keys("")
        for name in client.scan_iter(f"{prefix}v[0-9]*", count=_AT_ONCE):
            owner = owner_of(name.decode().removeprefix(prefix))
            if isinstance(owner, Entry) and (owner is OVERLAY or owner in _CARRIED):
                yield name.decode(), owner

    def _copy_overlay(
        self, source: redis.Redis, target: redis.Redis, name: str, known: Collection[Feedback]
    ) -> set[Feedback]:
        prefix, suffix = OVERLAY.pattern.split("{id}")
        user_id = name.removeprefix(self._keys(prefix)).removesuffix(suffix)
        events = cast("dict[bytes, bytes]", source.hgetall(name))
        waiting = {event: value for event, value in events.items() if (user_id, event.decode()) not in known}
        if waiting:
            target.hset(name, mapping=cast("dict[Any, Any]", waiting))
            target.expire(name, OVERLAY.ttl)
        return {(user_id, event.decode()) for event in waiting}

    def _free_number(self) -> int:
        used = {int(name.removeprefix("db")) for name in self._live.info("keyspace")}
        free = next((n for n in range(1, _N_DATABASES) if n not in used and n != self._number), None)
        if free is None:
            raise StackError(
                f"Redis has no empty database among its first {_N_DATABASES}.", "Empty one that nobody uses."
            )
        return free

    def _url(self, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in {"redis", "rediss"} or "db=" in parts.query:
            raise StackError(
                f"REDIS_URL is {parts.scheme}://...{parts.query}", "Write it as redis://host:port/0 for a rebuild."
            )
        return urlunsplit(parts._replace(path=f"/{self.spare_number}"))

    def _check_room(self) -> None:
        memory = cast("dict[str, int]", self._live.info("memory"))
        if memory["maxmemory"] and memory["used_memory"] * _ROOM > memory["maxmemory"]:
            raise StackError(
                f"Redis uses {memory['used_memory'] >> 20} of {memory['maxmemory'] >> 20} MiB: no room for a second "
                "state.",
                "Give it more memory for a while (config set maxmemory), or restore into another Redis.",
            )


def _kind(key: str) -> str:
    """Name no user: the message goes to logs."""
    owner = owner_of(key)
    return owner.pattern if isinstance(owner, Entry) else key.split(":")[0]
