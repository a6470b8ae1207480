"""`/v1/metrics`: what the dashboard shows."""

import time
from typing import Any

import pytest

from serving.resources.dashboard import quantile_of
from state.entries import METRIC_WINDOWS, metric_window_id
from state.metrics import METRICS
from state.records import MetricWindow, Watermark
from state.store import Changes
from tests.unit.serving.system import System

MINUTE = 60_000
NOW = int(time.time() * 1000)


def put(system: System, family: str, partition: int, minutes_ago: int, sums: dict[str, dict[str, int]]) -> int:
    start = NOW - NOW % MINUTE - minutes_ago * MINUTE
    changes = Changes()
    window = MetricWindow(final=minutes_ago > 6, sums=sums)
    changes.put(METRIC_WINDOWS[MINUTE], metric_window_id(family, start, partition), window)
    system.flows.commit(changes)
    return start


async def asked(system: System, **params: str) -> Any:
    status, answer = await system.call("GET", "/v1/metrics", **params)
    assert status == 200, answer
    return answer


async def test_partitions_are_added_up_and_formulas_applied(system: System) -> None:
    """R28"""
    start = put(system, "slates", 0, 10, {"": {"items": 60, "slates": 3}, "surface=home": {"items": 60, "slates": 3}})
    put(system, "slates", 3, 10, {"": {"items": 40, "slates": 2}, "surface=popular": {"items": 40, "slates": 2}})
    put(system, "outcomes", 3, 10, {"": {"click": 5}, "surface=popular": {"click": 5}})
    answer = await asked(system)
    at = answer["starts"].index(start)
    assert len(answer["starts"]) == 60
    assert answer["total"]["values"]["ctr"][at] == 0.05
    assert answer["total"]["values"]["slates"][at] == 5
    parts = {part["name"]: part["values"] for part in answer["parts"]}
    assert set(parts) == {"home", "popular"}
    assert parts["popular"]["ctr"][at] == 0.125
    assert answer["choices"]["surface"] == ["home", "popular"]
    assert set(answer["metrics"]) == {metric.name for metric in METRICS}
    assert start < answer["early_from"]


async def test_one_surface_is_compared_by_arm(system: System) -> None:
    sums = {"surface=home": {"slates": 3}, "arm=x%3Aa": {"slates": 4}, "surface=home&arm=x%3Aa": {"slates": 1}}
    start = put(system, "slates", 0, 10, sums | {"surface=popular&arm=x%3Aa": {"slates": 2}})
    answer = await asked(system, surface="home", by="arm")
    at = answer["starts"].index(start)
    assert answer["total"]["values"]["slates"][at] == 3
    assert [(part["name"], part["values"]["slates"][at]) for part in answer["parts"]] == [("x:a", 1)]
    both = await asked(system, by="arm")
    assert [(part["name"], part["values"]["slates"][at]) for part in both["parts"]] == [("x:a", 4)]


async def test_it_tells_how_the_system_does(system: System) -> None:
    changes = Changes()
    changes.advance("features", "clean", 0, Watermark(5, 1000, 2000))
    changes.advance("features", "clean", 1, Watermark(5, 1500, 1800))
    system.flows.commit(changes)
    await system.ids("u1")
    answer = await asked(system)
    assert answer["flows"] == [{"name": "features", "stream_ts": 1500, "applied_ts": 2000}]
    assert answer["model"]["items"] == 60
    stages = {(timing["surface"], timing["stage"]) for timing in answer["timings"]}
    assert ("/v1/users/{user_id}/recommendations", "") in stages


async def test_without_redis_it_says_so(system: System) -> None:
    """R31"""
    system.store.lost = True
    answer = await asked(system)
    assert "Redis" in answer["degraded"]["metrics"]
    assert answer["starts"] == []
    system.store.lost = False
    assert (await asked(system))["degraded"] is None


@pytest.mark.parametrize("params", [{"range": "2h"}, {"by": "moon"}, {"window": "1m"}])
async def test_what_it_does_not_know_is_named(system: System, params: dict[str, str]) -> None:
    """R9"""
    status, problem = await system.call("GET", "/v1/metrics", **params)
    assert status == 400
    assert next(iter(params)) in problem["detail"]


def test_a_quantile_of_a_histogram_is_linear_within_a_bucket() -> None:
    histogram = {0.1: 10.0, 0.2: 20.0, float("inf"): 20.0}
    assert quantile_of(histogram, 0.25) == pytest.approx(0.05)
    assert quantile_of(histogram, 0.75) == pytest.approx(0.15)
    assert quantile_of({0.1: 0.0, float("inf"): 3.0}, 0.5) == 0.1
