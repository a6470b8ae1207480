"""Reads of users' states, those of one turn of the event loop in one call to Redis.

A call costs the client some 100 us however much it asks for, which is more than all else that a list needs of a user.
"""

import asyncio
from collections.abc import Sequence
from typing import cast

import redis.asyncio

MOST_AT_ONCE = 64
"""Users in one call: it keeps the server from others for about 5 us each."""

UserBytes = tuple[bytes | None, list[bytes], bytes | None]
"""Profile, overlay and session as they are stored."""

# Each user's profile, overlay and session at one instant; ARGV[i] is the number of keys of the i-th user.
_READ_USERS = """
local states, k = {}, 1
for i, n_keys in ipairs(ARGV) do
  local state = {redis.call('GET', KEYS[k]), redis.call('HVALS', KEYS[k + 1])}
  if n_keys == '3' then state[3] = redis.call('GET', KEYS[k + 2]) end
  states[i], k = state, k + n_keys
end
return states
"""


class UserReads:
    """Gathers reads until the event loop has run what was ready, then makes them together."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._call = client.register_script(_READ_USERS)
        self._waiting: list[tuple[Sequence[str], asyncio.Future[UserBytes]]] = []
        self._calls: set[asyncio.Task[None]] = set()

    def read(self, keys: Sequence[str]) -> asyncio.Future[UserBytes]:
        """Ask for the values of two or three keys: profile, overlay, session. Redis's errors are the future's."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[UserBytes] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._send)
        self._waiting.append((keys, answer))
        return answer

    async def aclose(self) -> None:
        """Wait for what is under way."""
        await asyncio.gather(*self._calls)

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        for first in range(0, len(waiting), MOST_AT_ONCE):
            call = asyncio.create_task(self._read(waiting[first : first + MOST_AT_ONCE]))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)

    async def _read(self, reads: list[tuple[Sequence[str], asyncio.Future[UserBytes]]]) -> None:
        try:
            states = await self._call([key for keys, _ in reads for key in keys], [len(keys) for keys, _ in reads])
        except Exception as error:
            for _, answer in reads:
                if not answer.done():
                    answer.set_exception(error)
            return
        for (_, answer), (profile, overlay, *session) in zip(reads, cast("list[list[object]]", states), strict=True):
            if not answer.done():  # its request may have given up
                answer.set_result(cast("UserBytes", (profile, overlay, session[0] if session else None)))
