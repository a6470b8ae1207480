"""A circuit breaker: who knows that Redis is gone does not wait for it again."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from serving.memory.tasks import stop
from state.store import StoreUnavailableError

T = TypeVar("T")
_TOLERATED_FAILURES = 3
_FIRST_PROBE_S = 0.02
_LONGEST_PAUSE_S = 0.5
_log = logging.getLogger("serving")


class Breaker:
    """Closed, it lets calls through. A few failures in a row open it; then a background probe closes it again.

    Parameters
    ----------
    probe
        Asks the part for a sign of life; raises `StoreUnavailableError`.
    on_close
        Awaited each time the part has come back, before calls are let through.
    """

    def __init__(
        self, probe: Callable[[], Awaitable[None]], on_close: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self._probe = probe
        self._on_close = on_close
        self._failures = 0
        self._probing: asyncio.Task[None] | None = None

    @property
    def closed(self) -> bool:
        return self._probing is None

    async def call(self, function: Callable[[], Awaitable[T]]) -> T:
        """Await the call. Raise `StoreUnavailableError`: its own, or at once while open."""
        if self._probing is not None:
            raise StoreUnavailableError("it did not answer a moment ago")
        before = self._failures
        try:
            answer = await function()
        except (StoreUnavailableError, asyncio.CancelledError):
            # A cancelled call is one that its stage gave up on. Calls that waited together failed of one cause.
            self._failures = max(self._failures, before + 1)
            if self._failures >= _TOLERATED_FAILURES and self._probing is None:
                _log.warning("the store does not answer: going on without it")
                self._probing = asyncio.create_task(self._probe_until_back())
            raise
        self._failures = 0
        return answer

    async def _probe_until_back(self) -> None:
        pause_s = _FIRST_PROBE_S
        while True:
            await asyncio.sleep(pause_s)
            try:
                await self._probe()
                if self._on_close is not None:
                    await self._on_close()
                break
            except StoreUnavailableError:
                pass  # still away
            except Exception:
                # A bug here must not keep the store away for ever.
                _log.exception("asking whether the store is back failed")
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        self._failures = 0
        self._probing = None
        _log.warning("the store answers again")

    async def aclose(self) -> None:
        if self._probing is not None:
            await stop(self._probing)
