"""One contract for both stores, in memory and over Redis, synchronous and asynchronous side."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing

import msgspec
import pytest

from state.control import ControlDocument, version_field
from state.entries import (
    CATALOGUE,
    CONTROL,
    CONTROL_HISTORY,
    ITEM_ACTIVITY,
    METRIC_WINDOWS,
    SESSION,
    SHOWN,
    USER_PROFILE,
    metric_window_id,
)
from state.records import Activity, Item, MetricWindow, SessionProfile, Shown, Watermark
from state.store import Changes, StateLostError, TableChanges
from tests.contract.state.stores import Stores, event, next_change, profile

ODD_IDS = ("plain", "{id}", "a:b", "v1:user:x:profile", "ünï", "0", "a b", "{tag}x", "*")


async def test_an_empty_store_has_nothing(stores: Stores) -> None:
    assert stores.flow.get_many(USER_PROFILE, []) == []
    assert stores.flow.get_many(USER_PROFILE, ["u"]) == [None]
    assert stores.flow.get_rows(CATALOGUE, []) == {}
    assert stores.flow.get_rows(CATALOGUE, ["i"]) == {}
    assert list(stores.flow.scan_rows(CATALOGUE)) == []
    assert stores.flow.watermarks("features") == {}
    state = await stores.serving.user_state("u", "s")
    assert (state.profile, state.pending, state.session) == (None, [], None)
    assert await stores.serving.get(USER_PROFILE, "u") is None
    assert await stores.serving.get_rows(CATALOGUE, []) == {}
    assert await stores.serving.watermarks("features") == {}
    await stores.serving.ping()


async def test_entries_are_read_in_the_order_asked_for(stores: Stores) -> None:
    changes = Changes()
    for number, user in enumerate(ODD_IDS):
        changes.put(USER_PROFILE, user, profile(number))
    stores.flow.commit(changes)
    asked = [*reversed(ODD_IDS), "nobody", ODD_IDS[0]]
    found = stores.flow.get_many(USER_PROFILE, asked)
    assert [p and p.last_ts for p in found] == [*reversed(range(len(ODD_IDS))), None, 0]
    for number, user in enumerate(ODD_IDS):
        assert (await stores.serving.get(USER_PROFILE, user)) == profile(number)


async def test_serving_reads_many_entries_too(stores: Stores) -> None:
    changes = Changes()
    window = MetricWindow(final=True, sums={"surface=home": {"slates": 3}})
    for start in (1, 2):
        changes.put(METRIC_WINDOWS[60_000], metric_window_id("slates", start, 0), window)
    stores.flow.commit(changes)
    asked = [metric_window_id("slates", start, 0) for start in (2, 9, 1)]
    assert await stores.serving.get_many(METRIC_WINDOWS[60_000], asked) == [window, None, window]
    assert await stores.serving.get_many(METRIC_WINDOWS[60_000], []) == []


async def test_rows_are_read_by_name_and_scanned_once_each(stores: Stores) -> None:
    names = [*ODD_IDS, *(f"item-{n}" for n in range(3000))]
    changes = Changes()
    for number, name in enumerate(names):
        changes.upsert(CATALOGUE, name, Item(item_id=name, price=float(number)))
    changes.upsert(ITEM_ACTIVITY, "0:{id}", Activity(counts={"click": 2**53}))
    stores.flow.commit(changes)
    assert set(stores.flow.get_rows(CATALOGUE, [*ODD_IDS, "missing"])) == set(ODD_IDS)
    assert (await stores.serving.get_rows(CATALOGUE, ["{id}"]))["{id}"].price == 1.0
    scanned = list(stores.flow.scan_rows(CATALOGUE))
    assert len(scanned) == len(names)
    assert {name: item.price for name, item in scanned} == {name: float(n) for n, name in enumerate(names)}
    assert dict(stores.flow.scan_rows(ITEM_ACTIVITY)) == {"0:{id}": Activity(counts={"click": 2**53})}


async def test_a_later_commit_replaces_and_removes(stores: Stores) -> None:
    first = Changes()
    first.put(USER_PROFILE, "u", profile(1))
    first.put(USER_PROFILE, "gone", profile(1))
    first.upsert(CATALOGUE, "i", Item(item_id="i", title="old"))
    first.upsert(CATALOGUE, "gone", Item(item_id="gone"))
    stores.flow.commit(first)
    second = Changes()
    second.put(USER_PROFILE, "u", profile(2))
    second.delete(USER_PROFILE, "gone")
    second.upsert(CATALOGUE, "i", Item(item_id="i", title="new"))
    second.remove(CATALOGUE, "gone")
    second.remove(CATALOGUE, "never was")
    stores.flow.commit(second)
    assert stores.flow.get_many(USER_PROFILE, ["u", "gone"]) == [profile(2), None]
    assert [item.title for _, item in stores.flow.scan_rows(CATALOGUE)] == ["new"]


async def test_committing_again_changes_nothing(stores: Stores) -> None:
    """R23: what may or may not have been written can be written again."""
    await stores.serving.add_overlay(event("applied"))
    changes = Changes()
    changes.put(USER_PROFILE, "u", profile(1))
    changes.upsert(CATALOGUE, "i", Item(item_id="i"))
    changes.settle("u", "applied")
    changes.advance("features", "clean", 0, Watermark(5, 10))
    assert changes
    for _ in range(3):
        stores.flow.commit(changes)
        assert stores.flow.get_many(USER_PROFILE, ["u"]) == [profile(1)]
        assert dict(stores.flow.scan_rows(CATALOGUE)) == {"i": Item(item_id="i")}
        assert stores.flow.watermarks("features") == {("clean", 0): Watermark(5, 10)}
        assert (await stores.serving.user_state("u")).pending == []


async def test_no_changes_can_be_committed(stores: Stores) -> None:
    assert not Changes()
    stores.flow.commit(Changes())


async def test_a_commit_that_cannot_be_encoded_writes_nothing(stores: Stores) -> None:
    changes = Changes()
    changes.put(USER_PROFILE, "u", profile(1))
    changes.upsert(CATALOGUE, "i", Item(item_id="i"))
    changes.upsert(CATALOGUE, "broken", Item(item_id="broken", attributes={"too big": 2**70}))
    changes.advance("features", "clean", 0, Watermark(5, 10))
    with pytest.raises(OverflowError):
        stores.flow.commit(changes)
    assert stores.flow.get_many(USER_PROFILE, ["u"]) == [None]
    assert list(stores.flow.scan_rows(CATALOGUE)) == []
    assert stores.flow.watermarks("features") == {}


async def test_watermarks_are_kept_per_flow_topic_and_partition(stores: Stores) -> None:
    changes = Changes()
    changes.advance("features", "freshet.t:1.clean", 0, Watermark(1, 2, 3))
    changes.advance("features", "freshet.t:1.clean", 11, Watermark(2**62, 2**53))
    changes.advance("learn", "freshet.examples", 0, Watermark(7, 8))
    stores.flow.commit(changes)
    later = Changes()
    later.advance("features", "freshet.t:1.clean", 0, Watermark(4, 5, 6), after=Watermark(1, 2, 3))
    stores.flow.commit(later)
    expected = {
        ("freshet.t:1.clean", 0): Watermark(4, 5, 6),
        ("freshet.t:1.clean", 11): Watermark(2**62, 2**53),
    }
    assert stores.flow.watermarks("features") == expected
    assert await stores.serving.watermarks("features") == expected
    assert stores.flow.watermarks("learn") == {("freshet.examples", 0): Watermark(7, 8)}


@pytest.mark.parametrize("after", [None, Watermark(4, 10), Watermark(5, 11)])
async def test_a_commit_that_does_not_follow_on_what_is_stored_writes_nothing(
    stores: Stores, after: Watermark | None
) -> None:
    """R23: a store that was emptied, went back, or has another writer is noticed."""
    first = Changes()
    first.advance("features", "clean", 0, Watermark(5, 10))
    stores.flow.commit(first)
    second = Changes()
    second.put(USER_PROFILE, "u", profile(1))
    second.upsert(CATALOGUE, "i", Item(item_id="i"))
    second.advance("features", "clean", 0, Watermark(9, 10), after=after)
    with pytest.raises(StateLostError, match=r"features clean\[0\]: expected .*next_offset=5"):
        stores.flow.commit(second)
    assert stores.flow.get_many(USER_PROFILE, ["u"]) == [None]
    assert list(stores.flow.scan_rows(CATALOGUE)) == []
    assert stores.flow.watermarks("features") == {("clean", 0): Watermark(5, 10)}


async def test_feedback_is_pending_until_it_is_settled(stores: Stores) -> None:
    """R5: the very next read sees the feedback."""
    await stores.serving.add_overlay(event("late", 30))
    await stores.serving.add_overlay(event("b", 10), event("of another", 10, "v"), event("a", 10))
    await stores.serving.add_overlay(event("other", user_id="u:overlay"))
    assert [e.event_id for e in (await stores.serving.user_state("u")).pending] == ["a", "b", "late"]
    changes = Changes()
    changes.put(USER_PROFILE, "u", profile(10))
    changes.put(SESSION, "s", SessionProfile("u"))
    changes.settle("u", "a")
    changes.settle("u", "late")
    changes.settle("nobody", "x")
    stores.flow.commit(changes)
    state = await stores.serving.user_state("u", "s")
    assert state.profile == profile(10)
    assert state.pending == [event("b", 10)]
    assert state.session == SessionProfile("u")
    assert (await stores.serving.user_state("u")).session is None


async def test_adding_feedback_twice_keeps_it_once(stores: Stores) -> None:
    for _ in range(2):
        await stores.serving.add_overlay(event("e"))
    assert (await stores.serving.user_state("u")).pending == [event("e")]


async def test_namespaces_are_apart(new_stores: Callable[[], Stores]) -> None:
    ours, theirs = new_stores(), new_stores()
    async with aclosing(theirs.serving.follow([CATALOGUE])) as changes:
        await anext(changes)
        commit = Changes()
        commit.put(USER_PROFILE, "u", profile(1))
        commit.upsert(CATALOGUE, "i", Item(item_id="i"))
        commit.advance("features", "clean", 0, Watermark(1, 2))
        ours.flow.commit(commit)
        await ours.serving.add_overlay(event("e"))
        assert theirs.flow.get_many(USER_PROFILE, ["u"]) == [None]
        assert list(theirs.flow.scan_rows(CATALOGUE)) == []
        assert theirs.flow.watermarks("features") == {}
        assert (await theirs.serving.user_state("u")).pending == []
        assert await anext(changes) == TableChanges({})


@pytest.mark.parametrize("user_id", ODD_IDS)
async def test_what_serving_puts_it_gets_until_a_flow_deletes_it(stores: Stores, user_id: str) -> None:
    """R4, R27"""
    assert await stores.serving.get(SHOWN, user_id) is None
    for shown in (Shown(["a"], [1]), Shown(["a", "b"], [1, 2])):
        await stores.serving.put(SHOWN, user_id, shown)
        assert await stores.serving.get(SHOWN, user_id) == shown
    changes = Changes()
    changes.delete(SHOWN, user_id)
    stores.flow.commit(changes)
    assert await stores.serving.get(SHOWN, user_id) is None


def a_document(version: int) -> ControlDocument:
    return ControlDocument("rules", version, b"{}", "anna", version)


async def test_of_writers_of_one_version_of_a_document_one_succeeds(stores: Stores) -> None:
    """R9: compare-and-set; what was written is followed, and in the history."""
    async with aclosing(stores.serving.follow((CONTROL,))) as changes:
        assert (await anext(changes)).complete
        assert not await stores.serving.replace_document(a_document(2), before=1)
        written = await asyncio.gather(
            *(stores.serving.replace_document(a_document(n), before=None) for n in range(10, 20))
        )
        assert sum(written) == 1
        (row,) = (await next_change(changes)).rows[CONTROL].values()
        assert row == a_document(10 + written.index(True))
        assert await stores.serving.replace_document(a_document(99), before=row.version)
        assert (await next_change(changes)).rows == {CONTROL: {"rules": a_document(99)}}
        assert not stores.flow.replace_document(a_document(100), before=row.version)
        assert stores.flow.replace_document(a_document(100), before=99)
        assert (await next_change(changes)).rows == {CONTROL: {"rules": a_document(100)}}
    history = await stores.serving.get_rows(CONTROL_HISTORY, [version_field("rules", n) for n in range(101)])
    assert [document.version for document in history.values()] == [row.version, 99, 100]
    assert stores.flow.get_rows(CONTROL, ["rules"]) == {"rules": a_document(100)}
    other = msgspec.structs.replace(a_document(99), body=b'{"near_duplicates":null}')
    await stores.serving.rewrite_history([other])
    assert await stores.serving.get_rows(CONTROL_HISTORY, ["rules/99", "rules/100"]) == {
        "rules/99": other,
        "rules/100": a_document(100),
    }
    assert stores.flow.get_rows(CONTROL, ["rules"]) == {"rules": a_document(100)}
