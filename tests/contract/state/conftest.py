"""A fresh system on each kind of store."""

import uuid
from collections.abc import AsyncIterator, Callable

import pytest

from state.memory_store import AsyncMemoryStore, MemoryStore
from state.redis_store import AsyncRedisStore, RedisStore
from state.settings import Settings
from state.store import AsyncStore
from tests.contract.state.stores import Stores


@pytest.fixture(params=["memory", "redis", "cluster"])
async def new_stores(request: pytest.FixtureRequest) -> AsyncIterator[Callable[[], Stores]]:
    """A function that returns the stores of a fresh system on the same server."""
    made: list[AsyncStore] = []

    def make() -> Stores:
        if request.param == "memory":
            memory = MemoryStore()
            stores = Stores(memory, AsyncMemoryStore(memory))
        else:
            url = request.getfixturevalue("redis_url" if request.param == "redis" else "redis_cluster")
            settings = Settings.model_validate({"redis_url": url, "namespace": f"t-{uuid.uuid4().hex[:12]}"})
            stores = Stores(RedisStore(settings), AsyncRedisStore(settings, timeout_s=5))
        made.append(stores.serving)
        return stores

    yield make
    for serving in made:
        await serving.aclose()


@pytest.fixture
def stores(new_stores: Callable[[], Stores]) -> Stores:
    return new_stores()
