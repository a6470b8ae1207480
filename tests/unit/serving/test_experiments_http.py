"""`/v1/admin/experiments` over the whole application, and what arms do to lists."""

import asyncio
import time
from collections import Counter
from dataclasses import fields
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
from falcon import testing

from online_models.experiments.arm_sums import DAY_MS
from serving.app import create_app
from serving.pipelines.stages import Retrieve
from serving.surfaces import declare
from serving.surfaces.parts import Parts
from state.control import EXPERIMENTS, ControlDocument
from state.entries import EXPERIMENT_ARMS, EXPERIMENT_DAYS, arm_day_field, arm_field
from state.experiments import SourceName
from state.records import ArmDay, ArmRow, Impression
from state.store import Changes
from state.topics import CONTROL as CONTROL_TOPIC
from tests.unit.serving.system import System

URL = "/v1/admin/experiments"
ARMS = [{"name": "default"}, {"name": "popularity", "parameters": {"ranker": "popularity"}}]
PLAN = {"name": "ranking", "arms": ARMS, "overrides": {"old": "default", "new": "popularity"}}


async def create(system: System, **fields: Any) -> tuple[int, Any]:
    return await system.call("POST", URL, PLAN | fields)


async def run(system: System, **fields: Any) -> None:
    status, answer = await create(system, **fields)
    assert status == 201, answer
    status, answer = await system.call("POST", f"{URL}/{answer['experiment']['name']}/start", {})
    assert (status, answer["experiment"]["status"]) == (200, "running"), answer


async def listed(system: System, user: str, **params: Any) -> Any:
    status, answer = await system.call("GET", f"/v1/users/{user}/recommendations", **params)
    assert status == 200, answer
    return answer


def logged(system: System) -> Impression:
    return msgspec.msgpack.decode(system.log.impressions.sent[-1][2] or b"", type=Impression)


async def test_a_draft_changes_nothing_a_start_does_at_once(system: System) -> None:
    """R21: arms are in the answer and in the impression."""
    assert (await create(system))[0] == 201
    assert (await listed(system, "new"))["experiments"] == {}
    await system.call("POST", f"{URL}/ranking/start", {})
    for user, arm, model in (("old", "default", "online"), ("new", "popularity", "popular")):
        answer = await listed(system, user)
        assert answer["experiments"] == logged(system).experiments == {"ranking": arm}
        assert answer["model"]["name"] == logged(system).model
        assert (answer["model"]["name"] == "popular") == (model == "popular")
    arms = Counter([(await listed(system, f"u{n}", limit=1))["experiments"]["ranking"] for n in range(60)])
    assert min(arms["default"], arms["popularity"]) > 15
    topic, key, _ = system.log.events.sent[-1]
    assert (topic, key) == (CONTROL_TOPIC, "experiments/2")


async def test_degraded_lists_carry_the_arm_too(system: System) -> None:
    """R10, R21"""
    await run(system)
    system.store.lost = True
    answer = await listed(system, "new")
    assert answer["degraded"]
    assert answer["experiments"] == logged(system).experiments == {"ranking": "popularity"}
    assert logged(system).degraded
    system.store.lost = False


async def test_arms_fill_in_what_requests_leave_open(system: System) -> None:
    """R21: request parameters and parts of the rules; what the request says itself holds."""
    arms = [
        {"name": "default"},
        {
            "name": "varied",
            "parameters": {
                "exploration": 0.5,
                "rules": {"caps": [], "pins": [{"name": "p", "item": "m7", "position": 0}]},
            },
        },
    ]
    await run(system, arms=arms, overrides={"new": "varied", "old": "default"})
    await listed(system, "new", limit=20)
    assert logged(system).items[0] == "m7"
    assert min(logged(system).propensities) < 1.0
    assert logged(system).relaxed == {}
    await listed(system, "new", limit=20, exploration=1e-9)
    assert min(logged(system).propensities) > 0.9
    await listed(system, "new", limit=20, exploration=0)  # the default counts as left open
    assert min(logged(system).propensities) < 1.0
    await listed(system, "old", limit=20)
    assert set(logged(system).propensities) == {1.0}


async def test_an_arm_does_without_sources(system: System) -> None:
    """R21"""
    arms = [ARMS[0], {"name": "less", "parameters": {"without": ["exploration", "context"]}}]
    await run(system, arms=arms, overrides={"new": "less", "old": "default"})
    for user, asked in (("old", True), ("new", False)):
        await listed(system, user)
        sources = {source for of_item in logged(system).sources for source in of_item}
        assert ("exploration" in sources) == asked, sources


def test_what_an_arm_can_do_without_are_the_sources_that_neither_rules_nor_requests_call_for(system: System) -> None:
    """R21"""
    declared = {
        source.name
        for pipeline in declare(Parts(*[None] * len(fields(Parts)))).values()  # type: ignore[arg-type]
        for stage in pipeline.stages
        if isinstance(stage, Retrieve)
        for source in stage.sources
    }
    assert set(get_args(SourceName)) == declared - {"pinned", "promoted", "consumed", "matching", "text"}


async def test_pages_go_on_when_the_arm_changes_between_them(system: System) -> None:
    """R4, R21: the cursor is bound to what the request says."""
    first = await listed(system, "new", limit=10)
    await run(system)
    second = await listed(system, "new", limit=10, page=first["next"])
    assert not {item["item_id"] for item in first["items"]} & {item["item_id"] for item in second["items"]}


async def test_layers_are_shared_without_overlap_and_a_ramp_keeps_arms(system: System) -> None:
    """R21"""
    await run(system, share=0.3)
    await run(system, name="other", share=0.5)
    await run(system, name="elsewhere", layer="search", arms=[{"name": "a"}, {"name": "b"}], overrides={})
    arms = {f"u{n}": (await listed(system, f"u{n}", limit=1))["experiments"] for n in range(60)}
    assert all("elsewhere" in of_user for of_user in arms.values())
    assert not any({"ranking", "other"} <= set(of_user) for of_user in arms.values())
    status, problem = await system.call("POST", f"{URL}/ranking/ramp", {"share": 0.6})
    assert (status, problem["field"]) == (409, "share")
    assert "50.0% of its users left" in problem["detail"]
    assert (await system.call("POST", f"{URL}/ranking/ramp", {"share": 0.5}))[0] == 200
    for user, before in arms.items():
        assert before.items() <= (await listed(system, user, limit=1))["experiments"].items()
    status, answer = await system.call("POST", f"{URL}/other/stop", {"reason": "enough"})
    assert (status, answer["experiment"]["status"], answer["experiment"]["reason"]) == (200, "stopped", "enough")
    assert (await system.call("POST", f"{URL}/ranking/ramp", {"share": 1}))[0] == 200


async def test_one_arm_can_be_stopped_and_the_last_ends_all(system: System) -> None:
    """R21"""
    await run(system, arms=[*ARMS, {"name": "third"}], overrides={"t": "third", "new": "popularity"})
    await system.call("POST", f"{URL}/ranking/stop", {"reason": "worse", "arm": "third"})
    assert (await listed(system, "t"))["experiments"] == {}
    assert (await listed(system, "new"))["experiments"] == {"ranking": "popularity"}
    _, answer = await system.call("POST", f"{URL}/ranking/stop", {"reason": "worse", "arm": "popularity"})
    assert answer["experiment"]["status"] == "stopped"
    assert (await system.call("POST", f"{URL}/ranking/start", {}))[0] == 409


async def test_history_says_who_did_what_and_a_rollback_takes_it_back(system: System) -> None:
    """R21: audited."""
    await run(system, note="why not")
    await system.call("POST", f"{URL}/ranking/ramp", {"share": 0.5, "note": "less"})
    await system.call("POST", f"{URL}/ranking/stop", {"reason": "oops"})
    status, answer = await system.call("POST", f"{URL}/rollback", {"note": "by mistake"})
    assert (status, answer["restores"], answer["experiments"][0]["status"]) == (200, 3, "running")
    _, history = await system.call("GET", f"{URL}/history")
    assert [(entry["changes"], entry["note"]) for entry in history["versions"]] == [
        (["~ ranking running"], "by mistake"),
        (["~ ranking stopped: oops"], "stop ranking: oops"),
        (["~ ranking share 1 -> 0.5"], "less"),
        (["~ ranking running"], "start ranking"),
        (["+ ranking"], "why not"),
    ]
    _, all_ = await system.call("GET", URL)
    assert (all_["version"], [found["name"] for found in all_["experiments"]]) == (5, ["ranking"])
    assert (await system.call("GET", f"{URL}/ranking"))[1]["experiment"] == all_["experiments"][0]
    assert (await system.call("GET", URL, version=1))[1]["experiments"][0].get("status", "draft") == "draft"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": "A b"}, "name"),
        ({"name": "history"}, "name"),
        ({"arms": ARMS[:1]}, "arms"),
        ({"arms": [ARMS[0], ARMS[0]]}, "arms[1].name"),
        ({"arms": [ARMS[0], {"name": "x", "parameters": {"diversity": 2}}]}, "arms[1].parameters.diversity"),
        ({"arms": [ARMS[0], {"name": "x", "parameters": {"magic": 1}}]}, "arms[1].parameters"),
        ({"arms": [ARMS[0], {"name": "x", "parameters": {"rotation_time": 5}}]}, "arms[1].parameters.rotation_time"),
        (
            {
                "arms": [
                    ARMS[0],
                    {
                        "name": "x",
                        "parameters": {"rules": {"boosts": [{"name": "b", "filter": "colour=red", "factor": 2}]}},
                    },
                ],
                "overrides": {},
            },
            "arms[1].parameters.rules.boosts[0].filter",
        ),
        ({"overrides": {"me": "nowhere"}}, "overrides.me"),
        ({"start_ms": 2, "end_ms": 1}, "end_ms"),
        ({"primary_metric": "luck"}, "primary_metric"),
        ({"guardrails": [{"metric": "luck"}]}, "guardrails[0].metric"),
        ({"share": 1.5}, "share"),
    ],
)
async def test_bad_plans_are_refused_by_field_and_change_nothing(system: System, fields: Any, field: str) -> None:
    """R21, R23: validated before they take effect."""
    status, problem = await create(system, **fields)
    assert (status, problem["field"]) == (400, field), problem
    assert (await system.call("GET", URL))[1]["version"] == 0


async def test_layers_must_not_change_the_same(system: System) -> None:
    """R21: independent across layers."""
    await run(system)
    await create(system, name="second", layer="else")
    status, problem = await system.call("POST", f"{URL}/second/start", {})
    assert (status, problem["field"]) == (400, "arms[1].parameters.ranker"), problem


async def test_who_changes_another_experiment_at_the_same_moment_is_not_turned_away(system: System) -> None:
    """R21: one document of many; of two starts in one full layer one is refused."""
    names = [f"e{n}" for n in range(4)]
    created = await asyncio.gather(*(create(system, name=name, overrides={}) for name in names))
    assert [status for status, _ in created] == [201] * 4
    assert sorted(found["name"] for found in (await system.call("GET", URL))[1]["experiments"]) == names
    started = await asyncio.gather(*(system.call("POST", f"{URL}/{name}/start", {}) for name in names))
    assert sorted(status for status, _ in started) == [200, 409, 409, 409]


async def test_what_is_unknown_or_taken_is_said(system: System) -> None:
    """R23"""
    await create(system)
    assert (await create(system))[0] == 409
    for call in ("start", "ramp", "stop"):
        body = {"ramp": {"share": 0.1}, "stop": {"reason": "x"}}.get(call, {})
        assert (await system.call("POST", f"{URL}/nobody/{call}", body))[0] == 404
    assert (await system.call("GET", f"{URL}/nobody"))[0] == 404


async def test_an_arm_whose_rules_have_come_to_contradict_others_does_without(system: System) -> None:
    """R10, R21"""
    pins = {"pins": [{"name": "p", "item": "m7", "position": 0}]}
    await run(system, arms=[ARMS[0], {"name": "pinned", "parameters": {"rules": pins}}], overrides={"new": "pinned"})
    assert (await listed(system, "new"))["items"][0]["item_id"] == "m7"
    await system.call("PUT", "/v1/admin/rules", {"rules": {"blocks": [{"name": "b", "items": ["m7"]}]}, "version": 0})
    answer = await listed(system, "new", limit=60)
    assert "m7" not in [item["item_id"] for item in answer["items"]]
    assert "experiments" in answer["degraded"]
    assert answer["experiments"] == {"ranking": "pinned"}


async def test_workers_follow_each_other(system: System) -> None:
    """R21: in force in all workers; one that starts without Redis has the copy on disk."""
    other = System(system.settings.home)
    other.flows, other.store = system.flows, system.store
    other.app = create_app(system.settings, system.store, other.log)  # type: ignore[arg-type]
    async with testing.ASGIConductor(other.app) as conductor:
        other.client = conductor
        while (await other.call("GET", "/health/ready"))[0] != 200:
            pass
        await run(system)
        while (await listed(other, "new"))["experiments"] != {"ranking": "popularity"}:
            pass
    kept = (system.settings.home / "experiments-default.bin").read_bytes()
    document = msgspec.msgpack.decode(kept, type=ControlDocument)
    assert EXPERIMENTS.parse(document.body).experiments[0].status == "running"


async def test_what_arms_did_is_added_up_over_partitions(system: System) -> None:
    """R21: as the flow has counted it."""
    await run(system)
    changes, now_ms = Changes(), int(time.time() * 1000)
    rows = ((0, "default", 3), (1, "default", 4), (1, "popularity", 5), (1, "", 1), (0, "of-another", 9))
    for partition, arm, n in rows:
        name = "ranking" if arm != "of-another" else "other"
        changes.upsert(EXPERIMENT_ARMS, arm_field(partition, name, arm), ArmRow(name, arm, {"users": n}, now_ms))
    today = now_ms // DAY_MS
    for partition, items in ((0, [3, 5]), (1, [5, 9])):
        day = ArmDay("ranking", "default", today, {"users": 2, "lists": 4, "degraded": 1}, {}, as_hashes(items))
        changes.upsert(EXPERIMENT_DAYS, arm_day_field(partition, "ranking", "default", today), day)
    system.flows.commit(changes)
    _, answer = await system.call("GET", f"{URL}/ranking")
    assert answer["sums"] == {"default": {"users": 7}, "popularity": {"users": 5}}
    assert answer["switched_users"] == 1
    assert answer["arms"] == {"default": {"latency_p95_ms": None, "items_shown": 3}}
    (told,) = answer["days"]
    assert (told["arm"], told["users"], told["lists"], told["degraded"], told["items_shown"]) == (
        "default",
        4,
        8,
        0.25,
        3,
    )


def as_hashes(items: list[int]) -> bytes:
    return np.array(items, "<u8").tobytes()


async def test_an_erased_user_is_in_no_version_of_the_experiments(system: System) -> None:
    """R27: no tester any more, nor who a pin of an arm was for."""
    pins = {"pins": [{"name": "pin", "item": "m5", "position": 1, "users": ["old"]}]}
    await create(system, arms=[ARMS[0], {"name": "popularity", "parameters": {"rules": pins}}])
    await system.call("POST", f"{URL}/ranking/start", {})
    status, answer = await system.call("DELETE", "/v1/users/old")
    assert (status, answer["degraded"]) == (202, None)
    _, told = await system.call("GET", f"{URL}/ranking")
    assert told["experiment"]["overrides"] == {"new": "popularity"}
    newest = {key: value for topic, key, value in system.log.events.sent if topic is CONTROL_TOPIC}
    assert set(newest) == {"experiments/1", "experiments/2", "experiments/3"}
    assert not any(b'"old"' in (value or b"") for value in newest.values())
