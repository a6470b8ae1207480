"""A simulated shop whose models have learned its history, as a system that answers.

The ranker is as it ships: a user's steps are drawn independently of each other here, so that what it would learn of a
like is not what it learns from real logs.
"""

from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

from falcon import testing

from online_models.learning import rows
from online_models.learning.learner import Learner
from online_models.users.profiles import apply_event
from ops.traffic.simulator import World
from state.entries import CATALOGUE, USER_PROFILE
from state.records import CleanEvent, Event, UserProfile, Watermark
from state.store import Changes
from tests.unit.serving.system import System

N_ITEMS, N_USERS, N_EVENTS = 400, 200, 12_000
NOW_MS = 1_750_000_000_000


@cache
def world() -> World:
    """Return the truth about the shop; it matters on what people look."""
    return World(N_ITEMS, N_USERS, seed=4, device_weight=4.0)


@cache
def learned() -> Changes:
    """Return all rows after the history."""
    learner, changes = Learner(organic_share=0.0, replay_share=0.0), Changes()
    for item in world().items():
        learner.learn_item(item.item_id, item)
        changes.upsert(CATALOGUE, item.item_id, item)
    genres = {item.item_id: item.genres for item in world().items()}
    profiles: defaultdict[str, UserProfile] = defaultdict(UserProfile)
    events = [_clean(event) for event in world().history(N_EVENTS, NOW_MS)]
    learner.learn_events(events)
    rows.write(learner, changes)
    changes.advance("features", "clean", 0, Watermark(1, NOW_MS, NOW_MS), after=None)
    for event in events:
        apply_event(profiles[event.user_id], event, genres[event.item_id or ""])
    for user, profile in profiles.items():
        changes.put(USER_PROFILE, user, profile)
    return changes


@asynccontextmanager
async def opened(home: Path) -> AsyncIterator[System]:
    """Serve the shop."""
    system = System(home)
    system.flows.commit(learned())
    async with testing.ASGIConductor(system.app) as conductor:
        system.client = conductor
        while (await system.call("GET", "/health/ready"))[0] != 200:
            pass
        yield system


def _clean(event: Event) -> CleanEvent:
    return CleanEvent(
        event.event_id, event.type, event.user_id, event.item_id, event.ts, value=event.value, context=event.context
    )
