"""`POST /v1/events`: what is taken, what is refused and how."""

import json
from typing import Any

import pytest

from online_models.users import profiles
from serving.memory.users import clean
from state.entries import USER_PROFILE
from state.records import UserProfile
from state.store import Changes
from state.topics import EVENTS
from state.validation import parse_event
from tests.unit.serving.system import NOW_MS, System, an_event


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


async def test_feedback_posted_as_events_is_in_the_very_next_list(system: System) -> None:
    """R5: whichever way it comes."""
    now = [an_event(event_id=f"h{n}", type="hide", item_id=f"m{n}") for n in range(5)]
    more = [an_event(event_id="l", type="like", item_id="m7"), an_event(event_id="c", item_id="m8")]
    await system.call("POST", "/v1/events", {"events": [*now, {"type": "hide"}, *more]})
    assert not {f"m{n}" for n in range(5)} & set(await system.ids("u1", limit=60, seen="show"))
    _, user = await system.call("GET", "/v1/users/u1")
    assert (user["liked"], user["hidden"]) == (["m7"], [f"m{n}" for n in range(5)])
    assert user["pending"] == 6  # a click is no feedback: it comes with the flows
    await system.call("POST", "/v1/events", an_event(event_id="back", type="undo", item_id="m0", ts=NOW_MS + 1))
    assert "m0" in await system.ids("u1", limit=60, seen="show")


async def test_feedback_that_is_sent_again_after_it_was_applied_counts_once(system: System) -> None:
    """R5, R23: the flow drops a repeated event, so that it stays in the overlay."""
    like = an_event(type="like")
    applied = UserProfile()
    profiles.apply_event(applied, clean(parse_event(json.dumps(like).encode(), NOW_MS)), [])
    changes = Changes()
    changes.put(USER_PROFILE, "u1", applied)
    system.flows.commit(changes)
    for _ in range(2):
        await system.call("POST", "/v1/events", like)
    _, user = await system.call("GET", "/v1/users/u1")
    assert (user["counts"], user["liked"], len(user["recent"])) == ({"like": 1}, ["m1"], 1)


async def test_without_redis_feedback_among_events_counts_in_this_process(system: System) -> None:
    """R10"""
    system.store.lost = True
    status, answer = await system.call("POST", "/v1/events", {"events": [an_event(type="hide")]})
    assert (status, answer["accepted"], "store" in answer["degraded"]) == (202, 1, True)
    assert "m1" not in await system.ids("u1", limit=60)
