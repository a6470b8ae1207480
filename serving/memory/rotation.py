"""What users were shown by lists that rotate, in Redis: such a list reads it, and adds itself after its answer."""

import asyncio
import logging
from collections.abc import Sequence

from serving.memory.breaker import Breaker
from state.entries import SHOWN
from state.records import Shown
from state.store import AsyncStore, StoreUnavailableError

MAX_SHOWN = 500
"""Items remembered of a user, the newest."""
_log = logging.getLogger("serving")


class Rotation:
    """Reads and writes what was shown. Two lists of one user at the same moment may know nothing of each other."""

    def __init__(self, store: AsyncStore, breaker: Breaker) -> None:
        self._store = store
        self._breaker = breaker
        self._writes: set[asyncio.Task[None]] = set()

    async def read(self, user_id: str) -> Shown:
        """Raise `StoreUnavailableError`."""
        return await self._breaker.call(lambda: self._store.get(SHOWN, user_id)) or Shown()

    def add(self, user_id: str, before: Shown, item_ids: Sequence[str], now_ms: int) -> None:
        """Write soon that these were shown, too."""
        task = asyncio.get_running_loop().create_task(self._write(user_id, with_shown(before, item_ids, now_ms)))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def settle(self) -> None:
        """Wait for what is being written."""
        await asyncio.gather(*self._writes)

    async def _write(self, user_id: str, shown: Shown) -> None:
        try:
            await self._breaker.call(lambda: self._store.put(SHOWN, user_id, shown))
        except StoreUnavailableError as error:
            _log.warning("what a list has shown is not remembered: %s", error)


def with_shown(before: Shown, item_ids: Sequence[str], now_ms: int) -> Shown:
    """Return what was shown after these were, too."""
    times = dict(zip(before.items, before.times, strict=True))
    for item_id in item_ids:
        times.pop(item_id, None)
        times[item_id] = now_ms
    newest = list(times.items())[-MAX_SHOWN:]
    return Shown([item_id for item_id, _ in newest], [ts for _, ts in newest])
