"""R10: what a list is when something is late, missing or too much, and that it says so."""

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from falcon import testing

from online_models.versions.ranking import Ranking
from serving.memory import last_answers
from serving.memory.mirror import Mirror
from serving.pipelines import lists as lists_module
from serving.pipelines.ladder import LOAD, MAX_SCORED, REPEATED, Rung, most_scored, oldest_repeated_s
from serving.pipelines.stages import repeating
from state.entries import CATALOGUE
from state.records import CleanEvent, Impression, Item
from state.store import Changes
from tests.unit.serving.system import NOW_MS, System

LIST = "/v1/users/u1/recommendations"


async def test_without_the_users_state_the_last_list_stands_and_filters_still_hold(system: System) -> None:
    """R5, R10"""
    await system.call("POST", "/v1/users/u1/feedback", {"item_id": "m5", "type": "hide"})
    before = await system.ids("u1", limit=20)
    system.store.lost = True
    _, answer = await system.call("GET", LIST, limit=20)
    assert [item["item_id"] for item in answer["items"]] == before
    assert answer["degraded"] == {"user": "Redis does not answer", "answer": "cached list of this user"}
    assert answer["model"]["name"] != "popular"
    await system.call("POST", "/v1/users/u1/feedback", {"item_id": before[0], "type": "hide"})
    again = await system.ids("u1", limit=60, exclude=before[1])
    assert not {"m5", *before[:2]} & set(again)
    assert before[2] in again
    _, answer = await system.call("GET", LIST, genre="War")
    assert {item["genres"][0] for item in answer["items"]} == {"War"}
    system.store.lost = False
    while (await system.call("GET", LIST))[1]["degraded"]:
        await asyncio.sleep(0.01)


async def test_somebody_unknown_here_gets_what_people_take(system: System) -> None:
    """R10"""
    system.store.lost = True
    _, answer = await system.call("GET", LIST)
    assert answer["degraded"]["answer"] == "contextual popularity"
    assert len(answer["items"]) == 20
    _, metrics = await system.call("GET", "/metrics")
    assert b'freshet_degraded_lists_total{rung="contextual popularity",surface="home"}' in metrics


async def test_a_list_of_special_wishes_is_not_the_one_that_is_remembered(system: System) -> None:
    """R10"""
    await system.call("GET", LIST, genre="War")
    system.store.lost = True
    _, answer = await system.call("GET", LIST)
    assert answer["degraded"]["answer"] == "contextual popularity"


async def test_without_the_ranker_popularity_orders(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """R10"""

    def broken(*_: Any) -> Any:
        raise ArithmeticError

    monkeypatch.setattr(Ranking, "score", broken)
    _, answer = await system.call("GET", LIST)
    assert answer["degraded"] == {"score": "failed: ArithmeticError", "answer": "no ranker"}
    assert answer["model"]["name"] == "popular"
    assert len(answer["items"]) == 20


async def test_a_start_without_redis_says_that_it_lives_on_the_copy_on_disk(tmp_path: Path) -> None:
    """R10"""
    first = System(tmp_path)
    async with testing.ASGIConductor(first.app) as first.client:
        while (await first.call("GET", "/health/ready"))[0] != 200:
            pass
    second = System(tmp_path)
    second.store.lost = True
    async with testing.ASGIConductor(second.app) as second.client:
        _, answer = await second.call("GET", LIST)
    assert answer["degraded"]["answer"] == "last good copy on disk"
    assert len(answer["items"]) == 20


async def test_a_request_that_waited_long_is_served_without_work(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R10: its budget counts from its arrival."""
    before = await system.ids("u1", limit=20)
    clock = lists_module.perf_counter
    monkeypatch.setattr(lists_module, "perf_counter", lambda: clock() - 100.0)
    _, answer = await system.call("GET", LIST)
    assert answer["degraded"]["answer"] == "cached list of this user"
    assert {"hydrate", "retrieve"} & set(answer["degraded"])
    assert answer["items"][0]["item_id"] == before[0]  # others may be elsewhere: nor was there time to rerank them
    assert len(answer["items"]) == 20
    _, answer = await system.call("GET", "/v1/users/u2/recommendations")
    assert answer["degraded"]["answer"] == "contextual popularity"
    assert len(answer["items"]) == 20
    _, answer = await system.call("GET", LIST, genre="War")
    assert answer["degraded"]["answer"] == "contextual popularity"
    assert len(answer["items"]) == 10  # all that there are
    assert {item["genres"][0] for item in answer["items"]} == {"War"}


async def test_under_load_fewer_candidates_are_scored(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """R10: before latency grows, and the list is as long as ever."""
    monkeypatch.setattr(lists_module, "most_scored", lambda _: 25)
    _, answer = await system.call("GET", LIST, explain="true")
    scored = next(report for report in answer["explain"] if report["stage"] == "score")
    assert scored["notes"]["scored"] == 25
    assert answer["degraded"] == {"load": "only 25 candidates were scored"}
    assert len(answer["items"]) == 20


def load(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every request have waited long."""
    monkeypatch.setattr(lists_module, "most_scored", lambda _: 25)
    monkeypatch.setattr(repeating, "oldest_repeated_s", lambda _: 5.0)


async def test_under_load_a_list_of_a_moment_ago_stands_until_the_user_does_something(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R5, R10: who asks again gets what was ranked of all candidates; what was done meanwhile is in the list."""
    # Other items are drawn to be tried out each millisecond, and may be among the 25.
    monkeypatch.setattr(Mirror, "now_ms", NOW_MS)

    async def asked(**params: Any) -> tuple[list[str], dict[str, str]]:
        _, answer = await system.call("GET", LIST, limit=20, **params)
        return [item["item_id"] for item in answer["items"]], answer["degraded"] or {}

    whole, degraded = await asked()
    assert degraded == {}
    load(monkeypatch)
    again, degraded = await asked()
    assert again == whole
    assert degraded["answer"] == "cached list of this user"
    assert re.fullmatch(r"ranked \d+ ms ago", degraded["load"])
    longer = (await system.call("GET", LIST, limit=40))[1]
    assert longer["degraded"] == {"load": "only 40 candidates were scored"}
    assert len(longer["items"]) == 40
    assert (await asked())[0] == (await asked())[0], "the last one that was made stands, of whatever length it was"
    for special in ({"exclude": "m1"}, {"seen": "show"}, {"exploration": 0.5}, {"rotation": 0.5}, {"explain": "true"}):
        for _ in range(2):
            assert (await asked(**special))[1]["load"] == "only 25 candidates were scored", special
    await system.call("POST", "/v1/users/u1/feedback", {"item_id": whole[0], "type": "like", "ts": NOW_MS})
    after, degraded = await asked()
    assert whole[0] not in after
    assert degraded == {"load": "only 25 candidates were scored"}
    assert (await asked())[0] == after
    clock = time.monotonic
    monkeypatch.setattr(last_answers.time, "monotonic", lambda: clock() + 6.0)
    assert (await asked())[1] == {"load": "only 25 candidates were scored"}


async def test_a_list_under_load_obeys_rules_that_came_meanwhile(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R9, R10"""
    first = await system.ids("u1")
    load(monkeypatch)
    assert await system.ids("u1") == first
    rules = {"pins": [{"name": "top", "item": "m59", "position": 0}]}
    status, answer = await system.call("PUT", "/v1/admin/rules", {"rules": rules, "version": 0})
    assert status == 200, answer
    assert (await system.ids("u1"))[0] == "m59"
    assert (await system.ids("u1"))[0] == "m59", "remembered, whatever its score"


async def test_a_repeated_list_is_logged_as_one_of_its_own(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """R10, R13: under its own id and time; what it was scored by is logged once."""
    _, whole = await system.call("GET", LIST)
    load(monkeypatch)
    _, repeated = await system.call("GET", LIST)
    assert repeated["request_id"] != whole["request_id"]
    assert repeated["state"]["age_ms"] >= whole["state"]["age_ms"]
    same = ("items", "model", "experiments", "next", "surface", "user_id")
    assert [repeated[name] for name in same] == [whole[name] for name in same]
    first, second = (
        msgspec.msgpack.decode(value or b"", type=Impression) for _, _, value in system.log.impressions.sent
    )

    assert (second.request_id, second.degraded) == (repeated["request_id"], repeated["degraded"])
    assert (second.items, second.scores, second.sources) == (first.items, first.scores, first.sources)
    assert (second.reasons, second.propensities, second.novelty) == (first.reasons, first.propensities, first.novelty)
    assert first.features
    assert not second.features
    _, later = await system.call("GET", LIST, page=repeated["next"])
    assert not {item["item_id"] for item in later["items"]} & {item["item_id"] for item in whole["items"]}


async def test_a_list_with_an_item_that_is_gone_by_now_is_made_anew(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R8, R10: and is as long as ever."""
    before = await system.ids("u1", limit=20)
    load(monkeypatch)
    assert (await system.call("DELETE", f"/v1/items/{before[3]}"))[0] == 202
    _, answer = await system.call("GET", LIST)
    assert answer["degraded"] == {"load": "only 25 candidates were scored"}
    assert before[3] not in [item["item_id"] for item in answer["items"]]
    assert len(answer["items"]) == 20


async def test_while_kafka_does_not_answer_lists_are_remembered_as_ever(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R10"""
    system.log.events.stalled = True
    before = await system.ids("u1", limit=20)
    load(monkeypatch)
    _, answer = await system.call("GET", LIST)
    assert [item["item_id"] for item in answer["items"]] == before
    assert answer["degraded"].keys() == {"events", "load", "answer"}
    system.store.lost = True
    _, answer = await system.call("GET", LIST)
    assert answer["degraded"]["answer"] == "cached list of this user"


async def test_an_erased_user_has_no_list_to_repeat(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """R27"""
    await system.call("GET", LIST)
    assert (await system.call("DELETE", "/v1/users/u1"))[0] == 202
    load(monkeypatch)
    _, answer = await system.call("GET", LIST)
    assert answer["degraded"] == {"load": "only 25 candidates were scored"}


def test_the_longer_the_wait_the_older_a_list_may_be() -> None:
    """R10: none is repeated to who did not wait."""
    begin, end, seconds = REPEATED
    assert [oldest_repeated_s(waited) for waited in (0.0, begin)] == [0.0, 0.0]
    assert oldest_repeated_s((begin + end) / 2) == pytest.approx(seconds / 2)
    assert [oldest_repeated_s(waited) for waited in (end, 1.0, 9.0)] == [seconds] * 3
    assert seconds <= last_answers.KEPT_S
    assert begin < end <= LOAD[0][0], "what is as good as ever comes before what is less"


async def test_a_wait_is_judged_by_its_share_of_the_budget(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """R10: with a budget of a minute nothing is shed for a wait of some ms."""
    shares: list[float] = []

    def noted(waited: float) -> int:
        shares.append(waited)
        return MAX_SCORED

    monkeypatch.setattr(lists_module, "most_scored", noted)
    _, answer = await system.call("GET", LIST)
    assert shares == [pytest.approx(answer["timing_ms"]["queue"] / 60_000, abs=1e-6)]


def test_the_steps_of_load_go_down() -> None:
    """R10"""
    assert most_scored(0.0) == MAX_SCORED
    assert [most_scored(share + 0.001) for share, _ in LOAD] == [n for _, n in LOAD]
    assert sorted(LOAD) == [*LOAD]
    assert sorted((n for _, n in LOAD), reverse=True) == [n for _, n in LOAD]
    assert [*Rung] == sorted(Rung)


async def test_a_list_states_how_old_its_state_is(system: System) -> None:
    """R5"""
    _, answer = await system.call("GET", LIST)
    fresh = answer["state"]
    assert (fresh["user"], fresh["user_ts"], fresh["pending"], fresh["stream_ts"]) == ("redis", None, 0, None)
    assert 0 <= fresh["age_ms"] < 5000
    await system.call("POST", "/v1/users/u1/feedback", {"item_id": "m1", "type": "like", "ts": NOW_MS})
    _, answer = await system.call("GET", LIST)
    assert answer["state"]["pending"] == 1
    assert answer["state"]["user_ts"] == NOW_MS
    assert (await system.call("GET", "/v1/popular"))[1]["state"]["user"] == "none"
    system.store.lost = True
    last = (await system.call("GET", LIST))[1]["state"]
    assert last["user"] == "last list"
    assert last["age_ms"] >= 0
    assert (await system.call("GET", "/v1/users/u9/recommendations"))[1]["state"]["user"] == "memory"


async def test_a_user_who_is_erased_has_no_last_list(system: System) -> None:
    """R27"""
    await system.call("GET", LIST)
    assert (await system.call("DELETE", "/v1/users/u1"))[0] == 202
    system.store.lost = True
    _, answer = await system.call("GET", LIST)
    assert answer["degraded"]["answer"] == "contextual popularity"


async def test_the_last_list_outlives_a_new_load_of_everything(system: System) -> None:
    """R10: as after an outage; items that are gone by then are not in it."""
    before = await system.ids("u1", limit=20)
    changes = Changes()
    changes.remove(CATALOGUE, before[1])
    changes.upsert(CATALOGUE, "0", Item(item_id="0"))
    system.flows.commit(changes)
    system.store.lost = True  # ends the following, which begins anew with a complete load
    while (await system.call("GET", "/health/ready"))[1]["degraded"] is None:
        await asyncio.sleep(0.01)
    system.store.lost = False
    while (await system.call("GET", "/health/ready"))[1]["degraded"] is not None:
        await asyncio.sleep(0.01)
    assert "0" in await system.ids("u2", limit=61)
    system.store.lost = True
    _, answer = await system.call("GET", LIST)
    assert answer["degraded"]["answer"] == "cached list of this user"
    found = [item["item_id"] for item in answer["items"]]
    assert before[1] not in found
    assert len(set(before) & set(found)) == 19


async def test_feedback_just_given_is_known_when_the_state_cannot_be_read(system: System) -> None:
    """R5, R10: it is in Redis, which is late."""
    first, second, *_ = await system.ids("u1")
    for item, kind in ((first, "dislike"), (second, "hide")):
        await system.call("POST", "/v1/users/u1/feedback", {"item_id": item, "type": kind, "ts": NOW_MS})
    system.store.lost = True
    _, answer = await system.call("GET", LIST, limit=60)
    assert answer["state"]["user_ts"] == NOW_MS
    assert not {first, second} & {item["item_id"] for item in answer["items"]}
    assert (await system.call("DELETE", "/v1/users/u1"))[0] == 202
    assert (await system.call("GET", LIST))[1]["state"]["user_ts"] is None


async def test_what_was_hidden_is_read_and_what_was_asked_for_is_found_however_late_it_is(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R5, R10: the budget is spent, and nothing fails."""
    while not (await system.call("GET", "/v1/search", q="Title 7"))[1]["items"]:  # indexed beside requests
        pass
    clock = lists_module.perf_counter
    monkeypatch.setattr(lists_module, "perf_counter", lambda: clock() - 100.0)
    await system.store.add_overlay(CleanEvent("e1", "hide", "u1", "m1", NOW_MS))  # as by another process
    _, answer = await system.call("GET", LIST, limit=60)
    assert "user" not in answer["degraded"]
    assert "m1" not in [item["item_id"] for item in answer["items"]]
    _, answer = await system.call("GET", "/v1/search", q="Title 7")
    assert answer["items"][0]["item_id"] == "m7"
