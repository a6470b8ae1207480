"""The HTTP interface over the stores in memory: what is taken, what is refused and how."""

import json
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from falcon import testing

from serving.app import create_app
from serving.event_log import Delivery, QueueFullError
from state.entries import CATALOGUE, ITEM_ACTIVITY, USER_PROFILE, activity_field
from state.memory_store import AsyncMemoryStore, MemoryStore
from state.records import Activity, Impression, Item, UserProfile, Watermark
from state.settings import Settings
from state.store import Changes, StoreUnavailableError, UserState
from state.topics import EVENTS, IMPRESSIONS, ITEMS, Topic

NOW_MS = int(time.time() * 1000)


class FakeOutbox:
    """Keeps what is sent; acknowledges it unless told otherwise."""

    def __init__(self) -> None:
        self.sent: list[tuple[Topic, str, bytes | None]] = []
        self.full = False
        self.n_unacked = 0
        self.stalled = False

    @property
    def n_queued(self) -> int:
        return len(self.sent)

    def put(self, topic: Topic, key: str, value: bytes) -> bool:
        if not self.full:
            self.sent.append((topic, key, value))
        return not self.full

    async def deliver(self, topic: Topic, messages: Sequence[tuple[str, bytes | None]], wait_s: float) -> Delivery:
        if self.full:
            raise QueueFullError
        self.sent += [(topic, key, value) for key, value in messages]
        delivery = Delivery(len(messages), None)  # type: ignore[arg-type]
        delivery.n_acked = len(messages) - self.n_unacked
        return delivery


class FakeLog:
    def __init__(self) -> None:
        self.events = FakeOutbox()
        self.impressions = FakeOutbox()

    def close(self) -> None: ...


class LosableStore(AsyncMemoryStore):
    lost = False

    async def user_state(self, user_id: str, session_id: str | None = None) -> UserState:
        self._check()
        return await super().user_state(user_id, session_id)

    async def add_overlay(self, event: Any) -> None:
        self._check()
        await super().add_overlay(event)

    async def get_rows(self, table: Any, fields: Sequence[str]) -> Any:
        self._check()
        return await super().get_rows(table, fields)

    async def ping(self) -> None:
        self._check()

    def _check(self) -> None:
        if self.lost:
            raise StoreUnavailableError("Redis does not answer")


class System:
    def __init__(self, tmp_path: Path) -> None:
        self.flows = MemoryStore()
        self.store = LosableStore(self.flows)
        self.log = FakeLog()
        self.settings = Settings(home=tmp_path)
        changes = Changes()
        for n in range(60):
            item = Item(item_id=f"m{n}", title=f"Title {n}", genres=["War"] if n % 6 == 0 else ["Drama", f"G{n % 7}"])
            changes.upsert(CATALOGUE, item.item_id, item)
        self.flows.commit(changes)
        self.app = create_app(self.settings, self.store, self.log)  # type: ignore[arg-type]
        self.client: Any = None

    async def call(self, method: str, path: str, body: Any = None, **params: Any) -> tuple[int, Any]:
        raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        answer = await self.client.simulate_request(method, path, body=raw, params=params or None)
        kind = answer.headers.get("content-type", "")
        if answer.status_code >= 400 and answer.status_code != 503:
            assert kind == "application/problem+json"
        return answer.status_code, answer.json if "json" in kind else answer.content

    async def ids(self, user: str, **params: Any) -> list[str]:
        status, answer = await self.call("GET", f"/v1/users/{user}/recommendations", **params)
        assert status == 200, answer
        return [item["item_id"] for item in answer["items"]]


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    made = System(tmp_path)
    async with testing.ASGIConductor(made.app) as conductor:
        made.client = conductor
        while (await made.call("GET", "/health/ready"))[0] != 200:
            pass
        yield made


def an_event(**fields: Any) -> dict[str, Any]:
    return {"event_id": "e1", "type": "click", "user_id": "u1", "item_id": "m1", "ts": NOW_MS} | fields


async def test_a_list_has_the_agreed_shape(system: System) -> None:
    """R1"""
    status, answer = await system.call("GET", "/v1/users/u1/recommendations", limit=5)
    assert status == 200
    assert set(answer) == {
        "request_id", "user_id", "surface", "items", "next", "model", "experiments", "degraded", "timing_ms",
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


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"{", 400, None),
        (b"", 400, None),
        (b"null", 400, None),
        (b"[]", 400, None),
        (b"7", 400, None),
        (b"\xff\xfe", 400, None),
        (b'{"events":null}', 400, "events"),
        (b'{"events":{}}', 400, "events"),
        (b'{"events":[],"more":1}', 400, "more"),
        (b'{"events":' + b"[" * 60_000, 400, None),
        (b'{"events":[{"event_id":"a","type":"rating","user_id":"u","item_id":"i","ts":1,"value":NaN}]}', 400, None),
        ({"type": "click"}, 400, "event_id"),
        (an_event(type="teleport"), 400, "type"),
        (an_event(ts=4102444800000), 400, "ts"),
        (an_event(ts=NOW_MS // 1000), 400, "ts"),
        (an_event(user_id=7), 400, "user_id"),
        (an_event(user_id=""), 400, "user_id"),
        (an_event(surprise=1), 400, "surprise"),
        (an_event(type="rating", value="five"), 400, "value"),
        (b'{"events":["' + b"x" * 3_000_000 + b'"]}', 413, None),
        ({"events": [an_event()] * 5001}, 413, "events"),
    ],
)  # fmt: skip
async def test_a_wrong_body_is_refused_with_the_field(
    system: System, body: Any, status: int, field: str | None
) -> None:
    got, problem = await system.call("POST", "/v1/events", body)
    assert (got, problem.get("field")) == (status, field)
    assert problem["detail"]
    assert system.log.events.sent == []


async def test_a_bad_event_does_not_lose_its_neighbours(system: System) -> None:
    """R23"""
    good = [an_event(event_id="a"), an_event(event_id="b", user_id="u2")]
    status, answer = await system.call("POST", "/v1/events", {"events": [good[0], {"type": "click"}, good[1]]})
    assert (status, answer["accepted"], [r["index"] for r in answer["rejected"]]) == (202, 2, [1])
    assert "event_id" in answer["rejected"][0]["error"]
    assert [(t, k, json.loads(v or b"")) for t, k, v in system.log.events.sent] == [
        (EVENTS, "u1", good[0]),
        (EVENTS, "u2", good[1]),
    ]


async def test_one_event_needs_no_batch(system: System) -> None:
    assert await system.call("POST", "/v1/events", an_event()) == (202, {"accepted": 1, "rejected": [], "pending": 0})


async def test_events_that_kafka_has_not_acknowledged_are_accepted_as_pending(system: System) -> None:
    system.log.events.n_unacked = 1
    _, answer = await system.call("POST", "/v1/events", {"events": [an_event(), an_event(event_id="e2")]})
    assert (answer["accepted"], answer["pending"]) == (2, 1)


async def test_a_full_queue_asks_to_come_again(system: System) -> None:
    system.log.events.full = True
    answer = await system.client.simulate_post("/v1/events", json=an_event())
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0


async def test_unknown_routes_methods_items_and_users(system: System) -> None:
    assert (await system.call("GET", "/v2/nothing"))[0] == 404
    assert (await system.call("DELETE", "/v1/events"))[0] == 405
    assert (await system.call("GET", "/v1/items/nope"))[0] == 404
    assert (await system.call("GET", "/v1/items/nope/similar"))[0] == 404
    assert (await system.call("PATCH", "/v1/items/nope", {"price": 1}))[0] == 404
    assert (await system.call("DELETE", "/v1/items/nope"))[0] == 404
    assert len(await system.ids("nobody", limit=10)) == 10
    status, answer = await system.call("GET", "/v1/users/nobody")
    assert (status, answer["counts"], answer["recent"]) == (200, {}, [])


async def test_a_bug_is_a_problem_document_without_its_inside(system: System, monkeypatch: Any) -> None:
    monkeypatch.setattr("serving.lists.render", lambda slate: 1 / 0)
    status, problem = await system.call("GET", "/v1/popular")
    assert (status, problem["title"]) == (500, "Internal Server Error")
    assert "ZeroDivision" not in json.dumps(problem)


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
    assert list(stages) == ["user", "hydrate", "retrieve", "filter", "score", "rank", "rerank", "select"]
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


async def test_a_hidden_or_deleted_item_is_gone_from_lists_at_once(system: System) -> None:
    """R9"""
    await system.call("PATCH", "/v1/items/m2", {"status": "hidden"})
    await system.call("DELETE", "/v1/items/m3")
    await system.call("PUT", "/v1/items", {"item_id": "m4", "status": "hidden"})
    assert not {"m2", "m3", "m4"} & set(await system.ids("u1", limit=60))
    assert [(topic, key) for topic, key, _ in system.log.events.sent] == [(ITEMS, "m2"), (ITEMS, "m3"), (ITEMS, "m4")]
    assert system.log.events.sent[1][2] is None
    await system.call("PATCH", "/v1/items/m2", {"status": "active"})
    assert "m2" in await system.ids("u1", limit=60)


async def test_a_patch_changes_the_given_fields_only(system: System) -> None:
    await system.call("PATCH", "/v1/items/m1", {"price": 3.5, "title": None})
    item = msgspec.json.decode(system.log.events.sent[0][2] or b"", type=Item)
    assert item == Item(item_id="m1", genres=["Drama", "G1"], price=3.5)
    status, problem = await system.call("PATCH", "/v1/items/m1", {"price": "cheap"})
    assert (status, problem["field"]) == (400, "price")
    status, problem = await system.call("PATCH", "/v1/items/m1", {"item_id": "m2"})
    assert (status, problem["field"]) == (400, "item_id")


async def test_a_bad_item_does_not_lose_its_neighbours(system: System) -> None:
    items = [{"item_id": "a"}, {"item_id": "b", "price": -1}, {"item_id": "c", "genres": "War"}, {"item_id": "d"}]
    status, answer = await system.call("PUT", "/v1/items", {"items": items})
    assert (status, answer["accepted"], [r["index"] for r in answer["rejected"]]) == (202, 2, [1, 2])
    status, problem = await system.call("PUT", "/v1/items", {"title": "no id"})
    assert (status, problem["field"]) == (400, "item_id")
    status, item = await system.call("GET", "/v1/items/a")
    assert (status, item["status"], item["counts"]) == (200, "active", {})


async def test_an_item_tells_its_activity_over_all_partitions_at_stream_time(system: System) -> None:
    """R11"""
    from online_models import activity

    changes = Changes()
    stream_ts = 1_400_000_000_000
    for partition, age_ms in enumerate((1_000, 600_000)):
        part = Activity()
        activity.add(part, "click", stream_ts - age_ms, stream_ts)
        changes.upsert(ITEM_ACTIVITY, activity_field(partition, "m1"), part)
        changes.upsert(ITEM_ACTIVITY, activity_field(partition, "unlisted"), part)
    changes.advance("features", "clean", 0, Watermark(2, stream_ts))
    system.flows.commit(changes)
    for item_id in ("m1", "unlisted"):
        status, item = await system.call("GET", f"/v1/items/{item_id}")
        assert (status, item["counts"]) == (200, {"click": 2})
        assert item["windows"] == {"5m": {"click": 1}, "1h": {"click": 2}, "1d": {"click": 2}}


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


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics", "/openapi.json", "/docs"])
async def test_operation_pages_answer(system: System, path: str) -> None:
    """R28"""
    assert (await system.call("GET", path))[0] == 200


async def test_metrics_tell_stages_and_the_feature_stores_hits(system: System) -> None:
    """R28"""
    await system.ids("u1")
    _, metrics = await system.call("GET", "/metrics")
    for name in ("freshet_stage_seconds_bucket", "freshet_request_seconds_bucket", "freshet_feature_store_reads_total"):
        assert name.encode() in metrics
