"""Tasks that run beside requests: kept up, and ended."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

_AGAIN_S = 0.1
_log = logging.getLogger("serving")


async def lasting(run: Callable[[], Awaitable[None]], rest_s: float = 1.0) -> None:
    """Run what never returns; again after a rest when it has failed: a bug must not end it while requests go on."""
    while True:
        try:
            await run()
        except Exception:
            _log.exception("%s failed", run.__qualname__)
        await asyncio.sleep(rest_s)


async def stop(*tasks: asyncio.Task[None]) -> None:
    """Cancel until all have ended: `asyncio.wait_for` of Python 3.11, which redis-py uses, may swallow one request."""
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=_AGAIN_S)
