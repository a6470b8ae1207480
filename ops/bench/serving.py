"""Requests a second and latency of one serving worker, beside a bare Falcon endpoint behind the same server."""

import asyncio

import confluent_kafka
import msgspec
import numpy as np

from ops.bench.api import BenchError
from ops.bench.loadgen import Load, Result, generate
from ops.bench.report import Figure, Report, percentiles
from ops.http_client import Client
from serving.pipelines.ladder import REPEATED
from state import topics
from state.settings import Settings

_SHARES = (50, 95, 99)
_CLIENTS = (1, 50)
_TARGETS_MS = {95: 50.0}
_ANEW, _REPEATED = "ranked anew", "repeated"
_KINDS = {_ANEW: '"degraded":null', _REPEATED: '"load":"ranked '}
"""What answers contain for which all candidates were scored, and those that load had repeated from a moment ago."""
_TIMEOUT_S = 10.0
_READ_S = 2.0
_N_TAIL = 2000
_N_TIMED = 200


class _Stage(msgspec.Struct):
    stage: str
    n_in: int
    n_out: int


class _Timed(msgspec.Struct):
    timing_ms: dict[str, float]


class _Explained(msgspec.Struct):
    explain: list[_Stage] = []


def measure(base_url: str, user_ids: list[str], ceiling_url: str, seconds: float) -> Report:
    """Ask for 20 items of each user in turn with 1 and with 50 clients. Raise `LoadError`."""
    paths = [f"/v1/users/{user_id}/recommendations?limit=20" for user_id in user_ids]
    figures: list[Figure] = []
    for n_clients in _CLIENTS:
        bare = generate(Load(ceiling_url, ["/"], n_clients, seconds))
        ours = generate(Load(base_url, paths, n_clients, seconds, kinds=_KINDS))
        figures += _figures(n_clients, ours, bare)
    figures += _by_part(asyncio.run(_timings(base_url, paths[:_N_TIMED])))
    stages = asyncio.run(_candidates(base_url, paths[0]))
    return Report(f"Serving: 20 items for a user, one worker ({', '.join(stages)})", figures)


def known_users(settings: Settings, n_users: int) -> list[str]:
    """Return up to `n_users` users of the newest events. Raise `BenchError` when there are none."""
    topic = topics.EVENTS.full_name(settings)
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": settings.kafka_brokers, "group.id": "freshet-bench", "enable.auto.commit": False}
    )
    try:
        partitions = [
            confluent_kafka.TopicPartition(topic, partition)
            for partition in consumer.list_topics(topic, timeout=_TIMEOUT_S).topics[topic].partitions
        ]
        for partition in partitions:
            first, end = consumer.get_watermark_offsets(partition, timeout=_TIMEOUT_S)
            partition.offset = max(first, end - _N_TAIL)
        consumer.assign(partitions)
        keys = [message.key() for message in consumer.consume(_N_TAIL * len(partitions), _READ_S)]
    finally:
        consumer.close()
    users = list(dict.fromkeys(key.decode() for key in keys if key))[:n_users]
    if not users:
        raise BenchError("no events: play traffic into the system first")
    return users


async def _timings(base_url: str, paths: list[str]) -> list[dict[str, float]]:
    """Ask one list after the other; return what each answer tells of its stages, in ms."""
    async with Client(base_url) as client:
        answers = [await client.get(path) for path in paths]
    return [msgspec.json.decode(answer.body, type=_Timed).timing_ms for answer in answers if answer.status == 200]


def _by_part(timings: list[dict[str, float]]) -> list[Figure]:
    """Return the medians over lists of the time in each stage and in all; `user` waits for Redis, others compute."""
    found = {part: float(np.median([timing[part] for timing in timings])) for part in (timings[0] if timings else ())}
    return [Figure(f"alone: {part}", ms, "ms") for part, ms in found.items()]


async def _candidates(base_url: str, path: str) -> list[str]:
    """Return what went through each stage for one list, as the API explains it."""
    async with Client(base_url) as client:
        answer = await client.get(f"{path}&explain=true")
    stages = msgspec.json.decode(answer.body, type=_Explained).explain if answer.status == 200 else []
    return [f"{stage.stage} {stage.n_in} -> {stage.n_out}" for stage in stages]


def _figures(n_clients: int, ours: Result, bare: Result) -> list[Figure]:
    name = f"{n_clients} client{'s' if n_clients > 1 else ''}"
    bare_ms = {
        share: figure.value
        for share, figure in zip(_SHARES, percentiles("", bare.latencies_s, shares=_SHARES), strict=True)
    }
    targets = _TARGETS_MS if n_clients > 1 else {}
    return [
        Figure(
            f"{name}: requests",
            ours.per_second,
            "/s",
            ceiling=bare.per_second,
            note=f"generator used {ours.cpu_share:.0%} of a core (ceiling run: {bare.cpu_share:.0%})",
        ),
        *percentiles(name, ours.latencies_s, targets, bare_ms, _SHARES),
        Figure(f"{name}: errors", ours.n_errors, f"of {ours.n_requests:,}", target=0),
        *_by_kind(name, ours),
    ]


def _by_kind(name: str, ours: Result) -> list[Figure]:
    """Return how many lists were what, and the latency of those that were ranked for their request."""
    of = f"of {ours.n_requests:,}"
    anew, repeated = ours.of_kind_s[_ANEW], ours.of_kind_s[_REPEATED]
    less = ours.n_requests - len(anew) - len(repeated)
    return [
        *percentiles(f"{name}, {_ANEW}:", anew, shares=(95,)),
        Figure(f"{name}: {_ANEW}", len(anew), of),
        Figure(f"{name}: of at most {REPEATED[2]:.0f} s ago, {_REPEATED} for load", len(repeated), of),
        Figure(f"{name}: less, for load or a failure", less, of, target=0),
    ]
