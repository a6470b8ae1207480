"""Lists, feedback and events while Redis is slow, lossy or gone and Kafka hangs: latency, and what is answered."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec
from confluent_kafka import Consumer, KafkaException, TopicPartition

from ops.bench.api import BenchError
from ops.bench.fault_proxy import Fault, FaultProxy, fault_proxy
from ops.bench.loadgen import Load, generate
from ops.bench.pausing import frozen
from ops.bench.report import Figure, Report, percentiles
from ops.http_client import Client
from ops.stack.children import Child, environment, free_ports, wait_until
from ops.stack.status import serving_answers
from state.settings import Settings
from state.topics import IMPRESSIONS

_START = timedelta(seconds=60)
_DRAINED = timedelta(seconds=60)
_P95_MS = 100.0
_N_CLIENTS = 10
_N_LOOKED_AT = 100
_N_WRITES = 100
_SHARES = (50, 95, 99)
_TIMEOUT_S = 10.0


class _List(msgspec.Struct):
    items: list[dict[str, object]]
    degraded: dict[str, str] | None = None


class Trial(NamedTuple):
    """One fault."""

    name: str
    fault: Fault
    kafka_hangs: bool = False


TRIALS = (
    Trial("nothing wrong", Fault()),
    Trial("Redis 200 ms late", Fault(delay_s=0.2)),
    Trial("Redis loses 5 % of answers", Fault(loss=0.05)),
    Trial("Redis gone", Fault(gone=True)),
    Trial("Kafka hangs", Fault(), kafka_hangs=True),
    Trial("Redis gone, Kafka hangs", Fault(gone=True), kafka_hangs=True),
)


def measure(settings: Settings, user_ids: list[str], kafka_pid: int, seconds: float) -> Report:
    """Run every trial against a serving process of its own, with one worker. Raise `BenchError` or `LoadError`."""
    redis_port = urlsplit(settings.redis_url).port or 6379
    figures: list[Figure] = []
    with fault_proxy(redis_port) as proxy, _serving(settings, proxy) as base_url:
        for trial in TRIALS:
            before = _n_impressions(settings), asyncio.run(_counted(base_url))
            hanging = [kafka_pid] if trial.kafka_hangs else []
            with frozen(hanging):
                proxy.set(trial.fault)
                figures += _trial(base_url, trial, user_ids, seconds)
                proxy.set(Fault())
            _wait_until_well(base_url)
            figures.append(_delivered(settings, base_url, trial, before))
    return Report(f"Faults: {_N_CLIENTS} clients, one worker", figures)


def _trial(base_url: str, trial: Trial, user_ids: list[str], seconds: float) -> list[Figure]:
    paths = [f"/v1/users/{user_id}/recommendations?limit=20" for user_id in user_ids]
    lists = generate(Load(base_url, paths, _N_CLIENTS, seconds))
    answers = asyncio.run(_look(base_url, paths[:_N_LOOKED_AT]))
    writes, statuses = asyncio.run(_write(base_url, user_ids))
    return [
        *percentiles(f"{trial.name}: lists", lists.latencies_s, {95: _P95_MS}, shares=_SHARES),
        Figure(
            f"{trial.name}: lists refused or failed",
            lists.n_errors,
            f"of {lists.n_requests:,}",
            target=0,
            note=", ".join(f"{n} x {what}" for what, n in answers.most_common()),
        ),
        *percentiles(f"{trial.name}: feedback and events", writes, shares=(95,)),
        Figure(
            f"{trial.name}: writes not taken",
            sum(n for status, n in statuses.items() if status != 202),
            f"of {2 * _N_WRITES}",
            target=0,
        ),
    ]


async def _look(base_url: str, paths: list[str]) -> Counter[str]:
    """Return how many lists were what. Raise `BenchError` for one that is not full."""
    found: Counter[str] = Counter()
    async with Client(base_url) as client:
        for path in paths:
            answer = await client.get(path)
            if answer.status != 200:
                found[f"status {answer.status}"] += 1
                continue
            told = msgspec.json.decode(answer.body, type=_List)
            if len(told.items) < 20:
                raise BenchError(f"{path} has only {len(told.items)} items: {told.degraded}")
            degraded = told.degraded or {}
            found[degraded.get("answer") or ", ".join(sorted(degraded)) or "complete"] += 1
    return found


async def _write(base_url: str, user_ids: list[str]) -> tuple[list[float], Counter[int]]:
    took: list[float] = []
    statuses: Counter[int] = Counter()
    async with Client(base_url) as client:
        for n in range(_N_WRITES):
            user_id = user_ids[n % len(user_ids)]
            click = {"event_id": f"{time.time_ns()}", "type": "view", "user_id": user_id, "item_id": "1"}
            for path, body in (
                (f"/v1/users/{user_id}/feedback", {"type": "save", "item_id": "1"}),
                ("/v1/events", click | {"ts": time.time_ns() // 1_000_000}),
            ):
                started = time.perf_counter()
                statuses[(await client.post(path, msgspec.json.encode(body))).status] += 1
                took.append(time.perf_counter() - started)
    return took, statuses


def _delivered(settings: Settings, base_url: str, trial: Trial, before: tuple[int, dict[str, float]]) -> Figure:
    """Say whether each list's impression is in Kafka, once."""
    then, counted = before
    n_queued = asyncio.run(_counted(base_url))["queued"] - counted["queued"]
    n_dropped = asyncio.run(_counted(base_url))["dropped"] - counted["dropped"]
    arrived = 0

    def all_there() -> bool:
        nonlocal arrived
        arrived = _n_impressions(settings) - then
        return arrived >= n_queued

    wait_until(all_there, _DRAINED)
    return Figure(
        f"{trial.name}: impressions lost or twice",
        abs(n_queued + n_dropped - arrived),
        f"of {int(n_queued + n_dropped):,}",
        target=0,
    )


async def _counted(base_url: str) -> dict[str, float]:
    """Return the serving process's own count of impressions, and what waits for Kafka."""
    async with Client(base_url) as client:
        text = (await client.get("/metrics")).body.decode()

    def total(prefix: str) -> float:
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(prefix))

    return {
        "queued": total('freshet_impressions_total{result="queued"}'),
        "dropped": total('freshet_impressions_total{result="dropped"}'),
    }


def _n_impressions(settings: Settings) -> int:
    """Return how many messages the topic has had. Raise `BenchError` when no broker leads it for long."""
    found: list[int] = []
    reasons = ["it does not answer"]

    def asked() -> bool:
        try:
            found.append(_ask_for_ends(settings))
        except KafkaException as error:  # it stood still, and has lost the lead of its partitions for a moment
            reasons.append(error.args[0].str())
        return bool(found)

    if not wait_until(asked, _DRAINED):
        raise BenchError(f"Kafka does not say how many impressions it has: {reasons[-1]}")
    return found[-1]


def _ask_for_ends(settings: Settings) -> int:
    name = IMPRESSIONS.full_name(settings)
    consumer = Consumer({"bootstrap.servers": settings.kafka_brokers, "group.id": "freshet-bench"})
    try:
        partitions = consumer.list_topics(name, timeout=_TIMEOUT_S).topics[name].partitions
        return sum(
            consumer.get_watermark_offsets(TopicPartition(name, partition), timeout=_TIMEOUT_S)[1]
            for partition in partitions
        )
    finally:
        consumer.close()


def _wait_until_well(base_url: str) -> None:
    async def well() -> bool:
        async with Client(base_url) as client:
            answer = await client.get("/v1/users/nobody/recommendations?limit=20")
            return msgspec.json.decode(answer.body, type=_List).degraded is None

    if not wait_until(lambda: asyncio.run(well()), _START):
        raise BenchError("lists are still degraded after the fault is over")


@contextmanager
def _serving(settings: Settings, proxy: FaultProxy) -> Iterator[str]:
    """Run another serving process of the same system, behind the proxy; yield its address."""
    (port,) = free_ports(1)
    with TemporaryDirectory(prefix="freshet-faults-") as folder:
        chosen = {"redis_url": f"redis://127.0.0.1:{proxy.port}/0", "port": port, "home": Path(folder), "workers": 1}
        own = settings.model_copy(update=chosen)
        argv = [sys.executable, "-m", "serving"]
        with Child("serving", argv, Path(folder) / "log", environment(own)) as process:
            process.wait_until(lambda: serving_answers(own), _START)
            yield f"http://127.0.0.1:{port}"
