"""Lists over HTTP, of users and of others."""

import json
from typing import Any

import msgspec
import pytest

from state.entries import SESSION, USER_PROFILE
from state.records import Activity, Impression, RecentItem, SessionProfile, UserProfile
from state.store import Changes
from state.topics import IMPRESSIONS
from tests.unit.serving.system import NOW_MS, System


async def test_a_list_has_the_agreed_shape(system: System) -> None:
    """R1"""
    status, answer = await system.call("GET", "/v1/users/u1/recommendations", limit=5)
    assert status == 200
    assert set(answer) == {
        "request_id", "user_id", "surface", "items", "next", "model", "experiments", "degraded", "state", "timing_ms",
    }  # fmt: skip
    assert (answer["user_id"], answer["surface"], answer["degraded"]) == ("u1", "home", None)
    assert [item["position"] for item in answer["items"]] == list(range(5))
    for item in answer["items"]:
        assert item["sources"]
        assert item["reason"]
        assert isinstance(item["score"], float)
    assert set(answer["model"]) == {"name", "version"}


async def test_every_answered_list_is_logged_as_an_impression(system: System) -> None:
    """R13"""
    _, answer = await system.call("GET", "/v1/users/u1/recommendations", limit=5, device="phone", session_id="s1")
    ((topic, key, value),) = system.log.impressions.sent
    impression = msgspec.msgpack.decode(value, type=Impression)
    assert (topic, key) == (IMPRESSIONS, "u1")
    assert impression.request_id == answer["request_id"]
    assert impression.items == [item["item_id"] for item in answer["items"]]
    assert (impression.device, impression.session_id) == ("phone", "s1")
    assert impression.latency_ms == answer["timing_ms"]["total"]
    assert impression.novelty is not None
    assert impression.diversity is None or 0 <= impression.diversity <= 1
    assert len(impression.features) % (4 * 6) == 0  # five items and their mean
    assert impression.features


async def test_a_full_impression_queue_fails_no_request(system: System) -> None:
    """R10"""
    system.log.impressions.full = True
    assert len(await system.ids("u1", limit=5)) == 5


@pytest.mark.parametrize(
    ("path", "params", "field", "allowed"),
    [
        ("/v1/users/u1/recommendations", {"limit": "-5"}, "limit", "1..100"),
        ("/v1/users/u1/recommendations", {"limit": "101"}, "limit", "1..100"),
        ("/v1/users/u1/recommendations", {"limit": "many"}, "limit", "1..100"),
        ("/v1/users/u1/recommendations", {"limit": ["1", "2"]}, "limit", None),
        ("/v1/users/u1/recommendations", {"seen": "maybe"}, "seen", "hide"),
        ("/v1/users/u1/recommendations", {"explain": "perhaps"}, "explain", "true"),
        ("/v1/users/u1/recommendations", {"surface": "mars"}, "surface", "home"),
        ("/v1/users/u1/recommendations", {"nonsense": "1"}, "nonsense", "limit"),
        ("/v1/users/u1/recommendations", {"exclude": "x" * 200}, "exclude", None),
        ("/v1/trending", {"window": "2h"}, "window", "5m"),
        ("/v1/popular", {"seen": "only"}, "seen", "hide"),
        ("/v1/items/m1/similar", {"window": "1h"}, "window", "limit"),
    ],
)  # fmt: skip
async def test_a_wrong_parameter_is_named_with_what_is_allowed(
    system: System, path: str, params: dict[str, Any], field: str, allowed: str | None
) -> None:
    status, problem = await system.call("GET", path, **params)
    assert status == 400
    assert problem["field"] == field
    assert problem["status"] == 400
    assert problem["instance"] == path
    assert field in problem["detail"]
    if allowed is not None:
        assert allowed in problem["allowed"]


async def test_a_bug_is_a_problem_document_without_its_inside(system: System, monkeypatch: Any) -> None:
    monkeypatch.setattr("serving.pipelines.lists.render", lambda slate: 1 / 0)
    status, problem = await system.call("GET", "/v1/popular")
    assert (status, problem["title"]) == (500, "Internal Server Error")
    assert "ZeroDivision" not in json.dumps(problem)


async def test_without_redis_lists_go_on_and_feedback_still_counts(system: System) -> None:
    """R5, R10"""
    await system.call("POST", "/v1/users/u1/feedback", {"item_id": "m5", "type": "hide"})
    assert "m5" not in await system.ids("u1", limit=60)
    system.store.lost = True
    for _ in range(5):
        status, answer = await system.call("GET", "/v1/users/u1/recommendations", limit=60)
        assert (status, len(answer["items"])) == (200, 59)
        assert "user" in answer["degraded"]
        assert "m5" not in [item["item_id"] for item in answer["items"]]
    _, told = await system.call("POST", "/v1/users/u1/feedback", {"item_id": "m6", "type": "hide"})
    assert "store" in told["degraded"]
    assert not {"m5", "m6"} & set(await system.ids("u1", limit=60))
    status, user = await system.call("GET", "/v1/users/u1")
    assert (status, user["hidden"]) == (200, ["m5", "m6"])
    assert "store" in user["degraded"]
    system.store.lost = False
    while (await system.call("GET", "/v1/users/u1/recommendations"))[1]["degraded"]:
        pass
    assert not {"m5", "m6"} & set(await system.ids("u1", limit=60))
    assert [event.item_id for event in (await system.store.user_state("u1")).pending] == ["m5", "m6"]


async def test_kafka_that_does_not_answer_is_told(system: System) -> None:
    """R10"""
    system.log.impressions.stalled = True
    _, answer = await system.call("GET", "/v1/users/u1/recommendations", limit=3)
    assert "Kafka" in answer["degraded"]["events"]
    assert len(answer["items"]) == 3


async def test_genre_exclude_and_seen(system: System) -> None:
    """R3, R4"""
    war = {f"m{n}" for n in range(0, 60, 6)}
    assert set(await system.ids("u1", limit=20, genre="War")) == war
    assert set(await system.ids("u1", limit=20, genre="War", exclude="m0,m6")) == war - {"m0", "m6"}
    assert set(await system.ids("u1", limit=60, genre=["War", "G1"])) > war
    assert await system.ids("u1", genre="Nothing") == []
    await system.call("POST", "/v1/users/u1/feedback", {"item_id": "m7", "type": "like"})
    assert "m7" not in await system.ids("u1", limit=60)
    assert "m7" in await system.ids("u1", limit=60, seen="show")
    assert await system.ids("u1", limit=60, seen="only") == ["m7"]


async def test_explain_tells_what_each_stage_kept_and_dropped(system: System) -> None:
    """R10"""
    _, answer = await system.call("GET", "/v1/users/u1/recommendations", limit=5, explain="true", exclude="m1")
    stages = {report["stage"]: report for report in answer["explain"]}
    assert list(stages) == [
        "user", "repeat", "rotation", "hydrate", "retrieve", "filter", "score", "context", "dislikes", "adjust",
        "boost", "rank", "rerank", "select",
    ]  # fmt: skip
    assert stages["filter"]["notes"]["excluded"] == 1
    assert stages["filter"]["n_in"] - stages["filter"]["n_out"] == 1
    assert stages["select"]["n_out"] == 5


async def test_similar_leaves_the_item_itself_out(system: System) -> None:
    """R2"""
    status, answer = await system.call("GET", "/v1/items/m3/similar", limit=60)
    assert (status, answer["surface"], len(answer["items"])) == (200, "similar", 59)
    assert "m3" not in [item["item_id"] for item in answer["items"]]


@pytest.mark.parametrize("path", ["/v1/popular", "/v1/trending", "/v1/items/m1/similar"])
async def test_other_surfaces_respect_a_user_when_told(system: System, path: str) -> None:
    """R2, R5"""
    await system.call("POST", "/v1/users/u9/feedback", {"item_id": "m4", "type": "hide"})
    _, for_user = await system.call("GET", path, limit=60, user_id="u9")
    _, for_anybody = await system.call("GET", path, limit=60)
    assert "m4" not in [item["item_id"] for item in for_user["items"]]
    assert "m4" in [item["item_id"] for item in for_anybody["items"]]
    assert for_anybody["user_id"] is None


async def test_a_session_stands_for_the_history_of_a_user_who_has_none(system: System) -> None:
    """R7, R15: as after a login."""
    steps = [RecentItem(f"m{n}", NOW_MS - 1000 + n, "click") for n in (6, 12, 18)]
    changes = Changes()
    session = SessionProfile("before-login", Activity({"click": 3}), steps, NOW_MS - 1000, NOW_MS - 982)
    changes.put(SESSION, "s1", session)
    changes.put(USER_PROFILE, "known", UserProfile(recent=[RecentItem("m1", NOW_MS, "click")], seen={"m1": NOW_MS}))
    system.flows.commit(changes)
    assert {"m6", "m12", "m18"} <= set(await system.ids("new", limit=60))
    in_session = await system.ids("new", limit=60, session_id="s1")
    assert len(in_session) == 57
    assert not {"m6", "m12", "m18"} & set(in_session)
    assert {"m6", "m12", "m18"} <= set(await system.ids("known", limit=60, session_id="s1"))
    assert len(await system.ids("new", limit=60, session_id="unknown")) == 60


async def test_explain_tells_what_made_each_score_and_which_rules_moved_the_item(system: System) -> None:
    """R1, R9"""
    rules = {"boosts": [{"name": "wars", "filter": "genre=War", "factor": 5}]}
    assert (await system.call("PUT", "/v1/admin/rules", {"rules": rules, "version": 0}))[0] == 200
    _, answer = await system.call("GET", "/v1/users/u1/recommendations", limit=10, explain="true", diversity=0.3)
    for item in answer["items"]:
        why = item["explanation"]
        total = why["baseline"] + sum(part["contribution"] for part in why["features"])
        assert total == pytest.approx(why["ranker_score"], abs=1e-3)
        assert why["propensity"] == 1.0
        effects = {effect["rule"]: effect["effect"] for effect in why["rules"]}
        assert (effects.get("wars") == "score multiplied by 5") == ("War" in item["genres"])
    moved = {effect["rule"] for item in answer["items"] for effect in item["explanation"]["rules"]}
    assert "wars" in moved
    assert moved & {"diversity", "genres"}  # which of them moves something depends on what is tried out at the time
    _, plain = await system.call("GET", "/v1/users/u1/recommendations", limit=10)
    assert "explanation" not in plain["items"][0]
