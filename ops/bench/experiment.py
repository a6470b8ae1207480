"""An experiment on a data set: `popularity` against the model, as serving assigns and flows count it, in one process.

The newest events are played as live traffic. Before each positive one its user asks for a list; when the item is in
it, the event says so, as a click would. So arms differ by how often what somebody took next was in the list.

A second experiment, in a layer of its own, gives half of the users the model as it was in the beginning. What the
shadow says of that one, from lists that the live one ranks, is compared with what it gets where it is served.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec
import numpy as np
from falcon.testing import ASGIConductor

from online_models.evaluation.metrics import Estimate, clustered
from online_models.experiments.arm_sums import merged
from online_models.users.outcomes import is_positive
from online_models.versions.ranking import Ranking
from online_models.versions.shadow import SCALE, Challenger
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
from state.records import Event, Example
from state.registry import Registry
from state.settings import Settings
from state.topics import EVENTS, EXAMPLES, ITEMS, Topic

NAME = "ranking"
CONTROL, TREATMENT = "popularity", "default"
SHADOW, LIVE, PINNED = "shadow", "live", "pinned"
_LIMIT = 20
_WAIT_S = 2.0
_BATCH = 1000
_95 = 1.959964
"""Half width of a 95 % interval in standard errors."""
_QUALITY = {"ndcg10": "NDCG@10", "auc": "AUC", "log_loss": "log loss"}
_encode = msgspec.json.Encoder().encode
_decode_example = msgspec.msgpack.Decoder(Example).decode
Progress = Callable[[int], None]


class _KeptLog(MemoryLog):
    """Remembers the labelled lists."""

    def __init__(self) -> None:
        super().__init__()
        self.examples: list[Example] = []

    def append(self, topic: Topic, key: bytes, value: bytes | None) -> None:
        if topic == EXAMPLES and value is not None:
            self.examples.append(_decode_example(value))
        super().append(topic, key, value)


class Found(NamedTuple):
    """What came of it."""

    arms: experiments.Report
    predicted: dict[str, Estimate]
    """Metric -> what the shadow says of the pinned model on lists that the live one ranks."""
    got: dict[str, Estimate]
    """Metric -> what the pinned model gets on the lists that it ranks."""


async def measure(dataset: Dataset, n_live: int, home: Path, progress: Progress) -> Found:
    """Play a data set, its newest `n_live` events as live traffic, and compare the arms. Raise `BenchError`."""
    settings = Settings(home=home, partitions=1, attribution_wait_s=_WAIT_S, request_budget_ms=60_000)
    store, log = MemoryStore(), _KeptLog()
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
        pinned = (await _posted(client, "/v1/admin/models", {}))["name"]
        for plan in _plans(pinned):
            await _posted(client, "/v1/admin/experiments", plan)
            await _posted(client, f"/v1/admin/experiments/{plan['name']}/start", {})
        for n, event in enumerate(dataset.events(first), 1):
            log.append(EVENTS, event.user_id.encode(), _encode(await _now(client, event)))
            flows.step(_BATCH)
            progress(first + n)
        until = time.monotonic() + 2 * _WAIT_S
        while time.monotonic() < until:  # until lists of which nothing was taken are told, too
            await log.wait(0.1)
            _settle(flows)
    rows = [row for _, row in store.scan_rows(EXPERIMENT_ARMS) if row.experiment == NAME and row.arm]
    sums = {row.arm: merged([row.sums]) for row in rows}
    compared = experiments.of_sums(NAME, sums, 0, experiments.ByDay({}, []), CONTROL)
    shadow = Challenger(Ranking.of(Registry(settings.models_root).get(pinned)), 1.0)
    predicted, got = (_quality(log.examples, arm, shadow) for arm in (LIVE, PINNED))
    return Found(compared, predicted, got)


def report(dataset: str, found: Found) -> Report:
    """Return the lift of the model over popularity, and how far the shadow was right, with their intervals."""
    figures = [*_figures(found.arms), *_shadow_figures(found)]
    return Report(f"{dataset}: {TREATMENT} against {CONTROL}", figures)


def _plans(pinned: str) -> tuple[dict[str, Any], ...]:
    arms = [{"name": CONTROL, "parameters": {"ranker": "popularity"}}, {"name": TREATMENT}]
    models = [{"name": LIVE}, {"name": PINNED, "parameters": {"model": pinned}}]
    return {"name": NAME, "arms": arms}, {"name": SHADOW, "layer": "models", "arms": models}


def _quality(examples: Iterable[Example], arm: str, model: Challenger) -> dict[str, Estimate]:
    """Return how well a model orders what was taken of lists that an arm's model ranked; users are independent."""
    lists: dict[str, Example] = {}
    for example in examples:
        if example.request_id is not None and example.experiments == {NAME: TREATMENT, SHADOW: arm}:
            known = lists.get(example.request_id, example)
            labels = [max(pair) for pair in zip(known.labels, example.labels, strict=True)]
            lists[example.request_id] = msgspec.structs.replace(example, labels=labels)
    found = [
        (example.user_id, quality)
        for example in lists.values()
        if (quality := model.quality(example.features, example.feature_set, example.labels)) is not None
    ]
    users = [user for user, _ in found]
    return {
        metric: clustered(np.array([quality[name] / SCALE for _, quality in found]), users)
        for name, metric in _QUALITY.items()
    }


def _shadow_figures(found: Found) -> Iterator[Figure]:
    for metric, predicted in found.predicted.items():
        got = found.got[metric]
        error = 100 * _95 * math.hypot(predicted.error, got.error)
        difference = 100 * (got.mean - predicted.mean)
        interval = f"95 % interval of the difference: {difference - error:+.1f} to {difference + error:+.1f}"
        yield Figure(f"shadow: {metric} predicted", 100 * predicted.mean, "/ 100", note=f"{predicted.n:,} lists")
        yield Figure(f"served: {metric} got", 100 * got.mean, "/ 100", note=f"{got.n:,} lists; {interval}")


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


async def _posted(client: ASGIConductor, path: str, body: object) -> Any:
    status, answer = await _call(client, "POST", path, body)
    if status >= 400:
        raise BenchError(f"{path}: {answer}")
    return answer


async def _call(
    client: ASGIConductor, method: str, path: str, body: object = None, **params: object
) -> tuple[int, Any]:
    raw = None if body is None else _encode(body)
    answer = await client.simulate_request(method, path, body=raw, params=params or None)
    return answer.status_code, answer.json


def _settle(flows: Flows) -> None:
    while flows.step(_BATCH):
        pass
