"""`/v1/users/{id}`: feedback, and what is told of a user."""

import json
from typing import Any

import msgspec
import pytest

from online_models.users import profiles
from state.entries import USER_PROFILE
from state.records import Activity, Event, UserProfile
from state.store import Changes
from state.topics import EVENTS
from tests.unit.serving.system import NOW_MS, System


@pytest.mark.parametrize("kind", ["hide", "dislike"])
async def test_feedback_is_in_the_very_next_list(system: System, kind: str) -> None:
    """R5"""
    (first, *_) = await system.ids("u1", limit=10)
    status, answer = await system.call("POST", "/v1/users/u1/feedback", {"item_id": first, "type": kind})
    assert (status, answer["degraded"]) == (202, None)
    assert first not in await system.ids("u1", limit=60)
    assert first in await system.ids("u2", limit=60)


async def test_an_undo_brings_a_hidden_item_back(system: System) -> None:
    """R5"""
    for body in ({"item_id": "m3", "type": "hide"}, {"item_id": "m3", "type": "undo", "value": "hide"}):
        assert (await system.call("POST", "/v1/users/u1/feedback", body))[0] == 202
    assert "m3" in await system.ids("u1", limit=60)
    assert (await system.call("POST", "/v1/users/u1/feedback", {"item_id": "m3", "type": "hide"}))[0] == 202
    assert "m3" not in await system.ids("u1", limit=60, seen="show")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"type": "like"}, "item_id"),
        ({"item_id": "m1", "type": "click"}, "type"),
        ({"item_id": "m1", "type": "rating"}, "value"),
        ({"item_id": "m1", "type": "like", "extra": 1}, "extra"),
        ({"item_id": "m1", "type": "undo", "value": "click"}, "value"),
        ({"item_id": "m1", "type": "like", "ts": 5}, "ts"),
        ({"item_id": " ", "type": "like"}, "item_id"),
    ],
)  # fmt: skip
async def test_wrong_feedback_is_refused_with_the_field(system: System, body: Any, field: str) -> None:
    status, problem = await system.call("POST", "/v1/users/u1/feedback", body)
    assert (status, problem["field"]) == (400, field)


async def test_a_user_is_told_with_pending_feedback(system: System) -> None:
    """R5"""
    changes = Changes()
    changes.put(USER_PROFILE, "u1", UserProfile(activity=Activity({"click": 3})))
    system.flows.commit(changes)
    for kind in ("like", "save"):
        await system.call("POST", "/v1/users/u1/feedback", {"item_id": "m1", "type": kind})
    await system.call("POST", "/v1/users/u1/feedback", {"item_id": "m2", "type": "rating", "value": 4})
    _, user = await system.call("GET", "/v1/users/u1")
    assert user["counts"] == {"click": 3, "like": 1, "save": 1, "rating": 1}
    assert (user["liked"], user["saved"], user["pending"]) == (["m1"], ["m1"], 3)
    assert user["ratings"] == {"m2": 0.8}


async def test_an_erased_user_is_a_stranger_at_once(system: System) -> None:
    """R27, R5: for lists and for what is told, before any flow has read the erasure; what comes after it counts."""
    changes = Changes()
    changes.put(USER_PROFILE, "u1", UserProfile(activity=Activity(counts={"click": 3}), seen={"m1": 1}))
    system.flows.commit(changes)
    await system.call("POST", "/v1/users/u1/feedback", {"item_id": "m2", "type": "hide"})
    status, answer = await system.call("DELETE", "/v1/users/u1")
    assert (status, answer["user_id"], answer["degraded"]) == (202, "u1", None)
    assert {"lists", "lake", "Kafka"} <= set(answer["places"])
    _, known = await system.call("GET", "/v1/users/u1")
    assert (known["counts"], known["hidden"]) == ({}, [])
    assert {"m1", "m2"} <= set(await system.ids("u1", limit=60))
    system.store.lost = True
    assert "m2" in await system.ids("u1", limit=60)
    system.store.lost = False
    await system.call("POST", "/v1/users/u1/feedback", {"item_id": "m3", "type": "hide"})
    assert (await system.call("GET", "/v1/users/u1"))[1]["hidden"] == ["m3"]
    topic, user, sent = system.log.events.sent[-2]
    assert (topic.name, user) == ("events", "u1")
    assert json.loads(sent or b"")["type"] == "erase"


async def test_an_erasure_is_not_posted_as_an_event(system: System) -> None:
    event = {"event_id": "e", "type": "erase", "user_id": "u1", "ts": NOW_MS}
    status, problem = await system.call("POST", "/v1/events", event)
    assert (status, problem["field"]) == (400, "type")
    assert system.log.events.sent == []


async def test_onboarding_is_in_the_very_next_list_and_is_forwarded_once(system: System) -> None:
    """R5, R15"""
    before = await system.ids("new", limit=10)
    status, answer = await system.call("POST", "/v1/users/new/onboarding", {"genres": ["War"], "items": ["m6"]})
    assert (status, answer["accepted"], answer["degraded"]) == (202, 1, None)
    _, told = await system.call("GET", "/v1/users/new/recommendations", limit=10)
    war = [item["genres"] == ["War"] for item in told["items"]]
    assert sum(war) >= 3
    assert [item["item_id"] for item in told["items"]] != before
    assert next(item["reason"] for item in told["items"] if item["genres"] == ["War"]) == "You like War"
    ((topic, key, value),) = system.log.events.sent
    event = msgspec.json.decode(value or b"", type=Event)
    assert (topic, key, event.type) == (EVENTS, "new", "onboarding")
    assert event.context == {"genres": ["War"], "items": ["m6"]}
    _, user = await system.call("GET", "/v1/users/new")
    assert (user["pending"], set(user["affinity"])) == (1, {"War"})


async def test_onboarding_counts_once_when_the_flow_has_applied_it(system: System) -> None:
    """R5, R15: between the flow's commit and the reading of the overlay."""
    await system.call("POST", "/v1/users/u1/onboarding", {"genres": ["War"], "ts": NOW_MS})
    pending = (await system.store.user_state("u1")).pending
    profile = UserProfile()
    profiles.apply_event(profile, pending[0], [])
    changes = Changes()
    changes.put(USER_PROFILE, "u1", profile)
    system.flows.commit(changes)
    _, user = await system.call("GET", "/v1/users/u1")
    assert user["counts"] == {"onboarding": 1}


@pytest.mark.parametrize(
    ("body", "field"),
    [({}, "genres"), ({"genres": "War"}, "genres"), ({"items": ["a", " b"]}, "items[1]"), ({"likes": []}, "likes")],
)
async def test_wrong_onboarding_is_refused_with_the_field(system: System, body: Any, field: str) -> None:
    status, problem = await system.call("POST", "/v1/users/u1/onboarding", body)
    assert (status, problem["field"]) == (400, field)
