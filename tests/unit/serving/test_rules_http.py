"""`/v1/admin/rules` over the whole application."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from falcon import testing

from serving.app import create_app
from serving.memory.control import Control
from state.control import RULES, ControlDocument
from state.entries import CONTROL
from state.topics import CONTROL as CONTROL_TOPIC
from tests.unit.serving.system import System

URL = "/v1/admin/rules"
BLOCK = {"blocks": [{"name": "recall", "items": ["m1", "m2"]}]}


async def put(system: System, rules: Any, version: int, **fields: Any) -> tuple[int, Any]:
    return await system.call("PUT", URL, {"rules": rules, "version": version} | fields)


async def test_rules_are_in_force_with_the_answer(system: System) -> None:
    """R9"""
    before = await system.ids("u1", limit=60)
    assert {"m1", "m2"} <= set(before)
    status, answer = await put(system, BLOCK, 0, note="batch 12")
    assert (status, answer["version"], answer["note"]) == (200, 1, "batch 12")
    assert set(await system.ids("u1", limit=60)) == set(before) - {"m1", "m2"}
    for path in ("/v1/popular", "/v1/trending", "/v1/items/m3/similar"):
        _, listed = await system.call("GET", path, limit=60)
        assert not {"m1", "m2"} & {item["item_id"] for item in listed["items"]}
    assert (await system.call("GET", URL))[1]["rules"] == BLOCK
    topic, key, value = system.log.events.sent[-1]
    assert (topic, key) == (CONTROL_TOPIC, "rules/1")
    assert value is not None


async def test_a_full_list_stays_full_under_blocks(system: System) -> None:
    """R3, R9: blocks work inside retrieval."""
    await put(system, {"blocks": [{"name": "b", "items": [f"m{n}" for n in range(40)]}]}, 0)
    assert len(await system.ids("u1", limit=20)) == 20


async def test_of_two_writers_of_one_version_one_is_told(system: System) -> None:
    """R9: versioned by compare-and-set."""
    assert (await put(system, BLOCK, 0))[0] == 200
    status, problem = await put(system, {}, 0)
    assert (status, problem["field"]) == (409, "version")
    answers = await asyncio.gather(*(put(system, {"near_duplicates": 0.9 + n / 100}, 1) for n in range(5)))
    assert sorted(status for status, _ in answers) == [200, 409, 409, 409, 409]


async def test_history_says_who_changed_what_and_a_rollback_is_one_call(system: System) -> None:
    """R9"""
    boosted = {"boosts": [{"name": "war", "filter": "genre=War", "factor": 3}]}
    await put(system, BLOCK, 0)
    await put(system, BLOCK | boosted, 1, note="campaign")
    status, answer = await system.call("POST", f"{URL}/rollback", {"note": "over"})
    assert (status, answer["version"], answer["restores"]) == (200, 3, 1)
    assert answer["rules"] == BLOCK
    await system.call("POST", f"{URL}/rollback", {"to": 0})
    _, history = await system.call("GET", f"{URL}/history")
    told = [(entry["version"], entry["changes"], entry["note"]) for entry in history["versions"]]
    assert told == [
        (4, ["- blocks recall"], ""),
        (3, ["- boosts war"], "over"),
        (2, ["+ boosts war"], "campaign"),
        (1, ["+ blocks recall"], ""),
    ]
    assert all(entry["ts"] and entry["author"] for entry in history["versions"])
    assert (await system.call("GET", URL, version=2))[1]["rules"] == BLOCK | boosted
    assert (await system.call("GET", f"{URL}/history", limit=1))[1]["versions"][0]["changes"] == ["- blocks recall"]


async def test_a_dry_run_says_whose_lists_would_change_and_changes_nothing(system: System) -> None:
    """R9"""
    await system.ids("anna", limit=10)
    n_logged = len(system.log.impressions.sent)
    body = {"rules": {"blocks": [{"name": "b", "filter": "genre=Drama"}]}, "users": ["ben"], "limit": 10}
    status, answer = await system.call("POST", f"{URL}/dry-run", body)
    assert status == 200
    assert (answer["n_users"], answer["n_changed"], answer["n_withheld"]) == (2, 2, 50)
    assert answer["changes"] == ["+ blocks b"]
    for change in answer["lists"]:
        assert set(change["gone"]) == set(change["before"]) - set(change["after"])
        assert {int(item[1:]) % 6 for item in change["after"]} == {0}
        assert change["relaxed"] == {"genres": 7}
    assert len(system.log.impressions.sent) == n_logged
    assert (await system.call("GET", URL))[1]["version"] == 0
    _, none = await system.call("POST", f"{URL}/dry-run", {"rules": {}, "users": ["anna"]})
    assert (none["n_changed"], none["lists"]) == (0, [])


@pytest.mark.parametrize(
    ("rules", "field"),
    [
        ({"blocks": [{"name": "a b", "items": ["x"]}]}, "rules.blocks[0].name"),
        ({"boosts": [{"name": "x", "filter": "genre=War", "factor": 0}]}, "rules.boosts[0].factor"),
        ({"boosts": [{"name": "x", "filter": "colour=red", "factor": 2}]}, "rules.boosts[0].filter"),
        ({"policies": [{"name": "x", "deny": "price<cheap"}]}, "rules.policies[0].deny"),
        ({"surprises": []}, "rules"),
        ({"blocks": [{"name": "x"}]}, "rules.blocks[0]"),
    ],
)
async def test_bad_rules_are_refused_by_name_and_change_nothing(system: System, rules: Any, field: str) -> None:
    """R9: validated before they take effect."""
    for path, body in ((URL, {"version": 0}), (f"{URL}/dry-run", {})):
        method = "PUT" if path == URL else "POST"
        status, problem = await system.call(method, path, {"rules": rules} | body)
        assert (status, problem["field"]) == (400, field), problem
    assert (await system.call("GET", URL))[1]["version"] == 0


async def test_without_redis_rules_hold_and_cannot_be_changed(system: System) -> None:
    """R9, R10"""
    await put(system, BLOCK, 0)
    system.store.lost = True
    assert not {"m1", "m2"} & set(await system.ids("u1", limit=60))
    status, problem = await put(system, {}, 1)
    assert (status, problem["title"]) == (503, "Service Unavailable")
    system.store.lost = False


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


def a_document(version: int, body: Any) -> ControlDocument:
    return ControlDocument(RULES.name, version, json.dumps(body).encode(), "anna", 1)


async def test_a_worker_that_starts_without_redis_has_its_last_rules(system: System, tmp_path: Path) -> None:
    """R9, R10: blocks fail closed."""
    await put(system, BLOCK, 0)
    again = System(tmp_path)
    again.settings = system.settings
    control = Control(system.settings, again.store)
    again.store.lost = True
    await control.start()
    assert control.rules.active.document == RULES.parse(json.dumps(BLOCK).encode())
    await control.aclose()


async def test_an_emptied_redis_takes_no_block_away_and_gets_the_rules_back(tmp_path: Path) -> None:
    """R9"""
    system = System(tmp_path)
    control = Control(system.settings, system.store)
    control.rules.take(a_document(7, BLOCK))
    await control.start()
    await until(lambda: system.flows.get_rows(CONTROL, [RULES.name]))
    assert system.flows.get_rows(CONTROL, [RULES.name])[RULES.name].version == 7
    assert control.rules.active.version == 7
    await control.aclose()


async def test_rules_that_are_not_understood_do_not_replace_those_that_are(tmp_path: Path) -> None:
    """R9"""
    system = System(tmp_path)
    control = Control(system.settings, system.store)
    control.rules.take(a_document(1, BLOCK))
    control.rules.take(a_document(2, {"from": "a newer release"}))
    assert control.rules.active.version == 1
    assert "rules" in control.degraded


async def test_workers_follow_each_other(system: System) -> None:
    """R9: in force in all workers."""
    other = System(system.settings.home)
    other.flows, other.store = system.flows, system.store
    other.app = create_app(system.settings, system.store, other.log)  # type: ignore[arg-type]
    async with testing.ASGIConductor(other.app) as conductor:
        other.client = conductor
        assert (await put(system, BLOCK, 0))[0] == 200

        async with asyncio.timeout(5):
            while (await other.call("GET", "/v1/popular", limit=60))[1]["items"] == [] or {"m1"} & set(
                await other.ids("u1", limit=60)
            ):
                pass


NAMED = {
    "policies": [
        {"name": "both", "deny": "genre=War", "users": ["u1", "kid"]},
        {"name": "alone", "deny": "genre=Drama", "users": ["u1"]},
        {"name": "all", "deny": "price>1000"},
    ],
    "pins": [{"name": "pin", "item": "m5", "position": 1, "users": ["u1"]}],
}


async def test_an_erased_user_is_in_no_version_of_the_rules(system: System) -> None:
    """R27: not in force, not in the history, not in Kafka; what was for this user alone is for nobody, not for all."""
    await put(system, NAMED, 0)
    await put(system, NAMED | {"caps": []}, 1)
    status, answer = await system.call("DELETE", "/v1/users/u1")
    assert (status, answer["degraded"]) == (202, None)
    assert "rules" in answer["places"]
    _, in_force = await system.call("GET", URL)
    assert in_force["version"] == 3
    assert in_force["rules"] == {
        "policies": [{"name": "both", "deny": "genre=War", "users": ["kid"]}, {"name": "all", "deny": "price>1000"}],
        "caps": [],
    }
    for version in (1, 2, 3):
        _, was = await system.call("GET", URL, version=version)
        assert "u1" not in json.dumps(was["rules"])
    newest = {key: value for topic, key, value in system.log.events.sent if topic is CONTROL_TOPIC}
    assert set(newest) == {"rules/1", "rules/2", "rules/3"}
    assert not any(b'"u1"' in (value or b"") for value in newest.values())
    assert {"m0", "m6"} <= set(await system.ids("u1", limit=60))  # the policy was the user's


async def test_an_erasure_without_redis_says_that_rules_may_still_name_the_user(system: System) -> None:
    """R27, R10"""
    await put(system, NAMED, 0)
    system.store.lost = True
    status, answer = await system.call("DELETE", "/v1/users/u1")
    assert status == 202
    assert "erase again" in answer["degraded"]["rules"]
    assert "erase again" in answer["degraded"]["experiments"]
    system.store.lost = False
    while (await system.call("DELETE", "/v1/users/u1"))[1]["degraded"]:  # until it is known that the store is back
        await asyncio.sleep(0.05)
    assert "u1" not in json.dumps((await system.call("GET", URL))[1]["rules"])


async def test_rules_that_do_not_name_an_erased_user_stay_as_they_are(system: System) -> None:
    """R27"""
    await put(system, NAMED, 0)
    await system.call("DELETE", "/v1/users/stranger")
    assert (await system.call("GET", URL))[1]["version"] == 1
