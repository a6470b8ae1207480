"""What only the store in memory has to get right; its contract is tested with Redis' in tests/contract/state."""

import asyncio

import pytest

from state.entries import CATALOGUE
from state.memory_store import AsyncMemoryStore, MemoryStore
from state.records import Item
from state.store import Changes


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
