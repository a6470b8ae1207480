"""The surfaces `because`, `search` and `session` over HTTP."""

from typing import Any

import pytest

from state.entries import CATALOGUE, USER_PROFILE
from state.records import Activity, Item, RecentItem, UserProfile
from state.store import Changes
from tests.unit.serving.system import NOW_MS, System

HOME = "/v1/users/u1/recommendations"
SESSION = "/v1/sessions/recommendations"


def ids(answer: Any) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


@pytest.fixture
async def library(system: System) -> System:
    changes = Changes()
    for n in range(30):
        item = Item(
            item_id=f"b{n}",
            title=f"{'Whale' if n % 3 else 'Moby Dick'} book {n}",
            genres=["Sea" if n % 2 else "Land"],
            price=float(n),
        )
        changes.upsert(CATALOGUE, item.item_id, item)
    system.flows.commit(changes)
    while not (await system.call("GET", "/v1/search", q="moby"))[1]["items"]:
        pass
    return system


async def test_search_finds_what_a_misspelt_text_means(library: System) -> None:
    """R2"""
    status, answer = await library.call("GET", "/v1/search", q="mobby dikc", limit=50)
    assert (status, answer["surface"], answer["degraded"]) == (200, "search", None)
    assert set(ids(answer)) == {f"b{n}" for n in range(0, 30, 3)}
    scores = [item["score"] for item in answer["items"]]
    assert scores == sorted(scores, reverse=True)
    assert 0 < scores[-1] <= scores[0] <= 1
    assert {item["reason"] for item in answer["items"]} == {"Matches your search"}


async def test_search_keeps_to_filters_and_to_what_the_user_hid(library: System) -> None:
    """R2, R3, R5"""
    await library.call("POST", "/v1/users/u1/feedback", {"item_id": "b3", "type": "hide"})
    _, answer = await library.call("GET", "/v1/search", q="moby", user_id="u1", filter="price<10")
    assert set(ids(answer)) == {"b0", "b6", "b9"}
    _, answer = await library.call("GET", "/v1/search", q="nothing like it", user_id="u1")
    assert (answer["items"], answer["next"]) == ([], None)


async def test_search_is_in_the_users_order(library: System) -> None:
    """R2: of items that match alike, those of the user's taste come first."""
    for user, genre in (("sailor", "Sea"), ("farmer", "Land")):
        recent = [RecentItem(f"b{n}", NOW_MS - 1000 + n, "like") for n in range(30) if (n % 2 == 1) == (genre == "Sea")]
        profile = UserProfile(Activity({"like": len(recent)}), recent[:8], affinity={genre: 9.0}, affinity_ts=NOW_MS)
        changes = Changes()
        changes.put(USER_PROFILE, user, profile)
        library.flows.commit(changes)
        _, answer = await library.call("GET", "/v1/search", q="book", user_id=user, limit=6)
        assert [item["genres"] for item in answer["items"]] == [[genre]] * 6


async def test_search_has_pages(library: System) -> None:
    """R2, R4"""
    _, first = await library.call("GET", "/v1/search", q="moby", limit=6)
    _, second = await library.call("GET", "/v1/search", q="moby", limit=6, page=first["next"])
    assert (len(ids(first)), len(ids(second)), second["next"]) == (6, 4, None)
    assert not set(ids(first)) & set(ids(second))


async def test_search_needs_words(system: System) -> None:
    for params in ({}, {"q": ""}, {"q": "x" * 300}):
        status, problem = await system.call("GET", "/v1/search", **params)
        assert (status, problem["field"]) == (400, "q")


async def test_because_is_about_the_named_or_the_newest_item(library: System) -> None:
    """R2"""
    changes = Changes()
    recent = [RecentItem("b1", NOW_MS - 2000, "click"), RecentItem("b2", NOW_MS - 1000, "like")]
    recent.append(RecentItem("b5", NOW_MS - 500, "dislike", positive=False))
    changes.put(USER_PROFILE, "u1", UserProfile(Activity({"click": 1}), recent, seen={"b1": 1, "b2": 2, "b5": 3}))
    library.flows.commit(changes)
    for params, about in (({}, "b2"), ({"item": "b1"}, "b1")):
        status, answer = await library.call("GET", HOME, surface="because", limit=5, **params)
        assert (status, len(answer["items"]), answer["surface"]) == (200, 5, "because")
        assert answer["about"] == about
        assert not {"b1", "b2", "b5"} & set(ids(answer))
    status, answer = await library.call("GET", "/v1/users/nobody/recommendations", surface="because")
    assert (status, len(answer["items"]), "about" in answer) == (200, 20, False)
    status, problem = await library.call("GET", HOME, surface="because", item="nope")
    assert (status, problem["field"]) == (404, "item")


@pytest.mark.parametrize("params", [{"item": "b1"}, {"surface": "popular", "item": "b1"}, {"window": "1h"}])
async def test_a_parameter_of_another_surface_is_refused(system: System, params: dict[str, Any]) -> None:
    status, problem = await system.call("GET", HOME, **params)
    assert (status, problem["field"]) == (400, "item" if "item" in params else "window")


async def test_a_session_is_ranked_by_its_events_and_leaves_no_trace(library: System) -> None:
    """R2, R7"""
    events = [{"item_id": f"b{n}"} for n in (1, 3, 5)] + [{"item_id": "b7", "type": "hide"}]
    status, answer = await library.call("POST", SESSION, {"events": events}, limit=10)
    assert (status, answer["surface"], answer["user_id"], len(answer["items"])) == (200, "session", None, 10)
    assert not {"b1", "b3", "b5", "b7"} & set(ids(answer))
    _, other = await library.call("POST", SESSION, {"events": []}, limit=10)
    assert ids(other) != ids(answer)
    assert library.log.events.sent == library.log.impressions.sent == []
    assert not library.flows._overlays
    _, only = await library.call("POST", SESSION, {"events": events}, seen="only")
    assert set(ids(only)) == {"b1", "b3", "b5"}


@pytest.mark.parametrize(
    ("body", "params", "field"),
    [
        ({"events": [{"item_id": "m1", "type": "teleport"}]}, {}, "events[0].type"),
        ({"events": [{"item_id": "m1"}, {"item_id": "m1", "type": "rating"}]}, {}, "events[1].value"),
        ({"events": [{"item_id": "m1", "ts": 5}]}, {}, "events[0].ts"),
        ({"events": [{"item_id": "m1"}] * 201}, {}, "events"),
        ({"user_id": "u1"}, {}, "user_id"),
        ({"events": []}, {"session_id": "s"}, "session_id"),
        ({"events": []}, {"user_id": "s"}, "user_id"),
        (b"{", {}, None),
    ],
)
async def test_a_wrong_session_is_refused_with_the_field(
    system: System, body: Any, params: dict[str, Any], field: str | None
) -> None:
    status, problem = await system.call("POST", SESSION, body, **params)
    assert (status, problem.get("field")) == (400, field)
