"""What only the store in memory has to get right; its contract is tested with Redis' in tests/contract/state."""

import asyncio

import pytest

from ops.memory_log import MemoryLog
from state.entries import CATALOGUE
from state.memory_store import AsyncMemoryStore, MemoryStore
from state.records import Item
from state.store import Changes
from state.topics import EVENTS


async def test_a_follower_that_is_cancelled_ends_though_a_change_comes_at_the_same_time() -> None:
    """Otherwise a process that is to stop goes on for ever."""
    store = MemoryStore()
    loaded = asyncio.Event()

    async def follow() -> None:
        async for _ in AsyncMemoryStore(store).follow([CATALOGUE]):
            loaded.set()

    following = asyncio.create_task(follow())
    await loaded.wait()
    await asyncio.sleep(0)
    changes = Changes()
    changes.upsert(CATALOGUE, "m1", Item(item_id="m1"))
    store.commit(changes)
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(following, 30)


async def test_a_reader_of_the_log_that_is_cancelled_ends_though_a_message_comes_at_the_same_time() -> None:
    log = MemoryLog()
    waiting = asyncio.create_task(log.wait(60))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    log.append(EVENTS, b"u1", b"{}")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
