"""Routes, health and metrics."""

import pytest

from tests.unit.serving.system import System


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
