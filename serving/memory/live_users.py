"""Who waits for changes of which user, in this process."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from serving.memory.tasks import lasting, stop
from state.store import AsyncStore, StoreUnavailableError, UserWatch

CLOSING = "closing"
"""Of the server's state: what it calls before it waits for open connections."""
_RETRY_S = 0.25
_log = logging.getLogger("serving")


class Follower:
    """One who waits for changes of one user."""

    def __init__(self) -> None:
        self.changed = True
        """Whether there may have been a change since this was last set to False; at first there may."""
        self.closing = False
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """End the present wait, or the next one."""
        self._woken.set()

    async def wait(self, seconds: float) -> None:
        """Return when woken, at the latest after so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return
        self._woken.clear()


class LiveUsers:
    """Wakes followers when their user's state changes in Redis or in this process.

    While Redis is away followers learn only of what this process is told; when it is back they look again.
    """

    def __init__(self, store: AsyncStore) -> None:
        self._store = store
        self._followers: dict[str, set[Follower]] = {}
        self._watch: UserWatch | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def n_followers(self) -> int:
        return sum(map(len, self._followers.values()))

    def start(self) -> None:
        self._task = asyncio.create_task(lasting(self._run))

    def close(self) -> None:
        """Tell every follower to end; there will be no new ones."""
        self._closing = True
        for followers in self._followers.values():
            for follower in followers:
                follower.closing = True
                follower.wake()

    async def aclose(self) -> None:
        self.close()
        if self._task is not None:
            await stop(self._task)

    @contextmanager
    def following(self, user_id: str) -> Iterator[Follower]:
        """Follow a user for as long as the block."""
        follower = Follower()
        follower.closing = self._closing
        self._followers.setdefault(user_id, set()).add(follower)
        try:
            yield follower
        finally:
            others = self._followers[user_id]
            others.discard(follower)
            if not others:
                del self._followers[user_id]
                if self._watch is not None:
                    self._watch.discard(user_id)

    async def watch(self, user_id: str) -> None:
        """From the return of this on, the next change of the user's state is told."""
        if self._watch is not None:
            try:
                await self._watch.add(user_id)
            except StoreUnavailableError as error:
                _log.debug("a user is not watched: %s", error)  # `_run` knows, and wakes all when it is back

    def changed(self, user_id: str | None) -> None:
        """Wake the user's followers, or all."""
        waiting = self._followers.values() if user_id is None else (self._followers.get(user_id, ()),)
        for followers in waiting:
            for follower in followers:
                follower.changed = True
                follower.wake()

    async def _run(self) -> None:
        while True:
            watch = self._store.watch_users(self.changed)
            try:
                await watch.open()
                self._watch = watch
                self.changed(None)
                await watch.lost()
            except StoreUnavailableError as error:
                if self._watch is not None:
                    _log.warning("users with live lists are not watched: %s", error)
            finally:
                self._watch = None
                await watch.aclose()
            await asyncio.sleep(_RETRY_S)
