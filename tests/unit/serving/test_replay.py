"""`/v1/admin/requests/{request_id}`: what was shown is found again."""

import time

import pytest

from serving.pipelines.request_ids import NOWHERE, made, new_request_id
from state.partitioner import UserPartitions
from tests.unit.serving.system import System

URL = "/v1/admin/requests"


def test_an_id_tells_when_and_where() -> None:
    ids = {new_request_id(1_700_000_000_123, 4095) for _ in range(1000)}
    assert len(ids) == 1000
    assert {made(request_id) for request_id in ids} == {(1_700_000_000_123, 4095)}
    assert made("e" * 31) is made("X" * 32) is made("") is None


@pytest.mark.parametrize("params", [{}, {"exploration": 0.8, "diversity": 0.3}, {"surface": "popular", "device": "tv"}])
async def test_a_list_is_rebuilt_as_it_was(system: System, params: dict[str, object]) -> None:
    """R9, R16: items, order, scores, sources, reasons, propensities, model, rules."""
    rules = {"boosts": [{"name": "wars", "filter": "genre=War", "factor": 5}]}
    assert (await system.call("PUT", "/v1/admin/rules", {"rules": rules, "version": 0}))[0] == 200
    _, shown = await system.call("GET", "/v1/users/anna/recommendations", limit=15, **params)
    _, other = await system.call("GET", "/v1/users/anna/recommendations", limit=15, **params)
    assert (await system.call("PUT", "/v1/admin/rules", {"rules": {}, "version": 1}))[0] == 200
    for answer in (shown, other):
        status, again = await system.call("GET", f"{URL}/{answer['request_id']}")
        assert status == 200, again
        assert again["items"] == answer["items"]
        assert (again["model"], again["user_id"], again["surface"]) == (
            answer["model"],
            "anna",
            params.get("surface", "home"),
        )
        assert (again["rules_version"], again["relaxed"]) == (1, answer.get("relaxed", {}))
        assert again["device"] == params.get("device")
        assert len(again["propensities"]) == len(answer["items"])
    ts, partition = system.log.lists.asked[-1]
    assert partition == UserPartitions(system.settings.partitions)("anna")
    assert abs(time.time() * 1000 - ts) < 60_000


async def test_what_cannot_be_found_is_said(system: System) -> None:
    _, nobody = await system.call("GET", "/v1/popular")
    now_ms = int(time.time() * 1000)
    for request_id in (
        nobody["request_id"],
        "x",
        new_request_id(now_ms, 0),
        new_request_id(now_ms - 8 * 86_400_000, 0),
    ):
        status, problem = await system.call("GET", f"{URL}/{request_id}")
        assert (status, problem["title"]) == (404, "Not Found")
    assert made(nobody["request_id"]).partition == NOWHERE  # type: ignore[union-attr]
    system.log.lists.broken = True
    status, problem = await system.call("GET", f"{URL}/{new_request_id(now_ms, 0)}")
    assert status == 503
    assert "Kafka" in problem["detail"]
