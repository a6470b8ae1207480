"""`/v1/admin/models` over the whole application: what is registered, what ranks, and that no list mixes versions."""

import asyncio
import itertools
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from falcon import testing

from online_models.engine import inputs
from online_models.engine.defaults import default_weights
from online_models.engine.scorer import Weights
from online_models.versions.ranking import Ranking
from state.control import MODELS, ControlDocument
from state.entries import MODEL, MODEL_CHUNK
from state.models import Models
from state.records import BlobRow, Impression
from state.registry import Registry
from state.store import Changes
from state.topics import CONTROL as CONTROL_TOPIC
from tests.unit.online_models.artifacts import an_artifact
from tests.unit.online_models.boosted import a_tree_artifact, needs_lightgbm
from tests.unit.serving.system import System

URL = "/v1/admin/models"
N_HAMMERED = 10_000


def register(system: System, *seeds: int, **fields: Any) -> list[str]:
    registry = Registry(system.settings.models_root)
    artifacts = [an_artifact(seed, **fields) for seed in seeds]
    for artifact in artifacts:
        registry.put(artifact)
    return [artifact.manifest.name for artifact in artifacts]


async def promote(system: System, name: str) -> None:
    status, answer = await system.call("POST", f"{URL}/{name}/promote", {})
    assert (status, answer["ranker"]) == (200, name), answer


async def version(system: System, user: str = "u1") -> str:
    status, answer = await system.call("GET", f"/v1/users/{user}/recommendations", limit=5)
    assert status == 200, answer
    return str(answer["model"]["version"])


async def ranked_by(system: System, name: str, user: str = "u1") -> None:
    async with asyncio.timeout(20):
        while await version(system, user) != name:
            await asyncio.sleep(0)


def logged(system: System) -> list[Impression]:
    return [msgspec.msgpack.decode(value or b"", type=Impression) for _, _, value in system.log.impressions.sent]


async def test_promotion_and_rollback(system: System) -> None:
    """R18: what ranks is in the answer and in the impression; the way back is one call."""
    one, two = register(system, 1, 2)
    online = await version(system)
    for name in (one, two):
        await promote(system, name)
        await ranked_by(system, name)
        assert logged(system)[-1].model_version == name
    status, answer = await system.call("POST", f"{URL}/rollback", {"note": "worse"})
    assert (status, answer["ranker"], answer["restores"], answer["note"]) == (200, one, 1, "worse")
    await ranked_by(system, one)
    await system.call("POST", f"{URL}/rollback", {"to": 0})
    await ranked_by(system, online)
    status, answer = await system.call("GET", f"{URL}/history")
    assert [entry["changes"] for entry in answer["versions"]] == [
        [f"{one} -> online"],
        [f"{two} -> {one}"],
        [f"{one} -> {two}"],
        [f"online -> {one}"],
    ]
    assert [key for topic, key, _ in system.log.events.sent if topic == CONTROL_TOPIC][-1] == "models/4"


async def test_no_list_mixes_versions_while_models_are_swapped(system: System) -> None:
    """R18: the scores of each list, and why they are so, come from the version that it tells of."""
    names = register(system, 1, 2, 3)
    registry = Registry(system.settings.models_root)
    rankings = {name: Ranking.of(registry.get(name)) for name in names}
    online = Ranking.live(default_weights())
    rankings[online.version] = online
    told: dict[str, tuple[str, list[float]]] = {}
    done = False

    async def ask(k: int) -> None:
        while not done:
            status, answer = await system.call("GET", f"/v1/users/u{k}/recommendations", explain="true", limit=10)
            assert status == 200, answer
            scores = [item["explanation"]["ranker_score"] for item in answer["items"]]
            told[answer["request_id"]] = answer["model"]["version"], scores

    asking = [asyncio.create_task(ask(k)) for k in range(8)]
    for name in [*names, "online", *reversed(names), "online"]:
        seen = len(told)
        await promote(system, name)
        while len(told) < seen + 24:
            await asyncio.sleep(0)
    done = True
    await asyncio.gather(*asking)
    assert {version for version, _ in told.values()} == set(rankings)
    assert len(told) >= 192
    for impression in logged(system):
        values = np.frombuffer(impression.features, np.float32).reshape(-1, inputs.N_INPUTS)
        told_version, scores = told[impression.request_id]
        assert impression.model_version == told_version
        expected = rankings[told_version].score(values[:-1], values[-1])
        assert scores == pytest.approx(expected, rel=1e-5)
        # As logged they are chances: their logarithms differ from the scores by one constant.
        offsets = np.log(impression.scores) - expected
        assert np.ptp(offsets) < 1e-3


async def test_ten_thousand_lists_while_models_and_their_deltas_come(system: System) -> None:
    """R18: each list is scored by the one version that it tells of, whatever comes while it is made."""
    names = register(system, 1, 2)
    registry = Registry(system.settings.models_root)
    rankings = {name: Ranking.of(registry.get(name)) for name in names}
    deltas = []
    for seed, n_lists in ((3, 1001), (4, 1002), (5, 1003)):
        weights = msgspec.msgpack.decode(an_artifact(seed).weights, type=Weights)
        weights.n_lists = n_lists
        deltas.append(msgspec.msgpack.encode(weights))
    rankings |= {ranking.version: ranking for ranking in map(Ranking.live, [default_weights(), *deltas])}
    n_asked = 0

    async def ask(k: int, n: int = N_HAMMERED) -> None:
        nonlocal n_asked
        while n_asked < n:
            n_asked += 1
            status, answer = await system.call("GET", f"/v1/users/u{k}/recommendations", limit=10)
            assert (status, answer["degraded"]) == (200, None), answer

    await ask(0, 1)
    asking = [asyncio.create_task(ask(k)) for k in range(16)]
    wanted = itertools.cycle(["online", "online", *names])
    for weights in itertools.cycle(deltas):
        changes = Changes()
        changes.upsert(MODEL, "ranker", BlobRow(weights))
        system.flows.commit(changes)
        await promote(system, next(wanted))
        begun = n_asked
        while n_asked < min(begun + 100, N_HAMMERED):
            await asyncio.sleep(0)
        if n_asked >= N_HAMMERED:
            break
    await asyncio.gather(*asking)
    impressions = logged(system)
    assert len(impressions) >= N_HAMMERED
    assert {impression.model_version for impression in impressions} == set(rankings)
    for impression in impressions:
        values = np.frombuffer(impression.features, np.float32).reshape(-1, inputs.N_INPUTS)
        expected = rankings[impression.model_version].score(values[:-1], values[-1])
        # As logged they are chances: their logarithms differ from the scores by one constant.
        assert np.ptp(np.log(impression.scores) - expected) < 1e-3


async def test_what_cannot_be_used_is_refused_and_the_live_one_stays(system: System) -> None:
    """R18: damaged, of other inputs, unknown: told with the reason, nothing changes."""
    good, damaged = register(system, 1, 2)
    (foreign,) = register(system, 3, feature_set="other")
    path = system.settings.home / "models" / f"{damaged}.model"
    path.write_bytes(path.read_bytes()[:-1])
    await promote(system, good)
    for name, status, reason in (
        (damaged, 409, "damaged or truncated"),
        (foreign, 409, "expected feature set"),
        ("ranker@2026-01-01T00:00Z-0000", 404, "there is no model"),
        ("../secret", 404, ""),
    ):
        found, problem = await system.call("POST", f"{URL}/{name}/promote", {})
        assert (found, reason in problem["detail"]) == (status, True), problem
    await ranked_by(system, good)
    status, answer = await system.call("GET", URL)
    told = {model["name"]: (model["status"], model.get("problem")) for model in answer["models"]}
    assert told[good] == ("live", None)
    assert told[damaged][0] == told[foreign][0] == "refused"
    assert answer["serving"] == good
    status, problem = await system.call("GET", f"{URL}/{good}/diff", to="online")
    assert (status, "`freshet models snapshot` registers it" in problem["detail"]) == (404, True)


async def test_a_model_that_cannot_be_found_leaves_the_one_before(system: System) -> None:
    """R18: another process promoted what this one does not find; it says so, and takes it once it is there."""
    one, two = register(system, 1, 2)
    await promote(system, one)
    await ranked_by(system, one)
    path = system.settings.home / "models" / f"{two}.model"
    content = path.read_bytes()
    path.unlink()
    document = ControlDocument("models", 2, MODELS.encode(Models(ranker=two)), "somebody", 0)
    assert await system.store.replace_document(document, 1)
    async with asyncio.timeout(20):
        while "models" not in ((await system.call("GET", "/health/ready"))[1]["degraded"] or {}):
            await asyncio.sleep(0)
    assert await version(system) == one
    path.write_bytes(content)
    await ranked_by(system, two)
    assert "models" not in ((await system.call("GET", "/health/ready"))[1]["degraded"] or {})
    assert await system.store.get(MODEL_CHUNK, f"{two}/0") is not None


async def test_a_start_without_redis_and_registry_ranks_by_the_last_model(tmp_path: Path) -> None:
    """R10, R18: and one that was killed between the document and the model has the whole model before."""
    before = System(tmp_path)
    (one, two) = register(before, 1, 2)
    async with testing.ASGIConductor(before.app) as before.client:
        await promote(before, one)
        await ranked_by(before, one)
        while not list(tmp_path.glob("model-*.bin")):
            await asyncio.sleep(0)
    document = ControlDocument("models", 2, MODELS.encode(Models(ranker=two)), "somebody", 0)
    (tmp_path / "models-default.bin").write_bytes(msgspec.msgpack.encode(document))
    for file in (tmp_path / "models").glob("*.model"):
        file.unlink()
    again = System(tmp_path)
    again.store.lost = True
    async with testing.ASGIConductor(again.app) as again.client:
        assert await version(again) == one
        assert (await again.call("GET", URL))[0] == 503


async def test_pin_freezes_the_live_ranker(system: System) -> None:
    """R18: the snapshot has the learner's offsets, and lists do not follow the learner any more."""
    await system.call("POST", f"{URL}/pin", {"note": "before the campaign"})
    status, answer = await system.call("GET", URL)
    (model,) = answer["models"]
    assert (model["status"], model["manifest"]["note"]) == ("live", "before the campaign")
    assert model["manifest"]["lineage"]["source"] == "online"
    await ranked_by(system, model["name"])
    changes = Changes()
    changes.upsert(MODEL, "ranker", BlobRow(an_artifact(5).weights))
    system.flows.commit(changes)
    status, answer = await system.call("POST", URL, {})
    assert status == 201
    assert answer["n_lists"] == an_artifact(5).manifest.n_lists
    assert answer["name"] != model["name"]
    assert await version(system) == model["name"]
    status, difference = await system.call("GET", f"{URL}/{model['name']}/diff", to=answer["name"])
    assert status == 200
    assert difference["weights_distance"] > 0
    assert any(line.startswith("n_lists") for line in difference["manifest"])


async def test_trees_rank_like_any_other_model(system: System) -> None:
    """R19, R21: promoted, explained, in the shadow and in an arm."""
    needs_lightgbm()
    (one,) = register(system, 1)
    artifact = a_tree_artifact()
    Registry(system.settings.models_root).put(artifact)
    name = artifact.manifest.name
    await promote(system, name)
    await ranked_by(system, name)
    status, answer = await system.call("GET", "/v1/users/u1/recommendations", explain="true", limit=5)
    assert (status, answer["model"]) == (200, {"name": "trees", "version": name})
    told = answer["items"][0]["explanation"]
    assert told["ranker_score"] == pytest.approx(
        told["baseline"] + sum(given["contribution"] for given in told["features"]), abs=1e-5
    )
    impression = logged(system)[-1]
    values = np.frombuffer(impression.features, np.float32).reshape(-1, inputs.N_INPUTS)
    expected = Ranking.of(artifact).score(values[:-1], values[-1])
    assert np.ptp(np.log(impression.scores) - expected) < 1e-3
    status, difference = await system.call("GET", f"{URL}/{one}/diff", to=name)
    assert (status, difference["weights_distance"], difference["inputs"]) == (200, None, [])
    await promote(system, "online")
    assert (await system.call("POST", f"{URL}/{name}/shadow", {"share": 0.5}))[0] == 200
    arms = [{"name": "default"}, {"name": "boosted", "parameters": {"model": name}}]
    plan = {"name": "trees", "arms": arms, "overrides": {"a": "boosted"}}
    assert (await system.call("POST", "/v1/admin/experiments", plan))[0] == 201
    await system.call("POST", "/v1/admin/experiments/trees/start", {})
    await ranked_by(system, name, "a")


async def test_what_is_used_cannot_be_deleted(system: System) -> None:
    """R18"""
    one, two, three = register(system, 1, 2, 3)
    await promote(system, one)
    status, answer = await system.call("POST", f"{URL}/{two}/shadow", {"share": 0.5})
    assert (status, answer) == (200, {"model": two, "share": 0.5})
    for name, status, reason in (
        (one, 409, "it ranks"),
        (two, 409, "shadow"),
        (three, 200, ""),
        (three, 404, "no model"),
    ):
        found, answer = await system.call("DELETE", f"{URL}/{name}")
        assert found == status
        assert reason in answer.get("detail", "")
    await system.call("POST", f"{URL}/{two}/shadow", {"share": 0})
    assert (await system.call("DELETE", f"{URL}/{two}"))[0] == 200


async def test_an_arm_ranks_by_its_model(system: System) -> None:
    """R18, R21: by a registered one, by the online one, and by what ranks for everybody."""
    one, two = register(system, 1, 2)
    online = await version(system)
    await promote(system, one)
    arms = [
        {"name": "default"},
        {"name": "new", "parameters": {"model": two}},
        {"name": "live", "parameters": {"model": "online"}},
    ]
    plan = {"name": "models", "arms": arms, "overrides": {"a": "default", "b": "new", "c": "live"}}
    status, answer = await system.call("POST", "/v1/admin/experiments", plan)
    assert status == 201, answer
    await system.call("POST", "/v1/admin/experiments/models/start", {})
    await ranked_by(system, one, "a")
    await ranked_by(system, two, "b")
    assert [await version(system, user) for user in "abc"] == [one, two, online]
    assert (await system.call("DELETE", f"{URL}/{two}"))[0] == 409
    plan = {
        "name": "more",
        "arms": [{"name": "x"}, {"name": "y", "parameters": {"model": "ranker@2026-01-01T00:00Z-0000"}}],
    }
    status, problem = await system.call("POST", "/v1/admin/experiments", plan)
    assert (status, problem["field"]) == (400, "arms[1].parameters.model")
