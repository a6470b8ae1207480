"""An experiment on a data set: `popularity` against the model, as serving assigns and flows count it, in one process.

The newest events are played as live traffic. Before each positive one its user asks for a list; when the item is in
it, the event says so, as a click would. So arms differ by how often what somebody took next was in the list.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
from falcon.testing import ASGIConductor

from online_models.experiments.arm_sums import merged
from online_models.users.outcomes import is_positive
from ops.bench.api import BenchError
from ops.bench.report import Figure, Report
from ops.datasets import Dataset
from ops.experiments import report as experiments
from ops.play.memory_log import MemoryEventLog, MemoryLog
from ops.play.one_process import Flows
from ops.traffic.schedule import shifted
from serving.app import create_app
from serving.kafka.event_log import EventLog
from state.entries import EXPERIMENT_ARMS
from state.memory_store import AsyncMemoryStore, MemoryStore
from state.records import Event
from state.settings import Settings
from state.topics import EVENTS, ITEMS

NAME = "ranking"
CONTROL, TREATMENT = "popularity", "default"
_LIMIT = 20
_WAIT_S = 2.0
_BATCH = 1000
_PLAN = {
    "name": NAME,
    "arms": [{"name": CONTROL, "parameters": {"ranker": "popularity"}}, {"name": TREATMENT}],
    "primary_metric": "positives_per_user",
}
_encode = msgspec.json.Encoder().encode
Progress = Callable[[int], None]


async def measure(dataset: Dataset, n_live: int, home: Path, progress: Progress) -> experiments.Report:
    """Play a data set, its newest `n_live` events as live traffic, and compare the arms. Raise `BenchError`."""
    settings = Settings(home=home, partitions=1, attribution_wait_s=_WAIT_S, request_budget_ms=60_000)
    store, log = MemoryStore(), MemoryLog()
    flows = Flows(settings, store, log)
    for item in dataset.items():
        log.append(ITEMS, item.item_id.encode(), _encode(item))
    first = max(0, dataset.n_events - n_live)
    past = shifted(dataset.events(0, first), time.time_ns() // 1_000_000 - dataset.ts_of(max(first - 1, 0)))
    for n, event in enumerate(past, 1):
        log.append(EVENTS, event.user_id.encode(), _encode(event))
        if n % _BATCH == 0:
            flows.step(_BATCH)
            progress(n)
    _settle(flows)
    app = create_app(settings, AsyncMemoryStore(store), cast(EventLog, MemoryEventLog(log)))
    async with ASGIConductor(app) as client:
        while (await _call(client, "GET", "/health/ready"))[0] != 200:
            await asyncio.sleep(0)
        for path, body in (("", _PLAN), (f"/{NAME}/start", {})):
            status, answer = await _call(client, "POST", f"/v1/admin/experiments{path}", body)
            if status >= 400:
                raise BenchError(f"{path}: {answer}")
        for n, event in enumerate(dataset.events(first), 1):
            log.append(EVENTS, event.user_id.encode(), _encode(await _now(client, event)))
            flows.step(_BATCH)
            progress(first + n)
        until = time.monotonic() + 2 * _WAIT_S
        while time.monotonic() < until:  # until lists of which nothing was taken are told, too
            await log.wait(0.1)
            _settle(flows)
    sums = {row.arm: merged([row.sums]) for _, row in store.scan_rows(EXPERIMENT_ARMS) if row.arm}
    return experiments.of_sums(NAME, sums, 0, experiments.ByDay({}, []), CONTROL)


def report(dataset: str, found: experiments.Report) -> Report:
    """Return the lift of the model over popularity, with its interval."""
    return Report(f"{dataset}: {TREATMENT} against {CONTROL}", list(_figures(found)))


def _figures(found: experiments.Report) -> Iterator[Figure]:
    yield Figure("users", sum(found.users.values()), "", note=", ".join(f"{a} {n:,}" for a, n in found.users.items()))
    for line in found.lines:
        if (
            line.metric not in ("ctr", "positives_per_user")
            or line.low is None
            or line.high is None
            or not line.control
        ):
            continue
        yield Figure(f"{line.metric}: {CONTROL}", line.control * 100, "/ 100")
        yield Figure(f"{line.metric}: {TREATMENT}", line.treatment * 100, "/ 100")
        low, high = (f"{bound / line.control:+.1%}" for bound in (line.low, line.high))
        note = f"{1 - found.alpha:.0%} interval, whenever one looks: {low} to {high}"
        lift = 100 * line.difference / line.control
        yield Figure(f"{line.metric}: lift", lift, "%", target=0.0, at_most=False, note=note)


async def _now(client: ASGIConductor, event: Event) -> Event:
    """Return the event as it would happen now; before a positive one, the user asks for a list."""
    request_id = position = None
    if event.item_id is not None and is_positive(event.type, event.value, event.context):
        path = f"/v1/users/{event.user_id}/recommendations"
        status, answer = await _call(client, "GET", path, limit=_LIMIT)
        if status != 200:
            raise BenchError(f"{path}: {status} {answer}")
        found = [item["item_id"] for item in answer["items"]]
        if event.item_id in found:
            request_id, position = answer["request_id"], found.index(event.item_id)
    now_ms = time.time_ns() // 1_000_000
    return msgspec.structs.replace(event, ts=now_ms, request_id=request_id, position=position)


async def _call(
    client: ASGIConductor, method: str, path: str, body: object = None, **params: object
) -> tuple[int, Any]:
    raw = None if body is None else _encode(body)
    answer = await client.simulate_request(method, path, body=raw, params=params or None)
    return answer.status_code, answer.json


def _settle(flows: Flows) -> None:
    while flows.step(_BATCH):
        pass
