"""Parameters that change scores, or what is told of an item."""

from typing import Any

import pytest

from serving.memory.rotation import MAX_SHOWN, with_shown
from serving.pipelines import lists
from state.entries import CATALOGUE, SHOWN
from state.records import Item, Shown, Watermark
from state.store import Changes
from tests.unit.serving.system import NOW_MS, System

HOME = "/v1/users/u1/recommendations"


@pytest.fixture
async def still(system: System) -> System:
    """Stream time stands still: the same request has the same scores."""
    changes = Changes()
    changes.advance("features", "clean", 0, Watermark(1, NOW_MS))
    system.flows.commit(changes)
    while (await system.call("GET", "/v1/popular"))[1]["state"]["stream_ts"] is None:
        pass
    return system


async def scores(system: System, path: str = HOME, **params: Any) -> dict[str, float]:
    status, answer = await system.call("GET", path, limit=60, **params)
    assert status == 200, answer
    return {item["item_id"]: item["score"] for item in answer["items"]}


async def test_a_booster_multiplies_scores_and_so_the_order(still: System) -> None:
    """R9"""
    before = await scores(still)
    boosted = await scores(still, booster="500 if genre=War, 0.5 if genre:any(G1,G2) and not genre=War")
    war = {f"m{n}" for n in range(0, 60, 6)}
    assert set(list(boosted)[:3]) <= war
    for item_id, score in boosted.items():
        number = int(item_id[1:])
        factor = 500 if item_id in war else 0.5 if number % 7 in (1, 2) else 1
        assert score == pytest.approx(factor * before[item_id], rel=1e-3)


async def test_min_relevance_leaves_out_what_is_far_behind_the_best(still: System) -> None:
    before = await scores(still)
    bound = sorted(before.values())[30]
    status, answer = await still.call("GET", HOME, limit=20, min_relevance=bound / max(before.values()))
    assert (status, answer["next"]) == (200, None)
    assert all(item["score"] >= bound * 0.999 for item in answer["items"])
    kept = await scores(still, min_relevance=bound / max(before.values()) * 0.999)
    assert set(kept) == {item_id for item_id, score in before.items() if score >= bound * 0.999}


async def test_rotation_puts_back_what_was_just_shown_and_lets_it_recover(still: System, monkeypatch: Any) -> None:
    """R4"""
    wishes = {"limit": 10, "rotation": 1, "rotation_time": 100}
    first = await still.ids("u1", **wishes)
    while await still.store.get(SHOWN, "u1") is None:
        await still.call("GET", "/health/live")
    second = await still.ids("u1", **wishes)
    assert not set(first) & set(second)
    assert await still.ids("u1", limit=10) == first  # a list that does not rotate
    assert await still.ids("u2", **wishes) == first  # another user
    before = await scores(still)
    wall = lists.time.time()
    monkeypatch.setattr(lists.time, "time", lambda: wall + 50)
    half = await scores(still, rotation=1, rotation_time=100)
    for item_id in first:
        assert half[item_id] == pytest.approx(before[item_id] / 2, rel=0.1)
    monkeypatch.setattr(lists.time, "time", lambda: wall + 300)
    assert list(await scores(still, rotation=1, rotation_time=100))[:10] == first


async def test_without_redis_a_list_does_not_rotate_and_says_so(system: System) -> None:
    """R10"""
    await system.ids("u1", rotation=1)
    system.store.lost = True
    _, answer = await system.call("GET", HOME, rotation=1)
    assert len(answer["items"]) == 20
    assert "rotation" in answer["degraded"]


def test_what_was_shown_is_bounded_and_newest_last() -> None:
    shown = with_shown(Shown(["a", "b"], [1, 2]), ["c", "a"], 9)
    assert shown == Shown(["b", "c", "a"], [2, 9, 9])
    many = with_shown(shown, [f"x{n}" for n in range(MAX_SHOWN - 1)], 10)
    assert (len(many.items), many.items[0]) == (MAX_SHOWN, "a")


async def test_fields_say_what_is_told_of_an_item(system: System) -> None:
    """R1"""
    changes = Changes()
    changes.upsert(CATALOGUE, "m1", Item(item_id="m1", title="One", price=3.0, tags=["x"], attributes={"a": 1}))
    system.flows.commit(changes)
    for fields in ("price,tags,attributes", "title"):
        wanted = {"item_id", "score", "sources", "reason", "position", *fields.split(",")}
        _, answer = await system.call("GET", "/v1/popular", limit=60, fields=fields)
        assert {frozenset(item) for item in answer["items"]} == {frozenset(wanted)}
    one = next(item for item in answer["items"] if item["item_id"] == "m1")
    assert one["title"] == "One"
    _, answer = await system.call("GET", "/v1/popular", limit=1)
    assert {"title", "genres", "release_date"} < set(answer["items"][0])


@pytest.mark.parametrize(
    ("path", "params", "field", "allowed"),
    [
        (HOME, {"booster": "genre=War"}, "booster", "if"),
        (HOME, {"booster": "much if genre=War"}, "booster", "0..1000"),
        (HOME, {"booster": "-1 if genre=War"}, "booster", "0..1000"),
        (HOME, {"booster": "nan if genre=War"}, "booster", "0..1000"),
        (HOME, {"booster": "2 if colour=red"}, "booster", "genre"),
        (HOME, {"booster": "2 if genre=War,"}, "booster", "a name or a value"),
        (HOME, {"min_relevance": 1.5}, "min_relevance", "0..1"),
        (HOME, {"rotation": 2}, "rotation", "0..1"),
        (HOME, {"rotation": "nan"}, "rotation", "0..1"),
        (HOME, {"rotation_time": 60}, "rotation_time", "rotation above 0"),
        (HOME, {"rotation": 1, "rotation_time": 0}, "rotation_time", "1..604800"),
        (HOME, {"price_min": -1}, "price_min", "0 or more"),
        (HOME, {"price_max": "cheap"}, "price_max", "0 or more"),
        (HOME, {"released_after": "199"}, "released_after", "1990-06"),
        (HOME, {"released_before": "2000-13"}, "released_before", "1990-06"),
        (HOME, {"released_before": "2000-01-32"}, "released_before", "1990-06-15"),
        (HOME, {"filter": "release_date>=2000-00"}, "filter", "YYYY-MM"),
        (HOME, {"window": "1h"}, "window", "with surface=trending"),
        (HOME, {"item": "m1"}, "item", "with surface=because"),
        (HOME, {"surface": "trending", "window": "2h"}, "window", "1h"),
        (HOME, {"exclude": ",".join(f"m{n}" for n in range(1001))}, "exclude", "up to 1000 values"),
        (HOME, {"exclude": "m1," + 129 * "x"}, "exclude", "1..128 characters"),
        (HOME, {"region": 33 * "x"}, "region", "1..32 characters"),
        (HOME, {"explain": "maybe"}, "explain", "true"),
        ("/v1/popular?limit=1&limit=2", {}, "limit", "once"),
        ("/v1/popular", {"rotation": 0.5}, "rotation", "0"),
        (HOME, {"fields": "title,colour"}, "fields", "price"),
    ],
)
async def test_a_wrong_wish_is_named_with_what_is_allowed(
    system: System, path: str, params: dict[str, Any], field: str, allowed: str
) -> None:
    """R1"""
    status, problem = await system.call("GET", path, **params)
    assert (status, problem["field"]) == (400, field), problem
    assert field in problem["detail"]
    assert allowed in problem["allowed"]
