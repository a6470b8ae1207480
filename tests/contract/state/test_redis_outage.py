"""What the Redis store does when its server goes away and comes back."""

import uuid
from collections.abc import Iterator
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path

import pytest

from ops.stack import redis_server
from ops.stack.children import Child, free_ports
from state.entries import CATALOGUE, OVERLAY, USER_PROFILE
from state.records import CleanEvent, Item, UserProfile, Watermark
from state.redis_store import AsyncRedisStore, RedisStore
from state.settings import Settings
from state.store import Changes, StoreUnavailableError

_START = timedelta(seconds=60)


class Server:
    """A Redis that a test can kill and start again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (self._port,) = free_ports(1)
        self.settings = Settings.model_validate(
            {
                "redis_url": f"redis://127.0.0.1:{self._port}/0",
                "namespace": f"t-{uuid.uuid4().hex[:12]}",
                "request_budget_ms": 60_000,  # a busy machine is not a server that does not answer
            }
        )
        self.start()

    def start(self) -> None:
        """Start and wait until it answers."""
        command = redis_server.command(self._folder, self._port)
        self._child = Child("redis", command, self._folder / "redis.log")
        self._child.__enter__()
        self._child.wait_until(lambda: redis_server.answers(self.settings.redis_url), _START)

    def kill(self) -> None:
        self._child.kill()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.kill()


def one_of_each() -> Changes:
    changes = Changes()
    changes.put(USER_PROFILE, "u", UserProfile(last_ts=1))
    changes.upsert(CATALOGUE, "i", Item(item_id="i"))
    changes.settle("u", "e")
    changes.advance("features", "clean", 0, Watermark(5, 10))
    return changes


def test_a_commit_fails_loudly_without_a_server_and_succeeds_when_it_is_back(server: Server) -> None:
    """R23"""
    store = RedisStore(server.settings)
    store.commit(one_of_each())
    server.kill()
    for call in (
        lambda: store.commit(one_of_each()),
        lambda: store.get_many(USER_PROFILE, ["u"]),
        lambda: store.get_rows(CATALOGUE, ["i"]),
        lambda: list(store.scan_rows(CATALOGUE)),
        lambda: store.watermarks("features"),
    ):
        with pytest.raises(StoreUnavailableError):
            call()
    server.start()
    store.commit(one_of_each())
    assert store.watermarks("features") == {("clean", 0): Watermark(5, 10)}
    assert dict(store.scan_rows(CATALOGUE)) == {"i": Item(item_id="i")}


async def test_every_read_of_serving_fails_fast_without_a_server(server: Server) -> None:
    """R10"""
    store = AsyncRedisStore(server.settings)
    await store.ping()
    server.kill()
    event = CleanEvent("e", "like", "u", "i", 1)
    for call in (
        lambda: store.user_state("u", "s"),
        lambda: store.get(USER_PROFILE, "u"),
        lambda: store.get_rows(CATALOGUE, ["i"]),
        lambda: store.add_overlay(event),
        lambda: store.watermarks("features"),
        store.ping,
    ):
        with pytest.raises(StoreUnavailableError):
            await call()
    server.start()
    await store.add_overlay(event)
    assert (await store.user_state("u")).pending == [event]
    await store.aclose()


async def test_a_follower_fails_with_the_server_and_loads_everything_when_it_is_back(server: Server) -> None:
    """R31"""
    store = AsyncRedisStore(server.settings)
    flow = RedisStore(server.settings)
    flow.commit(one_of_each())
    async with aclosing(store.follow([CATALOGUE])) as changes:
        assert (await anext(changes)).complete
        server.kill()
        with pytest.raises(StoreUnavailableError):
            await anext(changes)
    with pytest.raises(StoreUnavailableError):
        await anext(store.follow([CATALOGUE]))
    server.start()
    flow.commit(one_of_each())
    async with aclosing(store.follow([CATALOGUE])) as changes:
        loaded = await anext(changes)
        assert loaded.complete
        assert loaded.rows[CATALOGUE] == {"i": Item(item_id="i")}
    await store.aclose()


def test_a_server_that_is_full_takes_no_writes_and_says_so(server: Server) -> None:
    store = RedisStore(server.settings)
    store._redis.config_set("maxmemory", "1mb")
    with pytest.raises(StoreUnavailableError):
        store.commit(one_of_each())


def test_what_has_a_lifetime_expires(server: Server) -> None:
    store = RedisStore(server.settings)
    store.commit(one_of_each())
    key = f"{server.settings.namespace}:{USER_PROFILE.key('u')}"
    assert 0 < store._redis.ttl(key) <= USER_PROFILE.ttl.total_seconds()
    assert OVERLAY.ttl > timedelta(0)


def test_the_feed_of_changes_is_bounded(server: Server) -> None:
    """Entries older than the retention go with the next commit (Redis trims whole nodes, so approximately)."""
    store = RedisStore(server.settings)
    feed = f"{server.settings.namespace}:v1:feed:catalogue"
    with store._redis.pipeline(transaction=False) as pipeline:
        for number in range(1, 2001):
            pipeline.xadd(feed, {"changed": b"\x80"}, id=f"{number}-0")
        pipeline.execute()
    store.commit(one_of_each())
    assert store._redis.xlen(feed) < 300
