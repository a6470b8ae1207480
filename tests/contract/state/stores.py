"""Both stores, and what the tests of their contract put into them."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from state.records import CleanEvent, UserProfile
from state.store import AsyncStore, Store, TableChanges


@dataclass
class Stores:
    """Both sides of one store."""

    flow: Store
    serving: AsyncStore


def profile(ts: int) -> UserProfile:
    return UserProfile(last_ts=ts)


def event(event_id: str, ts: int = 1, user_id: str = "u") -> CleanEvent:
    return CleanEvent(event_id, "like", user_id, "i", ts, context={"n": 1})


async def next_change(changes: AsyncIterator[TableChanges]) -> TableChanges:
    """Return the next that is not an idle tick."""
    async with asyncio.timeout(10):
        while True:
            change = await anext(changes)
            if change.rows or change.complete:
                return change
