"""Ending tasks that run beside requests."""

import asyncio

_AGAIN_S = 0.1


async def stop(*tasks: asyncio.Task[None]) -> None:
    """Cancel until all have ended: `asyncio.wait_for` of Python 3.11, which redis-py uses, may swallow one request."""
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=_AGAIN_S)
