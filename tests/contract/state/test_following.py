"""One contract for both stores: who follows them is told what changes, of tables and of users."""

import asyncio
from contextlib import aclosing

from state.entries import CATALOGUE, ITEM_ACTIVITY, USER_PROFILE
from state.records import Activity, Item
from state.store import Changes, TableChanges
from tests.contract.state.stores import Stores, event, next_change, profile


async def test_followers_get_one_complete_load_then_changes(stores: Stores) -> None:
    before = Changes()
    for number in range(2500):
        before.upsert(CATALOGUE, f"i{number}", Item(item_id=f"i{number}"))
    stores.flow.commit(before)
    async with aclosing(stores.serving.follow([CATALOGUE, ITEM_ACTIVITY])) as changes:
        loaded = await anext(changes)
        assert loaded.complete
        assert len(loaded.rows[CATALOGUE]) == 2500
        assert loaded.rows[ITEM_ACTIVITY] == {}
        commit = Changes()
        commit.upsert(CATALOGUE, "i1", Item(item_id="i1", title="new"))
        commit.remove(CATALOGUE, "i2")
        commit.upsert(CATALOGUE, "{id}", Item(item_id="{id}"))
        stores.flow.commit(commit)
        change = await next_change(changes)
        assert not change.complete
        assert change.rows == {
            CATALOGUE: {"i1": Item(item_id="i1", title="new"), "i2": None, "{id}": Item(item_id="{id}")}
        }
        activity = Changes()
        activity.upsert(ITEM_ACTIVITY, "0:i1", Activity(counts={"click": 1}))
        stores.flow.commit(activity)
        change = await next_change(changes)
        assert change.rows == {ITEM_ACTIVITY: {"0:i1": Activity(counts={"click": 1})}}


async def test_who_loads_the_same_rows_gets_them_in_the_same_order(stores: Stores) -> None:
    """R13: the order numbers the items, and lists depend on it; a hash that grew and shrank scans in another order."""
    for names in (range(600), range(0, 600, 2), range(40)):
        changes = Changes()
        for number in names:
            changes.upsert(CATALOGUE, f"i{number}", Item(item_id=f"i{number}"))
        stores.flow.commit(changes)
    shrunk = Changes()
    for number in range(40, 590):
        shrunk.remove(CATALOGUE, f"i{number}")
    stores.flow.commit(shrunk)
    scanned = [name for name, _ in stores.flow.scan_rows(CATALOGUE)]
    async with aclosing(stores.serving.follow([CATALOGUE])) as loads:
        assert list((await anext(loads)).rows[CATALOGUE]) == scanned
    assert scanned == sorted(scanned, key=lambda name: (CATALOGUE.bucket(name), name))


async def test_followers_miss_nothing_while_they_are_busy(stores: Stores) -> None:
    async with aclosing(stores.serving.follow([CATALOGUE])) as changes:
        await anext(changes)
        for number in range(20):
            commit = Changes()
            commit.upsert(CATALOGUE, f"i{number % 7}", Item(item_id=f"i{number % 7}", price=float(number)))
            commit.upsert(ITEM_ACTIVITY, f"0:i{number}", Activity())  # not followed
            stores.flow.commit(commit)
        seen: dict[str, Item] = {}
        while seen != dict(stores.flow.scan_rows(CATALOGUE)):
            change = await next_change(changes)
            assert set(change.rows) <= {CATALOGUE}
            seen.update(change.rows[CATALOGUE])


async def test_an_idle_follower_is_woken_at_least_every_second(stores: Stores) -> None:
    async with aclosing(stores.serving.follow([CATALOGUE])) as changes:
        await anext(changes)
        for _ in range(2):
            async with asyncio.timeout(1.5):
                assert await anext(changes) == TableChanges({})


async def test_following_anew_begins_with_a_complete_load(stores: Stores) -> None:
    for number in range(2):
        commit = Changes()
        commit.upsert(CATALOGUE, f"i{number}", Item(item_id=f"i{number}"))
        stores.flow.commit(commit)
        async with aclosing(stores.serving.follow([CATALOGUE])) as changes:
            loaded = await anext(changes)
            assert loaded.complete
            assert len(loaded.rows[CATALOGUE]) == number + 1


async def test_several_followers_each_get_every_change(stores: Stores) -> None:
    async with (
        aclosing(stores.serving.follow([CATALOGUE])) as one,
        aclosing(stores.serving.follow([CATALOGUE])) as other,
    ):
        await anext(one)
        await anext(other)
        commit = Changes()
        commit.upsert(CATALOGUE, "i", Item(item_id="i"))
        stores.flow.commit(commit)
        assert (await next_change(one)).rows == (await next_change(other)).rows == {CATALOGUE: {"i": Item(item_id="i")}}


async def test_a_watch_tells_once_of_each_write_of_the_users_it_was_given(stores: Stores) -> None:
    """R6: whoever writes, the overlay or the profile."""
    told: asyncio.Queue[str | None] = asyncio.Queue()
    watch = stores.serving.watch_users(told.put_nowait)
    await watch.open()
    try:
        for user_id in ("u", "ü {id}"):
            await watch.add(user_id)
        changes = Changes()
        changes.put(USER_PROFILE, "other", profile(1))
        changes.put(USER_PROFILE, "ü {id}", profile(1))
        stores.flow.commit(changes)
        async with asyncio.timeout(5):
            assert await told.get() == "ü {id}"
        for n in range(3):
            await stores.serving.add_overlay(event(f"e{n}"))
        async with asyncio.timeout(5):
            assert await told.get() == "u"
        await watch.add("u")
        changes = Changes()
        changes.settle("u", "e0")
        stores.flow.commit(changes)
        async with asyncio.timeout(5):
            assert await told.get() == "u"
        await watch.add("u")
        watch.discard("u")
        await watch.add("ü {id}")
        await stores.serving.add_overlay(event("e9"), event("e9", user_id="ü {id}"))
        async with asyncio.timeout(5):
            assert await told.get() == "ü {id}"
        assert told.empty()
    finally:
        await watch.aclose()
