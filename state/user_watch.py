"""Being told when a user's profile or overlay is written, by whomever: Redis's tracking of what a client has read."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import redis.asyncio
from redis.exceptions import RedisError

from state.entries import OVERLAY, USER_PROFILE
from state.redis_client import async_pool
from state.settings import Settings
from state.store import Changed, StoreUnavailableError

_ANSWER_S = 2.0
_QUIET_S = 1.0
"""After so long without a word the server is asked for one."""


class RedisUserWatch:
    """`UserWatch` over one connection with RESP3, `CLIENT TRACKING`.

    The server remembers which keys were read on this connection, and tells once when one of them is written, expires or
    is deleted. So writers need not know of watchers, and nothing is sent for users whom nobody watches.
    """

    def __init__(self, settings: Settings, key: Callable[[str], str], changed: Changed) -> None:
        self._key = key
        self._changed = changed
        pool = async_pool(settings, protocol=3, socket_timeout=_ANSWER_S, socket_connect_timeout=_ANSWER_S)
        self._connection: Any = pool.make_connection()  # type: ignore[no-untyped-call]
        self._users: dict[bytes, str] = {}
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._reading: asyncio.Task[None] | None = None

    async def open(self) -> None:
        try:
            await self._connection.connect()
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreUnavailableError(f"Redis does not answer: {error}") from error
        self._connection._parser.set_invalidation_push_handler(self._on_invalidation)
        self._reading = asyncio.create_task(self._read())
        await self._ask("CLIENT", "TRACKING", "ON")

    async def add(self, user_id: str) -> None:
        keys = [self._key(USER_PROFILE.key(user_id)), self._key(OVERLAY.key(user_id))]
        for key in keys:
            self._users[key.encode()] = user_id
        await self._ask("EXISTS", *keys)

    def discard(self, user_id: str) -> None:
        for entry in (USER_PROFILE, OVERLAY):
            self._users.pop(self._key(entry.key(user_id)).encode(), None)

    async def lost(self) -> None:
        assert self._reading is not None
        await asyncio.shield(self._reading)

    async def aclose(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        await self._connection.disconnect(nowait=True)

    async def _ask(self, *command: str) -> None:
        """Send a command and wait until the server has run it."""
        if self._reading is None or self._reading.done():
            raise StoreUnavailableError("the connection that watches users is lost")
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        try:
            await self._connection.send_command(*command)
            async with asyncio.timeout(_ANSWER_S):
                await answer
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreUnavailableError(f"Redis does not answer: {error}") from error

    async def _read(self) -> None:
        """Give answers to those who wait, in order. Raise `StoreUnavailableError` when the connection is lost."""
        silent = False
        try:
            while True:
                try:
                    answer = await self._connection.read_response(
                        timeout=_ANSWER_S if silent else _QUIET_S, disconnect_on_error=False, push_request=True
                    )
                except (redis.TimeoutError, TimeoutError):
                    if silent:
                        raise
                    silent = True
                    self._waiting.append(asyncio.get_running_loop().create_future())
                    await self._connection.send_command("PING")
                    continue
                silent = False
                if answer is None:
                    continue  # a push, handled already
                waiting = self._waiting.popleft()
                if not waiting.done():
                    waiting.set_result(answer)
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreUnavailableError(f"Redis does not answer: {error}") from error
        finally:
            while self._waiting:
                waiting = self._waiting.popleft()
                if not waiting.done():
                    waiting.set_exception(StoreUnavailableError("the connection that watches users is lost"))
                    waiting.exception()  # nobody waits for a PING's

    async def _on_invalidation(self, message: Sequence[Any]) -> None:
        keys = message[1]
        if keys is None:  # everything was deleted
            self._changed(None)
            return
        for key in keys:
            user_id = self._users.get(key)
            if user_id is not None:
                self._changed(user_id)
