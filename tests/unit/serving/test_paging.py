"""Pages of one request."""

from typing import Any

import pytest

from serving.contract import cursors
from serving.pipelines import lists
from state.entries import CATALOGUE
from state.records import Item
from state.store import Changes
from tests.unit.serving.system import System

HOME = "/v1/users/u1/recommendations"


async def pages(system: System, path: str, limit: int, **params: Any) -> list[list[str]]:
    found = []
    cursor: str | None = ""
    while cursor is not None:
        status, answer = await system.call("GET", path, limit=limit, **params, **({"page": cursor} if cursor else {}))
        assert status == 200, answer
        found.append([item["item_id"] for item in answer["items"]])
        cursor = answer["next"]
    return found


@pytest.mark.parametrize("path", [HOME, "/v1/popular", "/v1/trending", "/v1/items/m1/similar"])
async def test_pages_have_every_item_once(system: System, path: str) -> None:
    """R4"""
    chain = await pages(system, path, 7)
    shown = [item_id for page in chain for item_id in page]
    everything = {f"m{n}" for n in range(60)} - ({"m1"} if "similar" in path else set())
    assert sorted(shown) == sorted(everything)
    assert [len(page) for page in chain[:-1]] == [7] * (len(chain) - 1)


async def test_pages_keep_to_the_filter_and_end_with_it(system: System) -> None:
    """R3, R4"""
    chain = await pages(system, HOME, 4, genre="War")
    assert [len(page) for page in chain] == [4, 4, 2]
    assert {item_id for page in chain for item_id in page} == {f"m{n}" for n in range(0, 60, 6)}


async def test_a_chain_is_hundreds_of_items_deep(system: System) -> None:
    """R4"""
    changes = Changes()
    for n in range(1500):
        changes.upsert(CATALOGUE, f"x{n}", Item(item_id=f"x{n}", genres=[f"G{n % 9}"]))
    system.flows.commit(changes)
    while (await system.call("GET", "/health/ready"))[1]["items"] < 1560:
        pass
    chain = await pages(system, HOME, 100)
    shown = [item_id for page in chain for item_id in page]
    assert len(shown) == len(set(shown)) == cursors.MAX_SHOWN + 100  # the last page is what the last cursor brings


async def test_what_is_hidden_between_two_pages_is_in_none_after(system: System) -> None:
    """R4, R5"""
    _, first = await system.call("GET", HOME, limit=10)
    _, second = await system.call("GET", HOME, limit=10, page=first["next"])
    hidden = [item["item_id"] for item in second["items"]][:3]
    for item_id in hidden:
        await system.call("POST", "/v1/users/u1/feedback", {"item_id": item_id, "type": "hide"})
    again = await system.ids("u1", limit=50, page=first["next"])
    assert not {*hidden, *(item["item_id"] for item in first["items"])} & set(again)
    assert len(again) == 47


async def test_pages_go_on_without_redis_and_in_another_worker(system: System, tmp_path: Any) -> None:
    """R4, R10: the cursor alone says what was shown."""
    _, first = await system.call("GET", HOME, limit=10)
    system.store.lost = True
    status, second = await system.call("GET", HOME, limit=100, page=first["next"])
    assert (status, len(second["items"])) == (200, 50)
    assert not {item["item_id"] for item in first["items"]} & {item["item_id"] for item in second["items"]}


async def test_a_cursor_is_valid_for_ten_minutes(system: System, monkeypatch: Any) -> None:
    """R4"""
    _, first = await system.call("GET", HOME, limit=10)
    now = lists.time.time()
    monkeypatch.setattr(lists.time, "time", lambda: now + cursors.LIFETIME_S - 1)
    assert (await system.call("GET", HOME, limit=10, page=first["next"]))[0] == 200
    monkeypatch.setattr(lists.time, "time", lambda: now + cursors.LIFETIME_S + 2)
    status, problem = await system.call("GET", HOME, limit=10, page=first["next"])
    assert (status, problem["field"]) == (400, "page")
    assert "expired" in problem["detail"]


async def test_a_cursor_continues_its_own_request_only(system: System) -> None:
    """R4"""
    _, first = await system.call("GET", HOME, limit=10, genre="Drama")
    cursor = first["next"]
    assert (await system.call("GET", HOME, limit=5, genre="Drama", page=cursor, explain="true"))[0] == 200
    for path, params in (
        (HOME, {"page": cursor}),
        (HOME, {"page": cursor, "genre": "War"}),
        ("/v1/users/u2/recommendations", {"page": cursor, "genre": "Drama"}),
        ("/v1/popular", {"page": cursor, "genre": "Drama"}),
        (HOME, {"page": cursor[:-9], "genre": "Drama"}),
        (HOME, {"page": "x", "genre": "Drama"}),
        (HOME, {"page": "ä ö", "genre": "Drama"}),
    ):
        status, problem = await system.call("GET", path, **params)
        assert (status, problem["field"]) == (400, "page")
        assert problem["allowed"]
