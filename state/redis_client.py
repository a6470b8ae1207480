"""Clients of Redis: of one node, or of the node of a cluster that holds this system.

In a cluster (`redis+cluster://host:port,host:port`) all keys of a system have one hash tag, so they are in one slot, on
one node at a time: a commit stays one transaction, which is what makes it exact. A cluster then spreads systems (cells)
over its nodes, not one system. Each connection asks where its slot is when it is made; when the slot has moved, or its
node is gone, the connection is closed, and the next one finds the new place. To the rest of the code that is a
connection that was lost.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast
from urllib.parse import unquote, urlsplit

import redis
import redis.asyncio
from redis.exceptions import AskError, ClusterDownError, MovedError, TryAgainError

from state.settings import Settings

_SCHEME = "redis+cluster"
_FIND_S = 1.0
_ELSEWHERE = (AskError, ClusterDownError, TryAgainError)
"""Answers of a node that does not have the slot (any more, or not all of it, or not for now); `MovedError`, too."""

Address = tuple[str, int]


@dataclass(frozen=True)
class Slot:
    """Which slot of which cluster: by some of its nodes, and a key in the slot."""

    seeds: tuple[Address, ...]
    key: str
    username: str | None = None
    password: str | None = None

    @property
    def login(self) -> dict[str, str | None]:
        return {"username": self.username, "password": self.password}


def is_cluster(settings: Settings) -> bool:
    """Return whether the settings name a cluster."""
    return settings.redis_url.startswith(f"{_SCHEME}:")


def prefix(settings: Settings) -> str:
    """Return what all keys of a system begin with: in a cluster a hash tag, which puts them into one slot."""
    if is_cluster(settings):
        return f"{{{settings.namespace or 'freshet'}}}:"
    return f"{settings.namespace}:" if settings.namespace else ""


def connect(settings: Settings, **options: Any) -> redis.Redis:
    """Return a client. Raise `ValueError` for an address that is none."""
    if not is_cluster(settings):
        return redis.Redis.from_url(settings.redis_url, **options)
    pool = redis.ConnectionPool(connection_class=_SlotConnection, slot=_slot(settings), **options)
    return redis.Redis.from_pool(pool)


def connect_async(settings: Settings, **options: Any) -> redis.asyncio.Redis:
    """Return a client for an event loop. Raise `ValueError` for an address that is none."""
    return redis.asyncio.Redis.from_pool(async_pool(settings, **options))


def async_pool(settings: Settings, **options: Any) -> redis.asyncio.ConnectionPool:
    """Return what makes connections for an event loop. Raise `ValueError` for an address that is none."""
    if not is_cluster(settings):
        return redis.asyncio.ConnectionPool.from_url(settings.redis_url, **options)
    return redis.asyncio.ConnectionPool(connection_class=_AsyncSlotConnection, slot=_slot(settings), **options)


def _slot(settings: Settings) -> Slot:
    parts = urlsplit(settings.redis_url)
    login, _, nodes = parts.netloc.rpartition("@")
    if not nodes or parts.path.strip("/") not in ("", "0"):
        raise ValueError("REDIS_URL: expected redis+cluster://host:port,host:port (there is database 0 only)")
    user, _, password = login.partition(":")
    found = (urlsplit(f"//{node}") for node in nodes.split(","))
    return Slot(
        tuple((node.hostname or "127.0.0.1", node.port or 6379) for node in found),
        prefix(settings),
        unquote(user) or None,
        unquote(password) or None,
    )


class _Seen(Protocol):
    slot: Slot
    host: str
    port: int


def _candidates(connection: _Seen) -> Sequence[Address]:
    """Return whom to ask: the node that was it last, then the seeds."""
    last = (connection.host, connection.port)
    return [last, *(seed for seed in connection.slot.seeds if seed != last)]


def _moved(asked: Address, error: AskError) -> Address:
    return error.host or asked[0], int(error.port)


def _nobody(slot: Slot, error: Exception | None) -> redis.ConnectionError:
    nodes = ", ".join(f"{host}:{port}" for host, port in slot.seeds)
    return redis.ConnectionError(f"no node of the cluster says where the slot is ({nodes}): {error}")


class _SlotConnection(redis.Connection):
    """A connection to the primary that holds a slot."""

    def __init__(self, slot: Slot, **options: Any) -> None:
        self.slot = slot
        super().__init__(host=slot.seeds[0][0], port=slot.seeds[0][1], **(slot.login | options))  # type: ignore[no-untyped-call]

    def _connect(self) -> Any:
        self.host, self.port = self._find()
        return super()._connect()  # type: ignore[no-untyped-call]

    def _find(self) -> Address:
        error: Exception | None = None
        for asked in _candidates(self):
            options = {"socket_timeout": _FIND_S, "socket_connect_timeout": _FIND_S, "retry": None}
            with redis.Redis(host=asked[0], port=asked[1], **(self.slot.login | options)) as node:  # type: ignore[arg-type]
                try:
                    node.get(self.slot.key)
                except MovedError as moved:
                    return _moved(asked, moved)
                except AskError:
                    return asked  # it moves, but is still there
                except (redis.ConnectionError, redis.TimeoutError, ClusterDownError, OSError) as refused:
                    error = refused
                    continue
            return asked
        raise _nobody(self.slot, error)

    def read_response(self, *given: Any, **named: Any) -> Any:
        try:
            return super().read_response(*given, **named)
        except _ELSEWHERE as error:
            self.disconnect()  # type: ignore[no-untyped-call]
            raise redis.ConnectionError(f"the slot is elsewhere: {error}") from error


class _AsyncSlotConnection(redis.asyncio.Connection):
    """The same for an event loop."""

    def __init__(self, slot: Slot, **options: Any) -> None:
        self.slot = slot
        super().__init__(host=slot.seeds[0][0], port=slot.seeds[0][1], **(slot.login | options))

    async def _connect(self) -> None:
        self.host, self.port = await self._find()
        await super()._connect()  # type: ignore[no-untyped-call]

    async def _find(self) -> Address:
        error: Exception | None = None
        for asked in _candidates(cast("_Seen", self)):
            options = {"socket_timeout": _FIND_S, "socket_connect_timeout": _FIND_S}
            async with redis.asyncio.Redis(host=asked[0], port=asked[1], **(self.slot.login | options)) as node:  # type: ignore[arg-type]
                try:
                    await node.get(self.slot.key)
                except MovedError as moved:
                    return _moved(asked, moved)
                except AskError:
                    return asked
                except (redis.ConnectionError, redis.TimeoutError, ClusterDownError, OSError) as refused:
                    error = refused
                    continue
            return asked
        raise _nobody(self.slot, error)

    async def read_response(self, *given: Any, **named: Any) -> Any:
        try:
            return await super().read_response(*given, **named)
        except _ELSEWHERE as error:
            await self.disconnect(nowait=True)
            raise redis.ConnectionError(f"the slot is elsewhere: {error}") from error
